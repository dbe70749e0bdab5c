package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// inferOf infers a node "n" of one output.
func inferOf(t *testing.T, op string, opset int64, in []*Value, attrs ...*onnxio.Attribute) (*Value, error) {
	t.Helper()
	n := &onnxio.Node{OpType: op, Name: "n", Outputs: []string{"y"}, Attrs: attrs}
	for range in {
		n.Inputs = append(n.Inputs, "x")
	}
	b, err := Bind(n, opset)
	if err != nil {
		t.Fatal(err)
	}
	out, err := InferNode(b, in)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// constant is a value known to its elements.
func constant(t *onnxio.Tensor) *Value {
	return &Value{Type: t.Type, Shape: knownDims(t.Dims), HasShape: true, Const: t}
}

// elsewhere is a constant whose elements are in a file that has not been read.
func elsewhere(typ onnxio.DataType, dims ...int64) *Value {
	return constant(&onnxio.Tensor{Type: typ, Dims: dims, External: []onnxio.Property{{Key: "location", Value: "w.bin"}}})
}

// Constants whose elements have not been read are of known shape and unknown value.
func TestInferWithoutData(t *testing.T) {
	ints := func(v ...int64) *Value { return constant(onnxio.Int64s(v, int64(len(v)))) }
	floats := func(v ...float32) *Value { return constant(onnxio.Floats(v, int64(len(v)))) }
	ext := elsewhere(onnxio.Int64, 1)
	tests := []struct {
		name, op string
		in       []*Value
		want     string
	}{
		{"elementwise", "Add", []*Value{elsewhere(onnxio.Float, 3), floats(1, 2, 3)}, "[3]"},
		{"matrix", "MatMul", []*Value{elsewhere(onnxio.Float, 2, 2), elsewhere(onnxio.Float, 2, 2)}, "[2,2]"},
		{"reshape", "Reshape", []*Value{floats(1, 2, 3), ext}, "[?]"},
		{"squeeze", "Squeeze", []*Value{floats(1), ext}, "[]"},
		{"slice", "Slice", []*Value{floats(1, 2, 3), ext, ext}, "[?]"},
		{"gather", "Gather", []*Value{ints(4, 5), ext}, "[1]"},
		{"concat", "Concat", []*Value{ints(4, 5), ext}, "[3]"},
		{"sum", "ReduceSum", []*Value{floats(1, 2), ext}, "[]"},
		{"shape", "ConstantOfShape", []*Value{ext}, "[]"},
		{"short", "Relu", []*Value{constant(&onnxio.Tensor{Type: onnxio.Float, Dims: []int64{3}, Raw: make([]byte, 4)})}, "[3]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var attrs []*onnxio.Attribute
			if tt.op == "Concat" {
				attrs = append(attrs, onnxio.IntAttr("axis", 0))
			}
			y, err := inferOf(t, tt.op, 13, tt.in, attrs...)
			if err != nil {
				t.Fatal(err)
			}
			if got := shapeText(y.Shape); got != tt.want || y.Const != nil {
				t.Errorf("gives %s (constant: %t), not %s", got, y.Const != nil, tt.want)
			}
		})
	}
}

// The value that ConstantOfShape repeats must be there.
func TestConstantOfShapeWithoutData(t *testing.T) {
	for _, v := range []*onnxio.Tensor{elsewhere(onnxio.Float, 1).Const, {Type: onnxio.Float, Dims: []int64{-1, -1}}, {Type: onnxio.Float, Dims: []int64{1}}} {
		a := &onnxio.Attribute{Name: "value", Type: onnxio.AttrTensor, T: v}
		if y, err := inferOf(t, "ConstantOfShape", 9, []*Value{constant(onnxio.Int64s([]int64{4}, 1))}, a); err == nil {
			t.Errorf("value %v gives %+v", v.Dims, y)
		}
		if v.Dims[0] < 0 {
			continue
		}
		if y, err := inferOf(t, "Constant", 13, nil, a); err != nil || y.Const != nil || shapeText(y.Shape) != "[1]" {
			t.Errorf("Constant gives %+v, %v", y, err)
		}
	}
}

// What is random does not become a constant.
func TestRandomIsNotFolded(t *testing.T) {
	x, ratio, training := onnxio.Floats(make([]float32, 8), 8), onnxio.Scalar(onnxio.Float, float32(0.5)), onnxio.Scalar(onnxio.Bool, true)
	y, err := inferOf(t, "Dropout", 13, []*Value{constant(x), constant(ratio), constant(training)})
	if err != nil || y.Const != nil {
		t.Errorf("gives %+v, %v", y, err)
	}
}
