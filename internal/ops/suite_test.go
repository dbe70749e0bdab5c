package ops

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// suiteExceptions are the conformance cases that do not pass, each with its reason.
var suiteExceptions = map[string]string{
	// The expected masks come from NumPy's generator; the suite's README does not count these.
	"test_training_dropout":              "numpy's random numbers",
	"test_training_dropout_mask":         "numpy's random numbers",
	"test_training_dropout_default":      "numpy's random numbers",
	"test_training_dropout_default_mask": "numpy's random numbers",
	"test_bernoulli":                     "numpy's random numbers",
	"test_bernoulli_double":              "numpy's random numbers",
	"test_bernoulli_expanded":            "numpy's random numbers",
	"test_bernoulli_double_expanded":     "numpy's random numbers",
	// Made when ONNX truncated to bfloat16; it rounds to nearest even since, and so do its newer cases.
	"test_castlike_FLOAT_to_BFLOAT16__CastLike-15": "truncation to bfloat16",
}

// TestSuite runs every ONNX conformance case all of whose operators are registered: inference
// must not contradict the declared output shapes and what kernels make, results must be
// within rtol 1e-3 and atol 1e-7.
func TestSuite(t *testing.T) {
	root := os.Getenv("CNNKIT_ONNX_SUITE")
	if root == "" {
		t.Skip("CNNKIT_ONNX_SUITE is not set")
	}
	models, err := filepath.Glob(filepath.Join(root, "*", "*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no cases under %s: %v", root, err)
	}
	var passed, excepted int
	var failed, foreign []string
	for _, path := range models {
		dir := filepath.Dir(path)
		name := filepath.Base(dir)
		nodes, err := runCase(dir)
		var unsupported *onnxio.UnsupportedError
		_, known := suiteExceptions[name]
		switch {
		case errors.As(err, &unsupported) && unsupported.Reason == noSuchOperator:
			foreign = append(foreign, unsupported.Op)
		case err == nil:
			passed++
		case known:
			excepted++
		default:
			failed = append(failed, name)
			t.Errorf("%s/%s (%s): %v", filepath.Base(filepath.Dir(dir)), name, nodes, err)
		}
	}
	t.Logf("%d passed, %d failed, %d excepted, %d use operators that are not registered: %s",
		passed, len(failed), excepted, len(foreign), tally(foreign))
}

// noSuchOperator is Bind's reason for an operator without a definition.
const noSuchOperator = "no such operator here"

// tally counts equal strings, most frequent first.
func tally(names []string) string {
	count := map[string]int{}
	for _, n := range names {
		count[n]++
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	sort.SliceStable(names, func(i, j int) bool { return count[names[i]] > count[names[j]] })
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%s %d", n, count[n]))
	}
	return strings.Join(out, ", ")
}

// runCase runs one case of the suite and gives its operators for messages.
func runCase(dir string) (operators string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	m, err := onnxio.Load(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return "", err
	}
	var names []string
	var nodes []*Node
	for _, n := range m.Graph.Nodes {
		bound, err := Bind(n, m.Opset(n.Domain))
		if err != nil {
			return "", err
		}
		if bound.Def.Eval == nil { // control flow, which the engine runs
			return "", &onnxio.UnsupportedError{Op: n.OpType, Reason: noSuchOperator}
		}
		nodes = append(nodes, bound)
		names = append(names, n.OpType)
	}
	operators = strings.Join(slices.Compact(names), " ")
	sets, _ := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	for _, set := range sets {
		if err := runDataSet(m, nodes, set); err != nil {
			return operators, fmt.Errorf("%s: %w", filepath.Base(set), err)
		}
	}
	return operators, nil
}

func runDataSet(m *onnxio.Model, nodes []*Node, set string) error {
	data, values := map[string]*onnxio.Tensor{}, map[string]*Value{}
	for _, t := range m.Graph.Initializers {
		data[t.Name], values[t.Name] = t, constValue(t)
	}
	k := 0
	for _, in := range m.Graph.Inputs {
		if m.Graph.Initializer(in.Name) != nil {
			if _, err := os.Stat(filepath.Join(set, fmt.Sprintf("input_%d.pb", k))); err != nil {
				continue
			}
		}
		t, err := readTensor(filepath.Join(set, fmt.Sprintf("input_%d.pb", k)))
		if err != nil {
			return err
		}
		k++
		retype(t, in)
		data[in.Name] = t
		values[in.Name] = &Value{Type: t.Type, Shape: knownDims(t.Dims), HasShape: true}
	}
	for _, n := range nodes {
		if err := runNode(n, data, values); err != nil {
			return err
		}
	}
	for i, out := range m.Graph.Outputs {
		want, err := readTensor(filepath.Join(set, fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			return err
		}
		retype(want, out)
		if v := values[out.Name]; v.HasShape && out.Type != nil && out.Type.HasShape &&
			!agreeAll(v.Shape, out.Type.Shape) {
			return fmt.Errorf("output %s: inferred %s, declared %s", out.Name, shapeText(v.Shape),
				shapeText(out.Type.Shape))
		}
		if err := compareTensors(data[out.Name], want, 1e-3, 1e-7); err != nil {
			return fmt.Errorf("output %s: %w", out.Name, err)
		}
	}
	return nil
}

// retype gives a tensor its declared type where the case holds bfloat16 as uint16, as old ones do.
func retype(t *onnxio.Tensor, v *onnxio.ValueInfo) {
	if t.Type == onnxio.Uint16 && v.Type != nil && v.Type.Elem == onnxio.BFloat16 {
		t.Type = onnxio.BFloat16
	}
}

// runNode infers and evaluates one node. Where inference gives whole shapes the kernel
// has to fill tensors of them.
func runNode(n *Node, data map[string]*onnxio.Tensor, values map[string]*Value) error {
	if n.Def.Check != nil {
		if err := n.Def.Check(n); err != nil {
			return err
		}
	}
	inf, ev := &Infer{Node: n}, &Eval{Node: n, Seed: 1}
	for _, in := range n.Inputs {
		inf.In, ev.In = append(inf.In, values[in]), append(ev.In, data[in])
	}
	for _, out := range n.Outputs {
		var v *Value
		if out != "" {
			v = &Value{}
			values[out] = v
		}
		inf.Out = append(inf.Out, v)
	}
	if err := n.Def.Infer(inf); err != nil {
		return err
	}
	for _, v := range inf.Out {
		var t *onnxio.Tensor
		if dims, ok := v.Dims(); ok && v.Type.Bits() > 0 {
			t = onnxio.NewTensor(v.Type, dims...)
			for i := range t.Raw {
				t.Raw[i] = 0x5a
			}
		}
		ev.Out = append(ev.Out, t)
	}
	if err := n.Def.Eval(ev); err != nil {
		return err
	}
	for i, out := range n.Outputs {
		if out == "" {
			continue
		}
		data[out] = ev.Out[i]
		if v := values[out]; v.HasShape && !agreeAll(v.Shape, knownDims(ev.Out[i].Dims)) {
			return n.Errorf("inferred %s, made %s", shapeText(v.Shape), dimsText(ev.Out[i].Dims))
		}
		if v := values[out]; v.Type != ev.Out[i].Type {
			return n.Errorf("inferred %v, made %v", v.Type, ev.Out[i].Type)
		}
	}
	return nil
}

func readTensor(path string) (*onnxio.Tensor, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return onnxio.DecodeTensor(b)
}

// compareTensors is ONNX's own comparison: same type and shape, floats within rtol and
// atol, everything else equal.
func compareTensors(got, want *onnxio.Tensor, rtol, atol float64) error {
	if got == nil {
		return errors.New("was not made")
	}
	if got.Type != want.Type || !equal(got.Dims, want.Dims) {
		return fmt.Errorf("got %v %s, want %v %s", got.Type, dimsText(got.Dims), want.Type,
			dimsText(want.Dims))
	}
	if want.Type == onnxio.String {
		for i := range want.Strings {
			if string(got.Strings[i]) != string(want.Strings[i]) {
				return fmt.Errorf("[%d]: got %q, want %q", i, got.Strings[i], want.Strings[i])
			}
		}
		return nil
	}
	a, b := testFloats(got), testFloats(want)
	if b == nil {
		if !slices.Equal(got.Raw, want.Raw) {
			return fmt.Errorf("got % x, want % x", got.Raw[:min(32, len(got.Raw))],
				want.Raw[:min(32, len(want.Raw))])
		}
		return nil
	}
	for i, w := range b {
		near := !math.IsInf(w, 0) && math.Abs(a[i]-w) <= atol+rtol*math.Abs(w)
		if g := a[i]; g != w && !near && !(math.IsNaN(g) && math.IsNaN(w)) {
			return fmt.Errorf("[%d]: got %g, want %g", i, g, w)
		}
	}
	return nil
}

// testFloats is a floating tensor in float64, nil for other types.
func testFloats(t *onnxio.Tensor) []float64 {
	out := make([]float64, t.Size())
	for i := range out {
		switch t.Type {
		case onnxio.Float:
			out[i] = float64(onnxio.Data[float32](t)[i])
		case onnxio.Double:
			out[i] = onnxio.Data[float64](t)[i]
		case onnxio.Float16:
			out[i] = testHalf(onnxio.Data[uint16](t)[i])
		case onnxio.BFloat16:
			out[i] = float64(math.Float32frombits(uint32(onnxio.Data[uint16](t)[i]) << 16))
		default:
			return nil
		}
	}
	return out
}

// testHalf decodes an IEEE half, written apart from the code under test.
func testHalf(h uint16) float64 {
	sign := 1.0
	if h>>15 != 0 {
		sign = -1
	}
	exp, frac := int(h>>10&31), float64(h&1023)
	switch {
	case exp == 0:
		return sign * math.Ldexp(frac, -24)
	case exp < 31:
		return sign * math.Ldexp(1024+frac, exp-25)
	case frac == 0:
		return sign * math.Inf(1)
	}
	return math.NaN()
}
