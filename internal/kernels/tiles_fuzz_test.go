package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzTiles compares convolutions and products of a random geometry with their definitions and twins.
func FuzzTiles(f *testing.F) {
	for kind := range uint8(4) {
		f.Add(kind, uint64(kind))
	}
	f.Fuzz(func(t *testing.T, kind uint8, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		c := randomConv(r)
		c.n, c.c, c.o = 1+r.IntN(8), 1+r.IntN(140), 1+r.IntN(140)
		for c.n*c.c*c.o*c.h*c.w*c.kh*c.kw > 1<<22 { // the fuzzer gives up after 10 s
			c.c, c.h, c.w = (c.c+1)/2, (c.h+1)/2, (c.w+1)/2
		}
		m, n, k := r.IntN(80), 1+r.IntN(100), 1+r.IntN(200)
		switch kind % 4 {
		case 0:
			checkConvBF16(t, c, r)
		case 1:
			checkGemmBF16(t, GemmBF16Spec{M: m, N: n, K: k, LDA: (k+31)/32*32 + 32*r.IntN(2),
				Float: r.IntN(2) == 0}, r)
		case 2:
			checkConvInt8(t, c, r)
		default:
			checkGemmInt8(t, GemmInt8Spec{M: m, N: n, K: k, LDA: (k+63)/64*64 + r.IntN(90),
				From: drawQuantized(r), To: drawQuantized(r), Sums: r.IntN(2) == 0}, r)
		}
	})
}

// FuzzTileGeometry plans whatever numbers come: a plan is refused, or runs inside of buffers
// of the size that it tells.
func FuzzTileGeometry(f *testing.F) {
	f.Add(int32(1), int32(33), int32(5), int32(7), int32(1), int32(17), int32(5), int32(7), int32(3),
		int32(1), int32(1), int32(1))
	f.Add(int32(2), int32(5), int32(9), int32(4), int32(2), int32(40), int32(3), int32(2), int32(2), int32(3),
		int32(0), int32(2))
	f.Add(int32(1), int32(math.MaxInt32), int32(-1), int32(0), int32(1<<20), int32(1), int32(1<<30), int32(1),
		int32(math.MinInt32), int32(1), int32(1), int32(1))
	f.Fuzz(func(t *testing.T, n, c, h, w, halo, o, oh, ow, k, stride, pad, dil int32) {
		s := ConvBF16Spec{X: LineLayout{int(n), int(c), int(h), int(w), int(halo), BF16Lanes},
			Y: LineLayout{int(n), int(o), int(oh), int(ow), int(halo) / 2, BF16Lanes},
			Window: Window{int(k), 1 + int(k)/2, int(stride), 1 + int(stride)/2, int(pad), int(pad) / 2,
				int(dil), 1 + int(dil)/2}}
		for _, l := range []LineLayout{s.X, s.Y} {
			if l.valid(BF16Lanes) == nil && (l.Size() > 1<<20 || l.planeLines() > 1<<14) {
				t.Skip("a valid map too large for a test")
			}
		}
		for _, plan := range []func(ConvBF16Spec) (*ConvBF16, error){NewConvBF16, NewConvBF16Data} {
			if p, err := plan(s); err == nil && p.WeightSize() < 1<<22 {
				runZeros(t, p)
			}
		}
		if p, err := NewConvBF16Weights(s); err == nil && p.RepackSize() < 1<<22 && p.Sums() < 1<<22 {
			repacked, sums, scratch := guardBF16(p.RepackSize()), guard(p.Sums()), AlignedSlice(p.Scratch())
			for i := range p.RepackChunks() {
				p.Repack(i, repacked.s, AlignedBF16(s.X.Size()), AlignedBF16(s.Y.Size()))
			}
			for i := range p.Chunks() {
				p.Run(i, scratch, sums.s, repacked.s, false)
			}
			repacked.intact(t, "repacked")
			sums.intact(t, "sums")
		}
		for _, v := range []int{int(n), int(c), int(h), int(w)} {
			if v > 1<<12 {
				return
			}
		}
		if g, err := NewGemmBF16(GemmBF16Spec{M: int(n), N: int(c), K: int(h), LDA: int(w)}); err == nil {
			a, b, y, scratch := AlignedBF16(g.M*g.LDA), AlignedBF16(g.PackedSize()), guardBF16(g.M*g.N),
				AlignedSlice(g.Scratch())
			for i := range min(g.Chunks(), 8) {
				g.Run(i, scratch, y.s, a, b, EpilogueBF16{})
			}
			y.intact(t, "c")
		}
	})
}

func runZeros(t *testing.T, p *ConvBF16) {
	x, w, y, scratch := AlignedBF16(p.in.Size()), AlignedBF16(p.WeightSize()), guardBF16(p.out.Size()),
		AlignedSlice(p.Scratch())
	for i := range p.Chunks() {
		p.Run(i, scratch, y.s, x, w, EpilogueBF16{})
	}
	y.intact(t, "y")
	for i, v := range y.s {
		if v != 0 {
			t.Fatalf("value %d is %#x", i, v)
		}
	}
}

func TestTilesRefuse(t *testing.T) {
	l := LineLayout{1, 40, 8, 8, 1, BF16Lanes}
	good := ConvBF16Spec{l, l, Window{3, 3, 1, 1, 1, 1, 1, 1}}
	for name, change := range map[string]func(*ConvBF16Spec){
		"lanes":        func(s *ConvBF16Spec) { s.X.Lanes = Int8Lanes },
		"no halo":      func(s *ConvBF16Spec) { s.X.Halo = 0; s.Y.Halo = 0 },
		"stride 0":     func(s *ConvBF16Spec) { s.StrideW = 0 },
		"no kernel":    func(s *ConvBF16Spec) { s.KH = 0 },
		"batches":      func(s *ConvBF16Spec) { s.Y.N = 2 },
		"pad":          func(s *ConvBF16Spec) { s.PadTop = -1 },
		"large kernel": func(s *ConvBF16Spec) { s.KH = 1 << 20 },
		"large plane":  func(s *ConvBF16Spec) { s.X.H, s.Y.H = 1<<24, 1<<24 },
		"large output": func(s *ConvBF16Spec) { s.Y.H, s.Y.W = 80, 80; s.X.H, s.X.W = 5, 5 },
	} {
		s := good
		change(&s)
		if _, err := NewConvBF16(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := NewConvBF16Data(s); err == nil && name != "large output" {
			t.Errorf("%s: accepted backwards", name)
		}
	}
	for _, s := range []GemmBF16Spec{{M: -1, N: 1, K: 32}, {M: 1, N: 0, K: 32}, {M: 1, N: 1, K: 31},
		{M: 1, N: 1, K: 33, LDA: 63}, {M: 1 << 40, N: 1, K: 32}, {M: 64, N: 1 << 27, K: 32}} {
		if _, err := NewGemmBF16(s); err == nil {
			t.Errorf("%+v: accepted", s)
		}
	}
}
