package conform

import (
	"errors"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	_ "github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/ort"
)

var update = flag.Bool("update", false, "write the lists of gaps anew")

// pinnedORT is the version for which testdata/ort.txt holds.
const pinnedORT = "1.30.0"

func cases(t *testing.T) []*Case {
	t.Helper()
	root := os.Getenv("CNNKIT_ONNX_SUITE")
	if root == "" {
		t.Skip("CNNKIT_ONNX_SUITE is not set")
	}
	list, err := LoadSuite(root)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNative holds at each kernel level: CNNKIT_CPU chooses it for the process.
func TestNative(t *testing.T) { hold(t, RuntimeEngine(runtime.Native)) }

func TestInference(t *testing.T) { hold(t, Inference()) }

func TestRoundTrip(t *testing.T) { hold(t, RoundTrip()) }

func TestORT(t *testing.T) {
	if testing.Short() {
		t.Skip("does not depend on the kernel level")
	}
	if err := ort.Available(); err != nil {
		t.Skip(err)
	}
	if v, err := ort.Version(); err != nil || v != pinnedORT {
		t.Skipf("the gaps are those of ONNX Runtime %s, not %s (%v)", pinnedORT, v, err)
	}
	hold(t, RuntimeEngine(runtime.ORT))
}

func TestOnnxGo(t *testing.T) {
	if testing.Short() {
		t.Skip("does not depend on the kernel level")
	}
	hold(t, RuntimeEngine(runtime.OnnxGo))
}

// hold runs the suite against an engine, whose failures must be its gaps.
func hold(t *testing.T, e *Engine) {
	path := filepath.Join("testdata", e.Name+".txt")
	gaps, err := ReadGaps(path)
	if err != nil {
		t.Fatal(err)
	}
	r := Judge(cases(t), e, gaps)
	t.Log(r.Table())
	if *update {
		comment := "cases that " + e.Name +
			" does not pass, and why; go test ./internal/conform -update writes the list"
		if err := r.Now.Write(path, comment); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, fault := range r.Faults {
		t.Error(fault)
	}
}

// Judge finds each way in which an engine and its gaps can part.
func TestJudge(t *testing.T) {
	var list []*Case
	for _, name := range []string{"right", "wrong", "known", "mended", "panics", "declined"} {
		list = append(list, &Case{Kind: "node", Name: name, Class: "cnn"})
	}
	e := &Engine{Name: "e", Run: func(c *Case) (err error) {
		defer recovered(&err)
		switch c.Name {
		case "right", "mended":
			return nil
		case "panics":
			panic("ouch")
		case "declined":
			return &onnxio.UnsupportedError{Op: "Zog"}
		}
		return errors.New(`test_data_set_0: output "y": is wrong`)
	}, Declines: func(err error) bool { return errors.As(err, new(*onnxio.UnsupportedError)) }}
	r := Judge(list, e, Gaps{"node/known": "because", "node/mended": "once", "node/gone": "never was",
		"node/panics": "no excuse"})
	want := []string{`node/wrong: test_data_set_0: output "y": is wrong`,
		"node/mended passes and is a gap (once)", "node/panics: panic: ouch",
		"node/gone is a gap and no case"}
	if len(r.Faults) != len(want) {
		t.Fatalf("%q", r.Faults)
	}
	for i, w := range want {
		if !strings.HasPrefix(r.Faults[i], w) {
			t.Errorf("fault %d: %q, want %q", i, r.Faults[i], w)
		}
	}
	if got := *r.Rows[RowCNN]; got != (Score{Cases: 6, Passed: 1, Failed: 3, Gaps: 1, Declined: 1}) {
		t.Errorf("%+v", got)
	}
	if len(r.Now) != 2 || r.Now["node/known"] != "because" || r.Now["node/wrong"] != "output: is wrong" {
		t.Errorf("%q", r.Now)
	}
	path := filepath.Join(t.TempDir(), "gaps.txt")
	if err := r.Now.Write(path, "gaps"); err != nil {
		t.Fatal(err)
	}
	if again, err := ReadGaps(path); err != nil || !maps.Equal(again, r.Now) {
		t.Errorf("%q, %v", again, err)
	}
	for _, bad := range []string{"node/a\n", "node/a\t \n", "node/a\tx\nnode/a\ty\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := ReadGaps(path); err == nil {
			t.Errorf("%q is read as %q", bad, g)
		}
	}
}

func TestRows(t *testing.T) {
	for _, tt := range []struct {
		c    Case
		want string
	}{
		{Case{Kind: "node", Class: "cnn"}, RowCNN},
		{Case{Kind: "node", Class: "cnn", Tags: []string{"exotic-dtype", "quant"}}, RowExotic},
		{Case{Kind: "node-old", Class: "cnn", Tags: []string{"exotic-dtype"}}, RowOld},
		{Case{Kind: "node", Class: "extra"}, RowExtra},
		{Case{Kind: "pytorch-operator", Class: "cnn"}, RowPyTorch},
		{Case{Kind: "simple", Class: "extra"}, RowPyTorch},
	} {
		if got := tt.c.Row(); got != tt.want {
			t.Errorf("%+v is of %q, not %q", tt.c, got, tt.want)
		}
	}
}

func TestCompare(t *testing.T) {
	nan := float32(math.NaN())
	f := func(v ...float32) *onnxio.Tensor { return onnxio.Floats(v) }
	bytes := func(typ onnxio.DataType, v ...uint8) *onnxio.Tensor { return onnxio.FromSlice(typ, v) }
	strs := func(v ...string) *onnxio.Tensor {
		x := onnxio.NewTensor(onnxio.String, int64(len(v)))
		for i, s := range v {
			x.Strings[i] = []byte(s)
		}
		return x
	}
	for _, tt := range []struct {
		name      string
		got, want *onnxio.Tensor
		same      bool
	}{
		{"equal", f(1, nan, 2), f(1, nan, 2), true},
		{"near", f(1.0009), f(1), true},
		{"far", f(1.0011), f(1), false},
		{"NaN is no number", f(nan), f(1), false},
		{"a number is no NaN", f(1), f(nan), false},
		{"infinite", f(float32(math.Inf(1))), f(float32(math.Inf(1))), true},
		{"of the other sign", f(float32(math.Inf(-1))), f(float32(math.Inf(1))), false},
		{"finite", f(1), f(float32(math.Inf(1))), false},
		{"shape", onnxio.Floats([]float32{1}, 1, 1), f(1), false},
		{"type", onnxio.Int64s([]int64{1}), f(1), false},
		{"integers are exact", onnxio.Int64s([]int64{100001}), onnxio.Int64s([]int64{100000}), false},
		{"strings", strs("a", ""), strs("a", ""), true},
		{"other strings", strs("a", "b"), strs("a", "c"), false},
		{"float8", bytes(onnxio.Float8E5M2, 0x7d, 0x3c), bytes(onnxio.Float8E5M2, 0x7f, 0x3c), true},
		{"float8 infinity", bytes(onnxio.Float8E5M2, 0x7c), bytes(onnxio.Float8E5M2, 0x7d), false},
		{"float8 zero", bytes(onnxio.Float8E4M3FNUZ, 0), bytes(onnxio.Float8E4M3FNUZ, 0x80), false},
		{"nothing", nil, f(1), false},
		{"too few bytes", &onnxio.Tensor{Type: onnxio.Float, Dims: []int64{1}}, f(1), false},
	} {
		if err := Compare(tt.got, tt.want); (err == nil) != tt.same {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for typ, values := range map[onnxio.DataType]map[uint8]float64{ // the largest, the smallest, one
		onnxio.Float8E4M3FN:   {0x7e: 448, 0x01: math.Ldexp(1, -9), 0x38: 1, 0xb8: -1},
		onnxio.Float8E4M3FNUZ: {0x7f: 240, 0x01: math.Ldexp(1, -10), 0x40: 1},
		onnxio.Float8E5M2:     {0x7b: 57344, 0x01: math.Ldexp(1, -16), 0x3c: 1},
		onnxio.Float8E5M2FNUZ: {0x7f: 57344, 0x01: math.Ldexp(1, -17), 0x40: 1},
	} {
		for bits, want := range values {
			if got := floats(bytes(typ, bits))[0]; got != want {
				t.Errorf("%v %#x is %g, not %g", typ, bits, got, want)
			}
		}
	}
}

// Only what depends on an input's numbers is free: a shape that nodes compute from constants and shapes is
// not.
func TestDataShaped(t *testing.T) {
	shape := onnxio.Int64s([]int64{-1})
	shape.Name = "flat"
	node := func(op, out string, in ...string) *onnxio.Node {
		return &onnxio.Node{OpType: op, Inputs: in, Outputs: []string{out}}
	}
	m := &onnxio.Model{Graph: &onnxio.Graph{Inputs: []*onnxio.ValueInfo{{Name: "x"}, {Name: "s"}},
		Initializers: []*onnxio.Tensor{shape},
		Nodes: []*onnxio.Node{node("Reshape", "a", "x", "flat"), node("Shape", "b", "x"),
			node("Reshape", "c", "x", "b"),
			node("Reshape", "d", "x", "s"), node("Relu", "e", "d"), node("Shape", "f", "e"),
			node("NonZero", "g", "x"), node("NonZero", "h", "flat")}}}
	free := dataShaped(m)
	for name, want := range map[string]bool{"a": false, "b": false, "c": false, "d": true, "e": true,
		"f": false, "g": true, "h": false} {
		if free[name] != want {
			t.Errorf("%s: %v", name, free[name])
		}
	}
}
