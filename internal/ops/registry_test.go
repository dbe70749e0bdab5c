package ops

import (
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestSignatures: a version has its own inputs and outputs, in its own order.
func TestSignatures(t *testing.T) {
	names := func(params []Param) string {
		var out []string
		for _, p := range params {
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		op      string
		version int64
		inputs  string
		outputs string
	}{
		{"Slice", 1, "data", "output"},
		{"Slice", 10, "data starts ends axes steps", "output"},
		{"Resize", 10, "X scales", "Y"},
		{"Resize", 11, "X roi scales sizes", "Y"},
		{"Split", 1, "input split", "outputs"},
		{"Split", 2, "input", "outputs"},
		{"Split", 18, "input split", "outputs"},
		{"ReduceMean", 13, "data", "reduced"},
		{"ReduceMean", 18, "data axes", "reduced"},
		{"MaxPool", 1, "X", "Y"},
		{"MaxPool", 8, "X", "Y Indices"},
		{"Tile", 1, "input tiles axis", "output"},
	} {
		d := registry[key{"", c.op}]
		if in, out := names(d.InputsAt(c.version)), names(d.OutputsAt(c.version)); in != c.inputs ||
			out != c.outputs {
			t.Errorf("%s-%d: %s -> %s, want %s -> %s", c.op, c.version, in, out, c.inputs, c.outputs)
		}
	}
}

// TestArity: the inputs of another version are refused, by number and where one is missing.
func TestArity(t *testing.T) {
	for _, c := range []struct {
		op     string
		opset  int64
		inputs string
		want   string
	}{
		{"Clip", 6, "x lo", "2 inputs; Clip-6 takes 1 to 1"},
		{"Clip", 11, "x lo", ""},
		{"Slice", 10, "x lo", "input 2 (ends) is missing"},
		{"Gemm", 9, "x lo", "input 2 (C) is missing"},
		{"Reshape", 5, "x", "input 1 (shape) is missing"},
	} {
		n, err := Bind(&onnxio.Node{OpType: c.op, Inputs: strings.Fields(c.inputs), Outputs: []string{"y"}},
			c.opset)
		if err != nil {
			t.Fatal(err)
		}
		expectError(t, arity(n, []*Value{{Type: onnxio.Float}, {Type: onnxio.Float}}[:len(n.Inputs)], 1),
			c.want)
	}
}

// TestTraits: weights stand at inputs that every version has, and what draws is known.
func TestTraits(t *testing.T) {
	if got := Lookup("ai.onnx", "Conv").Weights; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("weights of Conv: %v", got)
	}
	if Lookup("com.example", "Conv") != nil || Lookup("", "NoSuchOperator") != nil {
		t.Error("Lookup finds what is not there")
	}
	if !Lookup("", "Dropout").Random || Lookup("", "Relu").Random {
		t.Error("Random does not tell Dropout from Relu")
	}
	for name, want := range map[string]Arithmetic{"Add": Sum, "Sub": Difference, "Mul": Product,
		"Div": Quotient, "Pow": 0, "Max": 0} {
		if got := Lookup("", name).Arithmetic; got != want {
			t.Errorf("%s is operation %d, want %d", name, got, want)
		}
	}
	for _, d := range Defs() {
		for _, v := range d.Versions {
			for _, i := range d.Weights {
				if i >= len(d.InputsAt(v)) {
					t.Errorf("%s-%d has no input %d for weights", d.Name, v, i)
				}
			}
		}
	}
}

// expectError fails unless err contains want; "" wants no error.
func expectError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}
