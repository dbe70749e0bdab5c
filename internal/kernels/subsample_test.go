package kernels

import (
	"math/rand/v2"
	"testing"
)

func TestSubsample(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for _, x := range []LineLayout{{N: 2, C: 70, H: 9, W: 7, Halo: 1, Lanes: BF16Lanes},
		{N: 3, C: 64, H: 4, W: 8, Lanes: Int8Lanes}, {N: 1, C: 700, H: 5, W: 5, Halo: 2, Lanes: Int8Lanes}} {
		for _, stride := range [][2]int{{2, 2}, {1, 3}, {3, 1}, {20, 20}} {
			s, err := NewSubsample(x, stride[0], stride[1])
			if err != nil {
				t.Fatal(err)
			}
			src, dst := randomBytes(r, x.N*x.imageLines()*lineBytes), make([]uint8, s.Out.N*s.Out.imageLines()*lineBytes)
			for chunk := range s.Chunks() {
				s.Run(chunk, dst, src)
			}
			for n := range x.N {
				for b := range x.Blocks() {
					for h := range s.Out.H {
						for w := range s.Out.W {
							got := dst[s.Out.at(n, b, h, w)*lineBytes:][:lineBytes]
							want := src[x.at(n, b, h*stride[0], w*stride[1])*lineBytes:][:lineBytes]
							if string(got) != string(want) {
								t.Fatalf("%+v by %v: pixel %d %d of block %d of image %d", x, stride, h, w, b, n)
							}
						}
					}
				}
			}
		}
	}
	if _, err := NewSubsample(LineLayout{N: 1, C: 3, H: 4, W: 4, Lanes: PixelLanes}, 2, 2); err == nil {
		t.Error("pixels of 4 lanes are no lines")
	}
}
