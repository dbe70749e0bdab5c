package ops

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// runtimeCase is one case of testdata/ops/quantized.json: a node's results by ONNX Runtime.
type runtimeCase struct {
	Op, Domain string
	Opset      int64
	Attrs      map[string]any
	Inputs     []*runtimeTensor
	Outputs    []*runtimeTensor
}

type runtimeTensor struct {
	Type string
	Dims []int64
	Data []anyNumber
}

// anyNumber is a JSON number, or "nan", "-nan", "inf" or "-inf".
type anyNumber float64

func (n *anyNumber) UnmarshalJSON(b []byte) error {
	if string(b) == `"-nan"` {
		*n = anyNumber(math.Copysign(math.NaN(), -1))
		return nil
	}
	v, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	*n = anyNumber(v)
	return err
}

func runtimeCases(t *testing.T, file string) []runtimeCase {
	t.Helper()
	b, err := os.ReadFile("../../testdata/ops/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all []runtimeCase
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// tensor is the recorded tensor in its own type.
func (r *runtimeTensor) tensor(t *testing.T) *onnxio.Tensor {
	if r == nil {
		return nil
	}
	for typ := onnxio.Float; typ.Valid(); typ++ {
		if typ.String() == r.Type {
			out := onnxio.NewTensor(typ, r.Dims...)
			wide := onnxio.NewTensor(onnxio.Double, r.Dims...)
			for i, v := range r.Data {
				onnxio.Data[float64](wide)[i] = float64(v)
			}
			if err := convert(&Node{Node: &onnxio.Node{}}, out, wide,
				conversion{wrap: true, scale: "nearest"}); err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatalf("type %q", r.Type)
	return nil
}

// node is the recorded node and its inputs.
func (c *runtimeCase) node(t *testing.T) (*onnxio.Node, []*onnxio.Tensor) {
	n := &onnxio.Node{OpType: c.Op, Domain: c.Domain}
	for _, a := range registry[key{c.Domain, c.Op}].Attrs {
		if v, ok := c.Attrs[a.Name]; ok {
			n.Attrs = append(n.Attrs, runtimeAttr(a, v))
		}
	}
	if len(n.Attrs) != len(c.Attrs) {
		t.Fatalf("%s has not all of %v", c.Op, c.Attrs)
	}
	var in []*onnxio.Tensor
	for i, x := range c.Inputs {
		name := ""
		if x != nil {
			name = fmt.Sprint("x", i)
		}
		n.Inputs, in = append(n.Inputs, name), append(in, x.tensor(t))
	}
	for i := range c.Outputs {
		n.Outputs = append(n.Outputs, fmt.Sprint("y", i))
	}
	return n, in
}

func runtimeAttr(d AttrDef, v any) *onnxio.Attribute {
	a := &onnxio.Attribute{Name: d.Name, Type: d.Type}
	switch v := v.(type) {
	case string:
		a.S = []byte(v)
	case float64:
		a.I, a.F = int64(v), float32(v)
	case []any:
		for _, x := range v {
			a.Ints, a.Floats = append(a.Ints, int64(x.(float64))), append(a.Floats, float32(x.(float64)))
		}
	}
	return a
}

// TestRuntimeCases compares quantized and fused operators with ONNX Runtime: levels to the integer.
func TestRuntimeCases(t *testing.T) { checkRuntimeCases(t, "quantized.json") }

// TestQuantizeCases compares QuantizeLinear and DequantizeLinear with the reference implementation of ONNX.
func TestQuantizeCases(t *testing.T) { checkRuntimeCases(t, "quantize.json") }

func checkRuntimeCases(t *testing.T, file string) {
	for i, c := range runtimeCases(t, file) {
		t.Run(fmt.Sprint(c.Op, i), func(t *testing.T) {
			n, in := c.node(t)
			data, values := map[string]*onnxio.Tensor{}, map[string]*Value{}
			for k, name := range n.Inputs {
				if name != "" {
					data[name], values[name] = in[k], constValue(in[k])
				}
			}
			bound, err := Bind(n, c.Opset)
			if err == nil {
				err = runNode(bound, data, values)
			}
			if err != nil {
				t.Fatal(err)
			}
			for k, name := range n.Outputs {
				if err := compareTensors(data[name], c.Outputs[k].tensor(t), 1e-5, 1e-5); err != nil {
					t.Errorf("%v: output %d: %v", c.Attrs, k, err)
				}
			}
		})
	}
}

func TestContribGeluGradients(t *testing.T) {
	checkGrads(t, []gradCase{
		{op: "Gelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 2, 7)}},
		{op: "BiasGelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 2, 3, 5), random(2, 5)}},
		{op: "FastGelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 2, 3, 5), random(2, 5)}},
		{op: "FastGelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 11)}},
		{op: "QuickGelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 2, 7)}},
		{op: "QuickGelu", domain: ContribDomain, in: []*onnxio.Tensor{random(1, 2, 7)},
			attrs: []*onnxio.Attribute{onnxio.FloatAttr("alpha", 0.8)}},
	})
}

// TestNoPanicsNearRuntime changes a thing or two of the recorded nodes, as TestNoPanicsNearValid does.
func TestNoPanicsNearRuntime(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for _, c := range append(runtimeCases(t, "quantized.json"), runtimeCases(t, "quantize.json")...) {
		for i := 0; i < rounds; i++ {
			n, in := c.node(t)
			mutateNode(r, n, in)
			if !attemptNode(t, n, in, c.Opset, r) {
				break
			}
		}
	}
}

// TestFusedMultiplyAdd compares with exact arithmetic.
func TestFusedMultiplyAdd(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	number := func() float32 {
		return math.Float32frombits(r.Uint32()&0x807fffff | uint32(100+r.IntN(56))<<23)
	}
	for range 20000 {
		a, b, c := number(), number(), number()
		exact := new(big.Float).SetPrec(400).SetFloat64(float64(a))
		exact.Mul(exact, new(big.Float).SetFloat64(float64(b)))
		exact.Add(exact, new(big.Float).SetFloat64(float64(c)))
		if want, _ := exact.Float32(); fusedMultiplyAdd(a, b, c) != want {
			t.Fatalf("%g*%g + %g is %g, want %g", a, b, c, fusedMultiplyAdd(a, b, c), want)
		}
	}
	// The sum lies 2^-70 below a tie, which float64 makes a tie.
	u := float32(math.Ldexp(1, -23))
	a, b, c := (1+u)/4096, (1-u)/4096, 1+u
	if got := fusedMultiplyAdd(a, b, c); got != c {
		t.Errorf("got %v, want %v", got, c)
	}
}
