package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// fake is a model in which x [N,2] and w [2,3] go through QuantizeLinear and DequantizeLinear before they are
// multiplied, w by one scale for each of its columns. Its output is the loss, the sum of y.
func fake(change func(g *onnxio.Graph)) *onnxio.Model {
	init := func(name string, t *onnxio.Tensor) *onnxio.Tensor {
		t.Name = name
		return t
	}
	node := func(op, to string, in []string, attrs ...*onnxio.Attribute) *onnxio.Node {
		return &onnxio.Node{Name: op + " " + to, OpType: op, Inputs: in, Outputs: []string{to}, Attrs: attrs}
	}
	axis := onnxio.IntAttr("axis", -1)
	g := &onnxio.Graph{Name: "g",
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 2)...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("loss", onnxio.Float, onnxio.Shape()...)},
		Initializers: []*onnxio.Tensor{
			init("w", onnxio.Floats([]float32{0.26, -0.74, 3, 1.01, 0.1, -9}, 2, 3)),
			init("ws", onnxio.Floats([]float32{0.01, 0.5, 0.05}, 3)),
			init("wz", onnxio.NewTensor(onnxio.Int8, 3)),
			init("xs", onnxio.Scalar(onnxio.Float, float32(0.1))),
			init("xz", onnxio.Scalar(onnxio.Uint8, uint8(128)))},
		Nodes: []*onnxio.Node{
			node("QuantizeLinear", "xq", []string{"x", "xs", "xz"}),
			node("DequantizeLinear", "xr", []string{"xq", "xs", "xz"}),
			node("QuantizeLinear", "wq", []string{"w", "ws", "wz"}, axis),
			node("DequantizeLinear", "wr", []string{"wq", "ws", "wz"}, axis),
			node("MatMul", "y", []string{"xr", "wr"}),
			node("ReduceSum", "loss", []string{"y"}, onnxio.IntAttr("keepdims", 0))}}
	if change != nil {
		change(g)
	}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
}

// The gradient passes a rounding where nothing is clipped. Of x = [1.23 100; -0.07 0.3] the 100 is clipped,
// at 12.7; of w the -9 is, at -6.4. d loss/d w[i][j] is the sum of the rounded x[.][i], zero for the clipped
// one.
func TestStraightRounding(t *testing.T) {
	m := fake(nil)
	names, err := Trainable(m)
	if err != nil || !slices.Equal(names, []string{"w"}) {
		t.Fatalf("trainable are %q, %v", names, err)
	}
	if obstacles, err := Obstacles(m); err != nil || len(obstacles) > 0 {
		t.Errorf("in the way: %+v, %v", obstacles, err)
	}
	x := onnxio.Floats([]float32{1.23, 100, -0.07, 0.3}, 2, 2)
	p, err := Compile(m, Options{Shapes: map[string][]int64{"x": x.Dims}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), map[string]*onnxio.Tensor{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	want := out["loss"].Float32s()[0]
	tr, err := NewTrainer(m, TrainOptions{Loss: "loss"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Step(t.Context(), map[string]*onnxio.Tensor{"x": x}); err != nil {
		t.Fatal(err)
	}
	if got := tr.Output("loss").Float32s()[0]; math.Abs(float64(got-want)) > 1e-5 {
		t.Errorf("the loss is %v in training, %v in inference", got, want)
	}
	grad, err := tr.Gradient("w")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{1.1, 1.1, 1.1, 13, 13, 0} {
		if math.Abs(float64(grad.Float32s()[i]-want)) > 1e-5 {
			t.Errorf("the gradient is %v at %d, want %v", grad.Float32s(), i, want)
		}
	}
}

// What is no rounding to bytes and back by one quantization is an obstacle.
func TestOtherRounding(t *testing.T) {
	for name, change := range map[string]func(g *onnxio.Graph){
		"another scale behind it": func(g *onnxio.Graph) { g.Nodes[3].Inputs[1] = "ws2" },
		"zero points that differ": func(g *onnxio.Graph) { g.Initializers[2].Raw[1] = 3 },
		"a scale for each number": func(g *onnxio.Graph) {
			g.Initializers[1] = onnxio.NewTensor(onnxio.Float, 2, 3)
			g.Initializers[1].Name = "ws"
		},
	} {
		m := fake(func(g *onnxio.Graph) {
			other := onnxio.Floats([]float32{0.01, 0.5, 0.06}, 3)
			other.Name = "ws2"
			g.Initializers = append(g.Initializers, other)
			change(g)
		})
		if obstacles, err := Obstacles(m); err != nil || len(obstacles) != 1 ||
			obstacles[0].Node.OpType != "DequantizeLinear" {
			t.Errorf("%s: %+v, %v", name, obstacles, err)
		}
		tr, err := NewTrainer(m, TrainOptions{Loss: "loss"})
		if err != nil {
			t.Fatal(err)
		}
		err = tr.Step(t.Context(), map[string]*onnxio.Tensor{"x": onnxio.NewTensor(onnxio.Float, 1, 2)})
		if err == nil || !strings.Contains(err.Error(), `parameter "w"`) {
			t.Errorf("%s: it trains: %v", name, err)
		}
	}
}
