package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func (b *net) list(name string, v ...int64) string { return b.init(name, onnxio.Int64s(v)) }

func (b *net) floats(name string, v ...float32) string {
	return b.init(name, onnxio.Floats(v, int64(len(v))))
}

func init() {
	tokenNets()
	moveNets()
	mapNets()
}

// tokenNets are the layers of transformers, and what brings maps to tokens and back.
func tokenNets() {
	fastNet("attention", 17, func(b *net) {
		x := b.last
		head := func(name string) string {
			w := b.init(name, b.random(0.2, 24, 24))
			h := b.node("Add", []string{b.node("MatMul", []string{x, w}),
				b.init(name+".bias", b.random(1, 24))})
			shape := b.list(name+".shape", 0, 19, 3, 8)
			return b.node("Reshape", []string{h, shape})
		}
		q := b.node("Transpose", []string{head("q")}, onnxio.IntsAttr("perm", 0, 2, 1, 3))
		k := b.node("Transpose", []string{head("k")}, onnxio.IntsAttr("perm", 0, 2, 3, 1))
		v := b.node("Transpose", []string{head("v")}, onnxio.IntsAttr("perm", 0, 2, 1, 3))
		s := b.node("Softmax", []string{b.node("MatMul", []string{q, k})}, onnxio.IntAttr("axis", -1))
		b.node("Transpose", []string{b.node("MatMul", []string{s, v})}, onnxio.IntsAttr("perm", 0, 2, 1, 3))
		b.node("Reshape", []string{b.last, b.list("flat", 0, 19, 24)})
		b.node("Add", []string{b.last, x})
		b.node("LayerNormalization", []string{b.last, b.init("ln.weight", b.random(1, 24)),
			b.init("ln.bias", b.random(1, 24))},
			onnxio.IntAttr("axis", -1))
	}, "N", 19, 24)
	fastNet("products that are broadcast", 17, func(b *net) {
		w := b.init("w", b.random(0.3, 3, 1, 7, 5))
		b.node("MatMul", []string{b.last, w})
		b.node("MatMul", []string{b.init("left", b.random(0.3, 4, 6)), b.last})
		b.node("Relu", []string{b.last})
	}, "N", 1, 2, 6, 7)
	fastNet("normalization of rows", 23, func(b *net) {
		b.node("LayerNormalization", []string{b.last, b.init("a", b.random(1, 5, 21))},
			onnxio.IntAttr("axis", 1), onnxio.FloatAttr("epsilon", 0.01))
		b.node("RMSNormalization", []string{b.last, b.init("b", b.random(1, 21))})
	}, "N", 5, 21)
	for axis := range int64(3) {
		for _, op := range []string{"Softmax", "LogSoftmax"} {
			for _, opset := range []int64{11, 17} {
				fastNet(fmt.Sprintf("%s along %d of opset %d", op, axis, opset), opset, func(b *net) {
					b.node(op, []string{b.last}, onnxio.IntAttr("axis", axis))
				}, "N", 6, 21)
			}
		}
	}
	fastNet("tokens and back", 17, func(b *net) {
		x := b.conv(3, 20, 3, 1, 1)
		b.node("Transpose", []string{x}, onnxio.IntsAttr("perm", 0, 2, 3, 1))
		b.node("LayerNormalization", []string{b.last, b.init("ln.weight", b.random(1, 20)),
			b.init("ln.bias", b.random(1, 20))})
		b.node("MatMul", []string{b.last, b.init("w", b.random(0.2, 20, 20))})
		b.node("Transpose", []string{b.last}, onnxio.IntsAttr("perm", 0, 3, 1, 2))
		b.node("Add", []string{x, b.last})
		b.conv(20, 4, 3, 1, 1)
		b.node("Transpose", []string{b.last}, onnxio.IntsAttr("perm", 0, 3, 1, 2))
	}, "N", 3, 7, 6)
}

// moveNets are the operators that only move numbers.
func moveNets() {
	fastNet("transpositions", 17, func(b *net) {
		for _, perm := range [][]int64{{0, 2, 1, 3}, {3, 1, 0, 2}, {1, 2, 3, 0}, {0, 3, 1, 2}} {
			b.node("Transpose", []string{b.last}, onnxio.IntsAttr("perm", perm...))
		}
		b.node("Transpose", []string{b.last})
	}, "N", 9, 10, 11)
	fastNet("slices", 17, func(b *net) {
		x := b.last
		s := func(name string, start, end, axis, step int64) string {
			return b.node("Slice", []string{b.last, b.list(name+".start", start), b.list(name+".end", end),
				b.list(name+".axis", axis), b.list(name+".step", step)})
		}
		s("a", 1, 9, 1, 2)
		s("b", -7, 1<<31, -1, 3)
		y := b.last
		b.last = x
		s("c", 0, 4, 1, 1)
		s("d", 0, 3, 3, 1)
		b.node("Concat", []string{y, b.last, y}, onnxio.IntAttr("axis", 1))
		b.node("Concat", []string{b.last, b.last}, onnxio.IntAttr("axis", -1))
	}, "N", 9, 5, 11)
	fastNet("parts", 17, func(b *net) {
		b.node("Split", []string{b.last, b.list("sizes", 2, 5, 4)}, onnxio.IntAttr("axis", 2))
		n := b.m.Graph.Nodes[len(b.m.Graph.Nodes)-1]
		n.Outputs = []string{"p", "q", "r"}
		b.node("Concat", []string{"r", "q", "p"}, onnxio.IntAttr("axis", 2))
	}, "N", 5, 11)
	fastNet("padding and expanding", 17, func(b *net) {
		b.node("Pad", []string{b.last, b.list("pads", 0, 1, 2, 0, 0, 3), b.floats("value", 2)})
		b.node("Pad", []string{b.last, b.list("more", 0, 0, 1, 0, 0, 1)})
		b.node("Unsqueeze", []string{b.last, b.list("axes", 2)})
		b.node("Expand", []string{b.last, b.list("shape", 1, 1, 4, 1)})
	}, "N", 5, 6)
	fastNet("gathering", 17, func(b *net) {
		b.node("Gather", []string{b.last, b.list("indices", 3, -1, 0, 3)}, onnxio.IntAttr("axis", 1))
		b.node("Gather", []string{b.last,
			b.init("last", &onnxio.Tensor{Type: onnxio.Int64, Raw: []byte{255, 255, 255, 255, 255, 255,
				255, 255}})},
			onnxio.IntAttr("axis", -1))
	}, "N", 5, 6)
	fastNet("depth and space", 17, func(b *net) {
		b.node("DepthToSpace", []string{b.last}, onnxio.IntAttr("blocksize", 2))
		b.node("SpaceToDepth", []string{b.last}, onnxio.IntAttr("blocksize", 2))
		b.node("DepthToSpace", []string{b.last}, onnxio.IntAttr("blocksize", 2),
			onnxio.StringAttr("mode", "CRD"))
	}, "N", 12, 4, 6)
}

// mapNets are operators over feature maps between convolutions.
func mapNets() {
	between := func(name string, opset int64, f func(b *net)) {
		fastNet(name+" between convolutions", opset, func(b *net) {
			b.conv(3, 20, 3, 1, 1)
			f(b)
			b.conv(20, 4, 3, 1, 1)
		}, "N", 3, 7, 6)
	}
	for _, r := range []struct{ mode, coordinates string }{{"nearest", "asymmetric"},
		{"nearest", "half_pixel"}, {"linear", "half_pixel"},
		{"linear", "align_corners"}, {"cubic", "pytorch_half_pixel"}} {
		for _, scale := range []float32{2, 0.6, 1.7} {
			between(fmt.Sprintf("%s %s resize by %g", r.mode, r.coordinates, scale), 17, func(b *net) {
				b.node("Resize", []string{b.last, "", b.floats("scales", 1, 1, scale, 2)},
					onnxio.StringAttr("mode", r.mode),
					onnxio.StringAttr("coordinate_transformation_mode", r.coordinates))
			})
		}
	}
	between("lrn", 17, func(b *net) {
		b.node("LRN", []string{b.last}, onnxio.IntAttr("size", 5), onnxio.FloatAttr("alpha", 0.3),
			onnxio.FloatAttr("bias", 1.5))
	})
	between("group normalization", 21, func(b *net) {
		b.node("GroupNormalization", []string{b.last, b.init("gn.weight", b.random(1, 20)),
			b.init("gn.bias", b.random(1, 20))}, onnxio.IntAttr("num_groups", 5))
	})
	between("instance normalization", 17, func(b *net) {
		b.node("InstanceNormalization", []string{b.last, b.init("in.weight", b.random(1, 20)),
			b.init("in.bias", b.random(1, 20))})
	})
	fastNet("shuffled channels", 17, func(b *net) { // two units of ShuffleNet v2
		b.conv(3, 40, 3, 1, 1)
		b.shuffle(b.last, 2, 20, 7, 6)
		for _, unit := range []string{"one", "two"} {
			kept, x := b.halves(unit, b.last, 20)
			b.last = x
			b.node("Relu", []string{b.conv(20, 20, 3, 1, 1)})
			b.shuffle(b.node("Concat", []string{kept, b.last}, onnxio.IntAttr("axis", 1)), 2, 20, 7, 6)
		}
		b.conv(40, 4, 1, 1, 0)
	}, "N", 3, 7, 6)
	fastNet("regrouped channels", 17, func(b *net) {
		x := b.conv(3, 21, 3, 1, 1)
		y := b.conv(21, 33, 3, 1, 1)
		axis := onnxio.IntAttr("axis", 1)
		every := b.node("Slice", []string{x, b.list("start", 19), b.list("end", -100), b.list("axes", 1),
			b.list("step", -3)})
		some := b.node("Gather", []string{y, b.list("some", 32, 0, 17, -1, 5, 5)}, axis)
		joined := b.node("Concat", []string{every, x, some}, axis)
		first, second := b.halves("halves", joined, 17)
		b.node("Concat", []string{second, first, b.node("Relu", []string{some})}, axis)
		b.conv(40, 4, 3, 1, 1)
	}, "N", 3, 7, 6)
	fastNet("regrouped plain channels", 17, func(b *net) {
		x := b.shuffle(b.last, 3, 4, 5, 2)
		b.node("Concat", []string{x, b.node("Gather", []string{x, b.list("some", 1, 9, 9)},
			onnxio.IntAttr("axis", 1))}, onnxio.IntAttr("axis", 1))
	}, "N", 12, 5, 2)
	fastNet("means", 17, func(b *net) {
		x := b.conv(3, 20, 3, 1, 1)
		m := b.node("ReduceMean", []string{x}, onnxio.IntsAttr("axes", -1, -2))
		b.node("Mul", []string{x, m})
		b.node("ReduceMean", []string{b.last}, onnxio.IntsAttr("axes", 2, 3), onnxio.IntAttr("keepdims", 0))
		b.node("ReduceMean", []string{b.last}, onnxio.IntsAttr("axes", 1))
	}, "N", 3, 7, 6)
}

// shuffle is the shuffle of groups of each channels of h x w.
func (b *net) shuffle(x string, groups, each, h, w int64) string {
	return b.reshape(b.turn(b.reshape(x, 0, groups, each, h, w), 0, 2, 1, 3, 4), 0, groups*each, h, w)
}

// halves splits the channels of x in two.
func (b *net) halves(name, x string, each int64) (first, second string) {
	b.node("Split", []string{x, b.list(name+".sizes", each, each)}, onnxio.IntAttr("axis", 1))
	first, second = name+".first", name+".second"
	b.m.Graph.Nodes[len(b.m.Graph.Nodes)-1].Outputs = []string{first, second}
	return first, second
}

// TestChannelsAreOneOp: what regroups channels between convolutions is one op for each map that is read, in
// blocks.
func TestChannelsAreOneOp(t *testing.T) {
	for name, want := range map[string]int{"shuffled channels": 4, "regrouped channels": 3} {
		b := fastNets[name]()
		text, err := Dump(b.output(), Options{Dims: map[string]int64{"N": 2}}, layoutPass.name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, "Channels \""); n != want {
			t.Errorf("%s: %d ops, want %d:\n%s", name, n, want, text)
		}
		for _, op := range []string{"Split", "Slice", "Gather", "Transpose", "Reshape", toPlain + " \"c"} {
			if strings.Contains(text, op+" \"") {
				t.Errorf("%s: %s is left:\n%s", name, op, text)
			}
		}
	}
}

// TestNormalizationsTrain compares steps of training through normalizations, and what moves or resizes maps, with
// the reference kernels.
func TestNormalizationsTrain(t *testing.T) {
	for name, f := range map[string]func(b *net){
		"layer": func(b *net) {
			b.node("Flatten", []string{b.last})
			b.node("LayerNormalization", []string{b.last, b.init("n.weight", b.random(1, 720)),
				b.init("n.bias", b.random(1, 720))})
		},
		"layer of tokens": func(b *net) {
			b.node("Transpose", []string{b.last}, onnxio.IntsAttr("perm", 0, 2, 3, 1))
			b.node("LayerNormalization", []string{b.last, b.init("n.weight", b.random(1, 20)),
				b.init("n.bias", b.random(1, 20))})
			b.node("Softmax", []string{b.last})
			b.node("Flatten", []string{b.last})
		},
		"shuffle": func(b *net) {
			x, y := b.halves("halves", b.shuffle(b.last, 4, 5, 6, 6), 10)
			b.node("Concat", []string{y, x}, onnxio.IntAttr("axis", 1))
			b.node("Flatten", []string{b.last})
		},
		"resize": func(b *net) {
			for _, r := range []struct {
				scale float32
				mode  string
			}{{2, "nearest"}, {0.25, "nearest"}, {2.7, "cubic"}, {0.75, "linear"}} {
				b.node("Resize", []string{b.last, "", b.floats(fmt.Sprint("by", r.scale), 1, 1, r.scale, r.scale)},
					onnxio.StringAttr("mode", r.mode))
			}
			b.conv(20, 20, 1, 1, 0)
			b.node("Flatten", []string{b.last})
		},
		"rms": func(b *net) {
			b.node("Flatten", []string{b.last})
			b.node("RMSNormalization", []string{b.last, b.init("n.weight", b.random(1, 720))})
		},
		"group": func(b *net) {
			b.node("GroupNormalization", []string{b.last, b.init("n.weight", b.random(1, 20)),
				b.init("n.bias", b.random(1, 20))}, onnxio.IntAttr("num_groups", 5))
			b.node("Flatten", []string{b.last})
		},
		"instance": func(b *net) {
			b.node("InstanceNormalization", []string{b.last, b.init("n.weight", b.random(1, 20)),
				b.init("n.bias", b.random(1, 20))})
			b.node("Flatten", []string{b.last})
		},
	} {
		t.Run(name, func(t *testing.T) {
			make := func() (*onnxio.Model, *net) {
				b := newNet(79, "N", 3, 6, 6)
				b.m.Opsets[0].Version = 23
				b.conv(3, 20, 3, 1, 1)
				f(b)
				b.linear(720, 10)
				return b.nll(0), b
			}
			_, b := make()
			in := map[string]*onnxio.Tensor{"input": b.random(1, 3, 3, 6, 6), "target": classes(b, 3)}
			var params [2]map[string]*onnxio.Tensor
			for k := range 2 {
				m, b := make()
				_, params[k] = steps(t, m, b, TrainOptions{Reference: k == 1, Update: plainSGD{0.01, 0.5}},
					2, in)
			}
			for name, got := range params[0] {
				if got.Type == onnxio.Float { // no shapes
					near(t, name, got, params[1][name], 1e-3)
				}
			}
			m, b := make()
			tr, err := NewTrainer(m, TrainOptions{Loss: b.last, Update: plainSGD{0.01, 0.5}})
			if err == nil {
				err = tr.Step(context.Background(), in)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range tr.Plan().Steps() {
				if s.Kernel == "reference" {
					t.Errorf("%s of %q runs by the reference kernel", s.Op, s.Name)
				}
			}
		})
	}
}
