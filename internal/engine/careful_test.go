package engine

import (
	"context"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestNaNStaysWhereItIs: one pixel or channel that is no number reaches the outputs that read it and no
// others, whatever the kernels; an output that hides it again is right too.
func TestNaNStaysWhereItIs(t *testing.T) {
	for _, c := range []struct {
		name               string
		in, out, k, groups int64
		behind             string
	}{{"tiles", 32, 32, 3, 1, ""}, {"rows", 32, 32, 5, 1, ""}, {"groups", 24, 24, 3, 3, ""},
		{"lanes", 20, 20, 1, 1, ""},
		{"depthwise", 32, 32, 3, 32, ""}, {"hidden", 32, 32, 3, 1, "IsNaN"},
		{"shrunk", 32, 32, 3, 1, "Shrink"}, {"sign", 32, 32, 3, 1, "Sign"}} {
		for _, v := range []float64{math.NaN(), math.Inf(1)} {
			t.Run(c.name, func(t *testing.T) {
				b := newNet(8, "N", c.in, 12, 12)
				for i := range 2 {
					in := c.in
					if i > 0 {
						in = c.out
					}
					w := b.init("w"+string(rune('0'+i)), b.random(1, c.out, in/c.groups, c.k, c.k))
					b.node("Conv", []string{b.last, w}, onnxio.IntsAttr("pads", c.k/2, c.k/2, c.k/2, c.k/2),
						onnxio.IntAttr("group", c.groups))
				}
				elem := onnxio.Float
				if c.behind != "" {
					b.node(c.behind, []string{b.last})
				}
				if c.behind == "IsNaN" {
					elem = onnxio.Bool
				}
				b.m.Graph.Outputs = []*onnxio.ValueInfo{{Name: b.last, Type: &onnxio.Type{Elem: elem}}}
				x := b.random(1, 1, c.in, 12, 12)
				x.Float32s()[3*144+50] = float32(v)
				var got [3]*onnxio.Tensor
				for i, opt := range []Options{{}, {Reference: true}, {}} {
					p, err := NewProgram(b.m, opt)
					if err != nil {
						t.Fatal(err)
					}
					var lane Lane
					for range i + 1 { // the second run has the plan already
						out, err := p.Run(context.Background(), &lane, []onnxio.Value{x})
						if err != nil {
							t.Fatal(err)
						}
						got[i] = out[0].(*onnxio.Tensor)
					}
				}
				for _, y := range []*onnxio.Tensor{got[0], got[2]} {
					if elem == onnxio.Bool {
						if string(y.Raw) != string(got[1].Raw) {
							t.Error("other elements are NaN")
						}
						continue
					}
					for k, want := range got[1].Float32s() {
						if g := y.Float32s()[k]; isNaN(g) != isNaN(want) ||
							math.IsInf(float64(g), 0) != math.IsInf(float64(want), 0) {
							t.Fatalf("[%d] is %v, want %v", k, g, want)
						}
					}
				}
			})
		}
	}
}
