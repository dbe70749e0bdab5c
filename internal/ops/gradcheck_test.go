package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// testGraph is a Graph that runs: one forward node, the nodes its gradient emits, and all values.
type testGraph struct {
	opset  int64
	forw   *Node
	nodes  []*Node
	values map[string]*Value
	data   map[string]*onnxio.Tensor
	next   int
}

func (g *testGraph) name(what string) string {
	g.next++
	return fmt.Sprintf("%s_%d", what, g.next)
}

func (g *testGraph) Value(name string) *Value { return g.values[name] }

func (g *testGraph) Const(t *onnxio.Tensor) string {
	name := g.name("const")
	g.data[name], g.values[name] = t, constValue(t)
	return name
}

func constValue(t *onnxio.Tensor) *Value {
	v := &Value{Type: t.Type, Shape: knownDims(t.Dims), HasShape: true, Const: t}
	return v
}

func (g *testGraph) Save(n *Node, i int) (string, error) {
	for len(n.Outputs) <= i {
		n.Outputs = append(n.Outputs, "")
	}
	if n.Outputs[i] == "" {
		n.Outputs[i] = g.name("saved")
		if err := g.infer(n); err != nil {
			return "", err
		}
	}
	return n.Outputs[i], nil
}

// gradOpset is the opset in which the engine writes gradients, whatever the model's.
const gradOpset = 18

func (g *testGraph) Emit(domain, op string, nOut int, inputs []string, attrs ...*onnxio.Attribute) ([]string,
	error) {
	outputs := make([]string, nOut)
	for i := range outputs {
		outputs[i] = g.name(op)
	}
	n, err := Bind(&onnxio.Node{Name: g.name("node"), OpType: op, Domain: domain, Inputs: inputs,
		Outputs: outputs, Attrs: attrs}, gradOpset)
	if err != nil {
		return nil, err
	}
	g.nodes = append(g.nodes, n)
	return outputs, g.infer(n)
}

func (g *testGraph) infer(n *Node) error {
	c := &Infer{Node: n}
	for _, in := range n.Inputs {
		c.In = append(c.In, g.values[in])
		if in != "" && g.values[in] == nil {
			return fmt.Errorf("%s reads %q, which nothing produces", n, in)
		}
	}
	for _, out := range n.Outputs {
		var v *Value
		if out != "" {
			v = &Value{}
			g.values[out] = v
		}
		c.Out = append(c.Out, v)
	}
	return n.Def.Infer(c)
}

// run evaluates n, into tensors of the inferred shapes so that a shape inferred wrongly is an error.
func (g *testGraph) run(n *Node) error {
	c := &Eval{Node: n, Seed: 7}
	for _, in := range n.Inputs {
		c.In = append(c.In, g.data[in])
	}
	for _, out := range n.Outputs {
		var t *onnxio.Tensor
		if out != "" {
			dims, ok := g.values[out].Dims()
			if !ok && n == g.forw {
				c.Out = append(c.Out, nil) // what depends on data
				continue
			}
			if !ok {
				return fmt.Errorf("%s: shape of %q was not inferred: %+v", n, out, g.values[out])
			}
			t = onnxio.NewTensor(g.values[out].Type, dims...)
			for i := range t.Raw { // what a reused buffer holds
				t.Raw[i] = 0x5a
			}
		}
		c.Out = append(c.Out, t)
	}
	if err := n.Def.Eval(c); err != nil {
		return err
	}
	for i, out := range n.Outputs {
		if out != "" {
			g.data[out] = c.Out[i]
		}
	}
	return nil
}

// gradCase is one operator with inputs, whose gradient checkGrad compares with finite differences.
type gradCase struct {
	name   string // defaults to the operator and the shapes
	op     string
	domain string
	opset  int64 // 0: 21
	attrs  []*onnxio.Attribute
	in     []*onnxio.Tensor // nil where omitted; Double ones are differentiated
	frozen []int            // Double inputs that are not
	outs   int              // outputs, 0: 1
	watch  int              // the output differentiated
	rel    float64          // tolerance, 0: 1e-5
}

// random is a tensor of numbers at least 0.01 from 0 and from each other's kinks, most within [-2,2].
func random(seed uint64, dims ...int64) *onnxio.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	t := onnxio.NewTensor(onnxio.Double, dims...)
	// A shuffled grid: no two equal, none at 0, so that max and relu have no kink within a step.
	data := onnxio.Data[float64](t)
	for i := range data {
		data[i] = (float64(i) + 0.5 - float64(len(data))/2) * 4 / float64(len(data)+1)
		if math.Abs(data[i]) < 1e-3 {
			data[i] = 1e-3
		}
	}
	r.Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
	return t
}

// positive is random, made positive.
func positive(seed uint64, dims ...int64) *onnxio.Tensor {
	t := random(seed, dims...)
	data := onnxio.Data[float64](t)
	for i := range data {
		data[i] = math.Abs(data[i]) + 0.1
	}
	return t
}

func (c *gradCase) title() string {
	if c.name != "" {
		return c.op + "/" + c.name
	}
	var b strings.Builder
	b.WriteString(c.op + "/")
	for i, t := range c.in {
		if i > 0 {
			b.WriteByte(',')
		}
		if t != nil {
			b.WriteString(dimsText(t.Dims))
		}
	}
	for _, a := range c.attrs {
		switch a.Type {
		case onnxio.AttrInt:
			fmt.Fprintf(&b, ",%s=%d", a.Name, a.I)
		case onnxio.AttrInts:
			fmt.Fprintf(&b, ",%s=%s", a.Name, dimsText(a.Ints))
		case onnxio.AttrFloat:
			fmt.Fprintf(&b, ",%s=%g", a.Name, a.F)
		case onnxio.AttrString:
			fmt.Fprintf(&b, ",%s=%s", a.Name, a.S)
		}
	}
	return b.String()
}

// build makes the graph of the case's one node, its inputs bound.
func (c *gradCase) build() (*testGraph, error) {
	opset := c.opset
	if opset == 0 {
		opset = 21
	}
	g := &testGraph{opset: opset, values: map[string]*Value{}, data: map[string]*onnxio.Tensor{}}
	n := &onnxio.Node{Name: "node", OpType: c.op, Domain: c.domain, Attrs: c.attrs}
	for i, t := range c.in {
		if t == nil {
			n.Inputs = append(n.Inputs, "")
			continue
		}
		name := fmt.Sprintf("in%d", i)
		n.Inputs = append(n.Inputs, name)
		g.data[name], g.values[name] = t.Clone(), constValue(t)
		if t.Type == onnxio.Double && !slices.Contains(c.frozen, i) {
			g.values[name].Const = nil
		}
	}
	for i := 0; i < max(c.outs, 1); i++ {
		n.Outputs = append(n.Outputs, fmt.Sprintf("out%d", i))
	}
	var err error
	if g.forw, err = Bind(n, opset); err != nil {
		return nil, err
	}
	return g, g.infer(g.forw)
}

// checkGrad compares the gradient that Def.Grad emits with central differences of
// sum(weights * output), in float64.
func checkGrad(t *testing.T, c gradCase) {
	t.Helper()
	g, err := c.build()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.run(g.forw); err != nil {
		t.Fatal(err)
	}
	out := g.forw.Outputs[c.watch]
	weights := random(99, g.data[out].Dims...)
	grad := &Grad{Graph: g, Node: g.forw, Ins: g.forw.Inputs, Outs: g.forw.Outputs,
		DOut:  make([]string, len(g.forw.Outputs)),
		Wants: make([]bool, len(c.in)), DIn: make([]string, len(c.in))}
	grad.DOut[c.watch] = g.Const(weights)
	g.values[grad.DOut[c.watch]].Const = nil
	for i, in := range c.in {
		grad.Wants[i] = in != nil && in.Type == onnxio.Double && !slices.Contains(c.frozen, i)
	}
	if err := g.forw.Def.Grad(grad); err != nil {
		t.Fatal(err)
	}
	loss := func() float64 {
		if err := g.run(g.forw); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, v := range onnxio.Data[float64](g.data[out]) {
			sum += v * onnxio.Data[float64](weights)[i]
		}
		return sum
	}
	loss() // with the outputs that the gradient has Saved
	for _, n := range g.nodes {
		if err := g.run(n); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.in {
		if grad.Wants[i] {
			compareDifferences(t, &c, g, i, grad.DIn[i], loss)
		}
	}
}

func compareDifferences(t *testing.T, c *gradCase, g *testGraph, i int, din string, loss func() float64) {
	t.Helper()
	x := g.data[fmt.Sprintf("in%d", i)]
	got := make([]float64, x.Size())
	if din != "" {
		d := g.data[din]
		if d.Type != x.Type || !equal(d.Dims, x.Dims) {
			t.Fatalf("gradient of input %d is %v %v, input is %v %v", i, d.Type, d.Dims, x.Type, x.Dims)
		}
		copy(got, onnxio.Data[float64](d))
	}
	rel := c.rel
	if rel == 0 {
		rel = 1e-5
	}
	const h = 1e-5
	data := onnxio.Data[float64](x)
	for k, v := range data {
		data[k] = v + h
		up := loss()
		data[k] = v - h
		down := loss()
		data[k] = v
		want := (up - down) / (2 * h)
		// Rounding of the loss, a sum of order 1 to 100, over 2h is about 1e-9; truncation is of order h*h.
		if diff := math.Abs(got[k] - want); diff > rel*(1+math.Abs(want)) || math.IsNaN(diff) {
			t.Errorf("d/d(input %d)[%d] = %g, differences say %g", i, k, got[k], want)
			return
		}
	}
}

// checkGrads runs a table.
func checkGrads(t *testing.T, cases []gradCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.title(), func(t *testing.T) { checkGrad(t, c) })
	}
}
