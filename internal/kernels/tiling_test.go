package kernels

import (
	"math/rand/v2"
	"testing"
)

// TestBunchOnce: the blocks of a bunch of images write each of their pixels once, in rows as told.
func TestBunchOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	bunches := 0
	for range 500 {
		c := square(1<<r.IntN(5)*(1+r.IntN(3)), 1+r.IntN(70), 1+r.IntN(20), 1+r.IntN(70), 1+2*r.IntN(2),
			1+r.IntN(2), 0)
		s, ok := c.spec()
		if !ok {
			continue
		}
		s.Y.Halo = r.IntN(2)
		k, err := NewConvBF16(s.bf16(s.X, s.Y))
		if err != nil {
			t.Fatal(err)
		}
		p := &k.passes[0]
		if p.bunch > 1 {
			bunches++
		}
		if c.n%p.bunch > 0 || p.images*p.bunch != c.n {
			t.Fatalf("%v: bunches of %d images", c, p.bunch)
		}
		rowOf := map[int32]int{}
		for image := range p.bunch {
			for h := range k.out.H {
				for w := range k.out.W {
					rowOf[int32(k.out.at(image, 0, h, w)*lineBytes)] = image*k.out.H + h
				}
			}
		}
		for i, place := range p.places {
			if place < 0 {
				continue
			}
			block := i / tileRows / p.m
			row, ok := rowOf[place]
			if !ok || row < p.rows[block] {
				t.Fatalf("%v: block %d, from row %d on, writes at %d, of row %d", c, block, p.rows[block], place, row)
			}
			delete(rowOf, place)
		}
		if len(rowOf) > 0 || p.rows[len(p.rows)-1] != p.bunch*k.out.H {
			t.Fatalf("%v: %d pixels are not written", c, len(rowOf))
		}
	}
	if bunches < 100 {
		t.Errorf("%d convolutions in bunches", bunches)
	}
}
