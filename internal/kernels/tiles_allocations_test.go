package kernels

import "testing"

// TestTilesAllocate runs every kernel on tiles: none allocates.
func TestTilesAllocate(t *testing.T) {
	l, bytes := LineLayout{1, 40, 9, 9, 1, BF16Lanes}, LineLayout{1, 40, 9, 9, 1, Int8Lanes}
	window := Window{3, 3, 1, 1, 1, 1, 1, 1}
	c, err := NewConvBF16(ConvBF16Spec{l, l, window})
	if err != nil {
		t.Fatal(err)
	}
	x, y, w, scratch := AlignedBF16(l.Size()), AlignedBF16(l.Size()), AlignedBF16(c.WeightSize()),
		AlignedSlice(c.Scratch())
	noAllocations(t, "ConvBF16", func() { c.Run(0, scratch, y, x, w, EpilogueBF16{Residual: x, ReLU: true}) })
	each, err := NewDepthwiseBF16(ConvBF16Spec{l, l, window})
	if err != nil {
		t.Fatal(err)
	}
	more, floats, silu := AlignedBF16(l.Size()), AlignedSlice(each.WeightSize()), NewMap(FuncSwish, 1)
	gate := silu.Gate()
	noAllocations(t, "DepthwiseBF16", func() {
		each.Run(0, y, x, floats, EpilogueBF16{Residual: more, Gate: gate})
	})
	d, err := NewConvBF16Weights(ConvBF16Spec{l, l, window})
	if err != nil {
		t.Fatal(err)
	}
	repacked, sums := AlignedBF16(d.RepackSize()), AlignedSlice(d.Sums())
	noAllocations(t, "Repack", func() { d.Repack(0, repacked, x, y) })
	noAllocations(t, "ConvBF16Weights", func() { d.Run(0, scratch, sums, repacked, false) })
	b, err := NewConvInt8(ConvInt8Spec{X: bytes, Y: bytes, Window: window})
	if err != nil {
		t.Fatal(err)
	}
	from, to, packed := AlignedBytes(bytes.Size()), AlignedBytes(bytes.Size()), AlignedBytes(b.WeightSize())
	e := Requantize{Bias: make([]int32, b.Outputs()), Scale: make([]float32, b.Outputs())}
	noAllocations(t, "ConvInt8", func() { b.Run(0, scratch, to, from, packed, e) })
	onVNNI(func() {
		noAllocations(t, "ConvInt8 without tiles", func() { b.Run(0, scratch, to, from, packed, e) })
	})
	g, err := NewGemmBF16(GemmBF16Spec{M: 20, N: 40, K: 64})
	if err != nil {
		t.Fatal(err)
	}
	p, room := AlignedBF16(g.PackedSize()), AlignedSlice(g.Scratch())
	noAllocations(t, "GemmBF16", func() { g.Run(0, room, y, x, p, EpilogueBF16{}) })
	r, err := NewReorderBF16(l)
	if err != nil {
		t.Fatal(err)
	}
	plain := AlignedSlice(l.C * l.H * l.W)
	noAllocations(t, "ToBF16", func() { r.ToBF16(0, x, plain) })
	noAllocations(t, "FromBF16", func() { r.FromBF16(0, plain, x) })
}
