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
	return constant(&onnxio.Tensor{Type: typ, Dims: dims,
		External: []onnxio.Property{{Key: "location", Value: "w.bin"}}})
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
		{"short", "Relu", []*Value{constant(&onnxio.Tensor{Type: onnxio.Float, Dims: []int64{3},
			Raw: make([]byte, 4)})}, "[3]"},
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
	for _, v := range []*onnxio.Tensor{elsewhere(onnxio.Float, 1).Const,
		{Type: onnxio.Float, Dims: []int64{-1, -1}}, {Type: onnxio.Float, Dims: []int64{1}}} {
		a := &onnxio.Attribute{Name: "value", Type: onnxio.AttrTensor, T: v}
		if y, err := inferOf(t, "ConstantOfShape", 9, []*Value{constant(onnxio.Int64s([]int64{4}, 1))},
			a); err == nil {
			t.Errorf("value %v gives %+v", v.Dims, y)
		}
		if v.Dims[0] < 0 {
			continue
		}
		if y, err := inferOf(t, "Constant", 13, nil, a); err != nil || y.Const != nil ||
			shapeText(y.Shape) != "[1]" {
			t.Errorf("Constant gives %+v, %v", y, err)
		}
	}
}

// What is random does not become a constant.
func TestRandomIsNotFolded(t *testing.T) {
	x, ratio, training := onnxio.Floats(make([]float32, 8), 8), onnxio.Scalar(onnxio.Float, float32(0.5)),
		onnxio.Scalar(onnxio.Bool, true)
	y, err := inferOf(t, "Dropout", 13, []*Value{constant(x), constant(ratio), constant(training)})
	if err != nil || y.Const != nil {
		t.Errorf("gives %+v, %v", y, err)
	}
}

// Dimensions that are symbols pass through what exporters compute with shapes.
func TestSymbolsSurvive(t *testing.T) {
	n := onnxio.Dim{Param: "N"}
	dims := func(typ onnxio.DataType, rank int, elems ...onnxio.Dim) *Value {
		v := &Value{Type: typ, HasShape: true, Shape: []onnxio.Dim{}, Elems: elems}
		if rank == 1 {
			v.Shape = []onnxio.Dim{knownDim(int64(len(elems)))}
		}
		return v
	}
	ints := func(v ...int64) *Value { return constant(onnxio.Int64s(v, int64(len(v)))) }
	scalar := func(v int64) *Value { return constant(onnxio.Scalar(onnxio.Int64, v)) }
	i64, f32 := onnxio.Int64, onnxio.Float
	tests := []struct {
		name, op string
		in       []*Value
		attrs    []*onnxio.Attribute
		want     string
	}{
		{"times one", "Mul", []*Value{dims(i64, 1, n), ints(1)}, nil, "[N]"},
		{"one times", "Mul", []*Value{scalar(1), dims(i64, 0, n)}, nil, "[N]"},
		{"plus zero", "Add", []*Value{dims(i64, 1, n, knownDim(3)), scalar(0)}, nil, "[N,3]"},
		{"vector times scalar", "Mul", []*Value{dims(i64, 1, n, knownDim(3)), scalar(2)}, nil, "[?,6]"},
		{"scalar times vector", "Mul", []*Value{dims(i64, 0, knownDim(2)), ints(5, 7)}, nil, "[10,14]"},
		{"by one", "Div", []*Value{dims(i64, 1, n, knownDim(9)), ints(1, 2)}, nil, "[N,4]"},
		{"overflow", "Mul", []*Value{dims(i64, 1, knownDim(1<<62)), ints(4)}, nil, "[?]"},
		{"sum overflow", "Add", []*Value{dims(i64, 1, knownDim(1<<62)), ints(1 << 62)}, nil, "[?]"},
		{"below zero", "Sub", []*Value{dims(i64, 1, knownDim(3), n), ints(4, 0)}, nil, "[?,N]"},
		{"half in floats", "Div", []*Value{dims(f32, 1, knownDim(7)), dims(f32, 1, knownDim(2))}, nil, "[?]"},
		{"to float", "Cast", []*Value{dims(i64, 1, n, knownDim(7))},
			[]*onnxio.Attribute{onnxio.IntAttr("to", int64(f32))}, "[N,7]"},
		{"from float", "Cast", []*Value{dims(f32, 1, n, knownDim(7))},
			[]*onnxio.Attribute{onnxio.IntAttr("to", int64(i64))}, "[N,7]"},
		{"large to float", "Cast", []*Value{dims(i64, 1, knownDim(1<<24+1))},
			[]*onnxio.Attribute{onnxio.IntAttr("to", int64(f32))}, "[]"},
		{"floor", "Floor", []*Value{dims(f32, 1, n)}, nil, "[N]"},
		{"identity", "Identity", []*Value{dims(i64, 1, n)}, nil, "[N]"},
		{"vector", "Reshape", []*Value{dims(i64, 0, n), ints(-1)}, nil, "[N]"},
		{"matrix", "Reshape", []*Value{dims(i64, 1, n, knownDim(3)), ints(1, 2)}, nil, "[]"},
		{"size", "Size", []*Value{{Type: f32, HasShape: true, Shape: []onnxio.Dim{n, knownDim(1)}}},
			nil, "[N]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			y, err := inferOf(t, tt.op, 13, tt.in, tt.attrs...)
			if err != nil {
				t.Fatal(err)
			}
			if got := shapeText(y.Elems); got != tt.want {
				t.Errorf("gives %s, not %s", got, tt.want)
			}
		})
	}
}

// A Slice of all of an axis keeps its name.
func TestSliceOfSymbol(t *testing.T) {
	n := onnxio.Dim{Param: "N"}
	x := &Value{Type: onnxio.Float, HasShape: true, Shape: []onnxio.Dim{n, knownDim(8)}}
	ints := func(v ...int64) *Value { return constant(onnxio.Int64s(v, int64(len(v)))) }
	tests := []struct {
		start, end, step int64
		want             string
	}{
		{0, 1<<63 - 1, 1, "[N,8]"}, {0, 1<<31 - 1, 1, "[N,8]"}, {-1, -1 << 63, -1, "[N,8]"},
		{0, 5, 1, "[?,8]"}, {1, 1<<63 - 1, 1, "[?,8]"}, {0, 1<<63 - 1, 2, "[?,8]"}, {0, -1, 1, "[?,8]"},
	}
	for _, tt := range tests {
		y, err := inferOf(t, "Slice", 13, []*Value{x, ints(tt.start), ints(tt.end), ints(0), ints(tt.step)})
		if err != nil {
			t.Fatal(err)
		}
		if got := shapeText(y.Shape); got != tt.want {
			t.Errorf("[%d:%d:%d] gives %s, not %s", tt.start, tt.end, tt.step, got, tt.want)
		}
	}
}
