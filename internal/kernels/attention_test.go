package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestAttention compares heads with sums of float64: strides, masks, widths that are no whole
// blocks, parts of the queries.
func TestAttention(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for _, d := range [][4]int{{1, 1, 1, 1}, {49, 49, 32, 32}, {197, 197, 64, 64}, {5, 17, 7, 20},
			{30, 16, 48, 16}, {130, 700, 16, 33}} {
			for bits := range 8 {
				s := AttentionSpec{Queries: d[0], Keys: d[1], Depth: d[2], Values: d[3], Scale: 0.5}
				s.QRow, s.VRow, s.YRow = s.Depth+bits, s.Values+2*bits, s.Values+bits
				s.KRow, s.KStep = s.Depth+3, 1
				if bits&1 != 0 {
					s.KRow, s.KStep = 1, s.Keys+bits
				}
				t.Run(fmt.Sprintf("%+v/%d", s, bits), func(t *testing.T) {
					k, err := NewAttention(s)
					if err != nil {
						t.Fatal(err)
					}
					checkAttention(t, r, k, k, 1e-5, bits&2 != 0, bits&4 != 0)
				})
				t.Run(fmt.Sprintf("bf16 %+v/%d", s, bits), func(t *testing.T) {
					k, err := NewAttentionBF16(s)
					if err != nil {
						t.Fatal(err)
					}
					// Of numbers that bf16 has, weights are rounded by 2^-9 of theirs, and values lie below 5.
					checkAttention(t, r, k.Attention, k, 1e-2, bits&2 != 0, bits&4 != 0)
				})
			}
		}
	})
}

// head is planned attention.
type head interface {
	Scratch() int
	Run(scratch, y, q, keys, v, mask []float32, lo, hi int)
}

func checkAttention(t *testing.T, r *rand.Rand, k *Attention, run head, far float64, masked, row bool) {
	s := k.AttentionSpec
	var mask []float32
	if masked {
		rows := 1
		if !row {
			rows, k.MaskRows = s.Queries, true
		}
		given := random(r, rows*s.Keys)
		for i := range given {
			if r.IntN(5) == 0 {
				given[i] = -100
			}
		}
		mask = AlignedSlice(rows * k.Width())
		k.PadMask(mask, given, rows)
	}
	q, v := random(r, s.Queries*s.QRow), random(r, s.Keys*s.VRow)
	keys, y := random(r, s.Keys*s.KRow+s.Depth*s.KStep), guard(s.Queries*s.YRow)
	if _, ok := run.(*AttentionBF16); ok {
		for _, x := range [][]float32{q, keys, v} {
			for i, f := range x {
				x[i] = fromBF16(toBF16(f))
			}
		}
	}
	run.Run(AlignedSlice(run.Scratch()), y.s, q, keys, v, mask, 0, s.Queries/2)
	run.Run(AlignedSlice(run.Scratch()), y.s, q, keys, v, mask, s.Queries/2, s.Queries)
	y.intact(t, "y")
	weights := make([]float64, s.Keys)
	for i := range s.Queries {
		sum := 0.0
		for j := range weights {
			score := 0.0
			for e := range s.Depth {
				score += float64(q[i*s.QRow+e]) * float64(keys[j*s.KRow+e*s.KStep])
			}
			score *= float64(s.Scale)
			if masked {
				score += float64(mask[i%(len(mask)/k.Width())*k.Width()+j])
			}
			weights[j] = math.Exp(score)
			sum += weights[j]
		}
		for f := range s.Values {
			want := 0.0
			for j, w := range weights {
				want += w / sum * float64(v[j*s.VRow+f])
			}
			if got := float64(y.s[i*s.YRow+f]); !(math.Abs(got-want) < far) {
				t.Fatalf("query %d, number %d: %v, want %v", i, f, got, want)
			}
		}
	}
}

// TestAttentionRows compares the routine with its twin, bit by bit: numbers far below the
// largest, infinities, NaN.
func TestAttentionRows(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 4))
		for width := Block; width <= 8*Block; width += Block {
			const rows = 9
			a, b, mask := guard(rows*width), guard(rows*width), random(r, rows*width)
			for i := range mask {
				mask[i] *= 60
				switch r.IntN(40) {
				case 0:
					mask[i] = -inf32
				case 1:
					mask[i] = nan
				}
			}
			for i := range a.s {
				a.s[i] = r.Float32()*4 - 2
			}
			copy(b.s, a.s)
			k := &Attention{AttentionSpec: AttentionSpec{Keys: width, MaskRows: true, Scale: 0.7}, unit: Block}
			k.softmax(a.s, mask, 0, rows)
			attentionRowsGo(b.s, mask, 0.7, width, rows, width)
			a.intact(t, "a")
			for i, v := range a.s {
				if w := b.s[i]; math.Float32bits(v) != math.Float32bits(w) && (v == v || w == w) {
					t.Fatalf("width %d, element %d: %v, the twin's is %v", width, i, v, w)
				}
			}
		}
	})
}

// TestDecayEnds: what is not negligible is normal, also when it has been divided by a sum.
func TestDecayEnds(t *testing.T) {
	if v := decay32(decayEnd); v < 1000*0x1p-126 {
		t.Errorf("%v", v)
	}
	if v := decay32(math.Nextafter32(decayEnd, -100)); v != 0 {
		t.Errorf("%v", v)
	}
}
