package ops

import (
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// inferShapes infers a node over float32 inputs of the given shapes; a nil shape is a value of unknown rank.
func inferShapes(t *testing.T, op string, opset int64, attrs []*onnxio.Attribute, outputs int,
	shapes ...[]onnxio.Dim) ([]*Value, error) {
	t.Helper()
	n := &onnxio.Node{Name: "net/layer", OpType: op, Attrs: attrs, Inputs: make([]string, len(shapes)),
		Outputs: make([]string, outputs)}
	for i := range n.Outputs {
		n.Outputs[i] = "out"
	}
	bound, err := Bind(n, opset)
	if err != nil {
		t.Fatal(err)
	}
	c := &Infer{Node: bound}
	for i, s := range shapes {
		typ := onnxio.Float
		if p := bound.param(i); p != nil && !bound.Def.Types[p.Type].Has(typ) {
			typ = onnxio.Int64
		}
		c.In = append(c.In, &Value{Type: typ, Shape: s, HasShape: s != nil})
	}
	for range n.Outputs {
		c.Out = append(c.Out, &Value{})
	}
	return c.Out, bound.Def.Infer(c)
}

// TestInferSymbolic: a symbolic batch passes, what is computed from symbols is
// unknown, unless it cannot change.
func TestInferSymbolic(t *testing.T) {
	shape := onnxio.Shape
	same := ints("pads", 1, 1, 1, 1)
	two := attrsOf(ints("kernel_shape", 2, 2), ints("strides", 2, 2))
	tests := []struct {
		op    string
		attrs []*onnxio.Attribute
		in    [][]onnxio.Dim
		want  string
	}{
		{"Conv", attrsOf(same), [][]onnxio.Dim{shape("N", 3, 32, 32), shape(8, 3, 3, 3)}, "[N,8,32,32]"},
		{"Conv", attrsOf(same), [][]onnxio.Dim{shape("N", 3, "H", "W"), shape(8, 3, 3, 3)}, "[N,8,H,W]"},
		{"Conv", nil, [][]onnxio.Dim{shape("N", 3, "H", 9), shape(8, 3, 3, 3)}, "[N,8,?,7]"},
		{"Conv", attrsOf(ints("kernel_shape", 3, 3)), [][]onnxio.Dim{shape("N", 3, 8, 9), nil}, "[N,?,6,7]"},
		{"Conv", nil, [][]onnxio.Dim{nil, shape(8, 3, 3, 3)}, "?"},
		{"ConvTranspose", attrsOf(ints("strides", 2, 2)), [][]onnxio.Dim{shape("N", 4, 5, "W"),
			shape(4, 2, 2, 2)}, "[N,2,10,?]"},
		{"MaxPool", two, [][]onnxio.Dim{shape("N", "C", 7, "W")}, "[N,C,3,?]"},
		{"AveragePool", two, [][]onnxio.Dim{shape("N", "C", 7, 8)}, "[N,C,3,4]"},
		{"GlobalAveragePool", nil, [][]onnxio.Dim{shape("N", 5, "H", "W")}, "[N,5,1,1]"},
		{"BatchNormalization", nil, [][]onnxio.Dim{shape("N", 5, "H", "W"), shape(5), shape(5), shape(5),
			shape(5)}, "[N,5,H,W]"},
		{"Gemm", attrsOf(onnxio.IntAttr("transB", 1)), [][]onnxio.Dim{shape("N", 5), shape(7, 5), shape(7)},
			"[N,7]"},
		{"MatMul", nil, [][]onnxio.Dim{shape("N", 1, 3, 5), shape(4, 5, "M")}, "[N,4,3,M]"},
		{"MatMul", nil, [][]onnxio.Dim{shape("N", 5), shape(5)}, "[N]"},
		{"LogSoftmax", nil, [][]onnxio.Dim{shape("N", 10)}, "[N,10]"},
		{"NegativeLogLikelihoodLoss", nil, [][]onnxio.Dim{shape("N", 10), shape("N")}, "[]"},
		{"SoftmaxCrossEntropyLoss", attrsOf(onnxio.StringAttr("reduction", "none")),
			[][]onnxio.Dim{shape("N", 10, "H"), shape("N", "H")}, "[N,H]"},
		{"Dropout", nil, [][]onnxio.Dim{shape("N", 10)}, "[N,10]"},
		{"LayerNormalization", nil, [][]onnxio.Dim{shape("N", "L", 10), shape(10)}, "[N,L,10]"},
	}
	for _, c := range tests {
		t.Run(c.op+c.want, func(t *testing.T) {
			out, err := inferShapes(t, c.op, 17, c.attrs, 1, c.in...)
			if err != nil {
				t.Fatal(err)
			}
			got := "?"
			if out[0].HasShape {
				got = shapeText(out[0].Shape)
			}
			if got != c.want || out[0].Type != onnxio.Float {
				t.Errorf("got %v %s, want %s", out[0].Type, got, c.want)
			}
		})
	}
}

// TestInferErrors: errors name the node and what does not fit.
func TestInferErrors(t *testing.T) {
	shape := onnxio.Shape
	tests := []struct {
		op    string
		attrs []*onnxio.Attribute
		in    [][]onnxio.Dim
		want  []string
	}{
		{"Conv", nil, [][]onnxio.Dim{shape("N", 3, 8, 8), shape(8, 4, 3, 3)},
			[]string{"[N,3,8,8]", "[8,4,3,3]"}},
		{"Conv", attrsOf(onnxio.IntAttr("group", 2)), [][]onnxio.Dim{shape(1, 4, 8, 8), shape(3, 2, 3, 3)},
			[]string{"[3,2,3,3]", "2 groups"}},
		{"Conv", attrsOf(onnxio.IntAttr("group", 0)), [][]onnxio.Dim{shape(1, 4, 8, 8), shape(4, 4, 3, 3)},
			[]string{"group 0"}},
		{"Conv", attrsOf(ints("strides", 1, 0)), [][]onnxio.Dim{shape(1, 4, 8, 8), shape(4, 4, 3, 3)},
			[]string{"strides [1,0]"}},
		{"Conv", attrsOf(ints("dilations", -1, 1)), [][]onnxio.Dim{shape(1, 4, 8, 8), shape(4, 4, 3, 3)},
			[]string{"dilations"}},
		{"Conv", attrsOf(ints("kernel_shape", 5, 5)), [][]onnxio.Dim{shape(1, 4, 8, 8), shape(4, 4, 3, 3)},
			[]string{"kernel_shape [5,5]", "[4,4,3,3]"}},
		{"Conv", nil, [][]onnxio.Dim{shape(1, 4, 2, 8), shape(4, 4, 3, 3)},
			[]string{"[1,4,2,8]", "kernel 3"}},
		{"Conv", nil, [][]onnxio.Dim{shape(1, 4, 8, 8), shape(4, 4, 3, 3), shape(5)},
			[]string{"B of shape [5]", "[4]"}},
		{"Conv", attrsOf(onnxio.StringAttr("auto_pad", "SAME")), [][]onnxio.Dim{shape(1, 4, 8, 8),
			shape(4, 4, 3, 3)}, []string{`auto_pad "SAME"`}},
		{"ConvTranspose", nil, [][]onnxio.Dim{shape("N", 3, 8, 8), shape(4, 3, 2, 2)},
			[]string{"[N,3,8,8]", "[4,3,2,2]"}},
		{"MaxPool", attrsOf(ints("kernel_shape", 2)), [][]onnxio.Dim{shape("N", 3, 8, 8)},
			[]string{"kernel_shape [2]"}},
		{"MaxPool", attrsOf(ints("kernel_shape", 0, 2)), [][]onnxio.Dim{shape("N", 3, 8, 8)},
			[]string{"[0,2]"}},
		{"MaxPool", nil, [][]onnxio.Dim{shape("N", 3, 8, 8)}, []string{"kernel_shape"}},
		{"Gemm", nil, [][]onnxio.Dim{shape("N", 800), shape(120, 800)}, []string{"[N,800]", "[120,800]"}},
		{"Gemm", nil, [][]onnxio.Dim{shape("N", 8), shape(8, 5), shape(4)}, []string{"[4]", "[N,5]"}},
		{"MatMul", nil, [][]onnxio.Dim{shape(2, 3), shape(4, 3)}, []string{"[2,3]", "[4,3]"}},
		{"BatchNormalization", nil, [][]onnxio.Dim{shape("N", 5, 2), shape(5), shape(5), shape(4), shape(5)},
			[]string{"input_mean [4]", "[N,5,2]"}},
		{"LogSoftmax", attrsOf(onnxio.IntAttr("axis", 2)), [][]onnxio.Dim{shape("N", 5)}, []string{"axis 2"}},
		{"NegativeLogLikelihoodLoss", nil, [][]onnxio.Dim{shape(4, 10), shape(5)}, []string{"[4,10]", "[5]"}},
		{"NegativeLogLikelihoodLoss", attrsOf(onnxio.StringAttr("reduction", "max")),
			[][]onnxio.Dim{shape(4, 10), shape(4)}, []string{`"max"`}},
	}
	for _, c := range tests {
		t.Run(c.op, func(t *testing.T) {
			_, err := inferShapes(t, c.op, 17, c.attrs, 1, c.in...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range append(c.want, c.op+` "net/layer"`) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not contain %q", err, w)
				}
			}
			if strings.Count(err.Error(), "net/layer") != 1 {
				t.Errorf("%q names the node more than once", err)
			}
		})
	}
}
