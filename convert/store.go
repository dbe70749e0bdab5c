package convert

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Store makes a copy of m whose weights are stored in float16 or bfloat16, half the size: initializers of
// float32 with at least two axes keep their names, and a Cast behind each gives the graph float32 again,
// which engines do once. Vectors, biases and statistics among them, stay as they are, and so does a tensor
// with a number that float16 would make infinite.
func Store(m *onnxio.Model, to onnxio.DataType) (*onnxio.Model, error) {
	if err := storable(to); err != nil {
		return nil, err
	}
	if v := m.Opset(""); to == onnxio.BFloat16 && v < 13 {
		return nil, &onnxio.UnsupportedError{Op: "Cast", Opset: v, Reason: "bfloat16 needs operator set 13"}
	}
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Initializers, g.Nodes = slices.Clone(m.Graph.Initializers), nil
	taken, held := namesOf(m.Graph), heldNames(m.Graph)
	renamed := map[string]string{}
	for i, t := range g.Initializers {
		if held[t.Name] || t.Type != onnxio.Float || len(t.Dims) < 2 || to == onnxio.Float16 && overflows(t) {
			continue
		}
		g.Initializers[i] = narrowed(t, to)
		name := t.Name + "/float32"
		for taken[name] {
			name += "_"
		}
		taken[name], renamed[t.Name] = true, name
		g.Nodes = append(g.Nodes, &onnxio.Node{Name: name, OpType: "Cast", Inputs: []string{t.Name},
			Outputs: []string{name},
			Attrs:   []*onnxio.Attribute{onnxio.IntAttr("to", int64(onnxio.Float))}})
	}
	for _, n := range m.Graph.Nodes {
		c := *n
		c.Inputs = slices.Clone(n.Inputs)
		for i, name := range c.Inputs {
			if now := renamed[name]; now != "" {
				c.Inputs[i] = now
			}
		}
		g.Nodes = append(g.Nodes, &c)
	}
	return &out, nil
}

// Store makes a copy of the state dict whose float32 tensors of at least two axes are float16 or bfloat16.
func (sd *StateDict) Store(to onnxio.DataType) (*StateDict, error) {
	if err := storable(to); err != nil {
		return nil, err
	}
	out := &StateDict{Skipped: sd.Skipped, Notes: sd.Notes, objects: sd.objects}
	for _, e := range sd.entries {
		t := e.Tensor
		if t.Type == onnxio.Float && len(t.Dims) >= 2 && (to != onnxio.Float16 || !overflows(t)) {
			t = narrowed(t, to)
		}
		out.Set(e.Name, t)
	}
	return out, nil
}

func storable(to onnxio.DataType) error {
	if to != onnxio.Float16 && to != onnxio.BFloat16 {
		return fmt.Errorf("weights can be stored in float16 or bfloat16, not in %v", to)
	}
	return nil
}

// overflows reports whether a finite number becomes infinite in float16.
func overflows(t *onnxio.Tensor) bool {
	return slices.ContainsFunc(t.Float32s(), func(v float32) bool {
		return math.Abs(float64(v)) >= 65520 && !math.IsInf(float64(v), 0)
	})
}

// narrowed is t, rounded to nearest even.
func narrowed(t *onnxio.Tensor, to onnxio.DataType) *onnxio.Tensor {
	out := onnxio.NewTensor(to, t.Dims...)
	out.Name = t.Name
	for i, v := range t.Float32s() {
		setFloat(out, i, float64(v))
	}
	return out
}

// namesOf are the names of a graph's values.
func namesOf(g *onnxio.Graph) map[string]bool {
	names := map[string]bool{}
	for _, t := range g.Initializers {
		names[t.Name] = true
	}
	for _, v := range g.Inputs {
		names[v.Name] = true
	}
	for _, n := range g.Nodes {
		for _, name := range slices.Concat(n.Inputs, n.Outputs) {
			names[name] = true
		}
	}
	return names
}

// heldNames are the names whose type the model's callers and its subgraphs see: those of inputs and outputs,
// and all that a subgraph reads.
func heldNames(g *onnxio.Graph) map[string]bool {
	names := map[string]bool{}
	for _, v := range slices.Concat(g.Inputs, g.Outputs) {
		names[v.Name] = true
	}
	var inside func(g *onnxio.Graph)
	inside = func(g *onnxio.Graph) {
		for _, n := range g.Nodes {
			for _, name := range n.Inputs {
				names[name] = true
			}
			eachGraph(n, inside)
		}
		for _, v := range g.Outputs {
			names[v.Name] = true
		}
	}
	for _, n := range g.Nodes {
		eachGraph(n, inside)
	}
	return names
}

func eachGraph(n *onnxio.Node, f func(g *onnxio.Graph)) {
	for _, a := range n.Attrs {
		if a.G != nil {
			f(a.G)
		}
		for _, g := range a.Graphs {
			f(g)
		}
	}
}
