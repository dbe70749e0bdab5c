package verify

import (
	"context"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime"
)

// Node is the comparison of one output of a node, native against ORT.
type Node struct {
	Op     string  `json:"op"`
	Name   string  `json:"name"`
	Output string  `json:"output"`
	Shape  []int64 `json:"shape"`
	Difference
	OK bool `json:"ok"`
}

// Nodes runs a model on the native engine and on ORT with every value in between as an output, and
// compares them in the model's order. Making values outputs keeps engines from fusing the nodes around
// them: a model whose outputs part while no node does parts in a fusion. opts go to ORT; the native
// engine takes its defaults.
func Nodes(ctx context.Context, m *onnxio.Model, in map[string]*onnxio.Tensor, tolerance float64,
	opts ...runtime.Option) ([]Node, error) {
	all, err := exposed(m)
	if err != nil {
		return nil, err
	}
	native, err := values(ctx, all, in, runtime.WithEngine(runtime.Native))
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", runtime.Native, err)
	}
	ort, err := values(ctx, all, in, append(append([]runtime.Option(nil), opts...),
		runtime.WithEngine(runtime.ORT))...)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", runtime.ORT, err)
	}
	var nodes []Node
	for _, n := range all.Graph.Nodes {
		for _, name := range n.Outputs {
			a, b := native[name], ort[name]
			if a == nil && b == nil {
				continue // omitted, or no tensor
			}
			d := Node{Op: n.OpType, Name: n.Name, Output: name}
			if err := d.Add(a, b); err != nil {
				return nil, fmt.Errorf("%s %q, output %q: %w", n.OpType, n.Name, name, err)
			}
			d.Shape, d.OK = a.Dims, d.Within(tolerance)
			nodes = append(nodes, d)
		}
	}
	return nodes, nil
}

// exposed copies a model so that every tensor that a node of the main graph makes is an output.
func exposed(m *onnxio.Model) (*onnxio.Model, error) {
	known, err := infer.Shapes(m)
	if err != nil {
		return nil, err
	}
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Outputs = append([]*onnxio.ValueInfo(nil), g.Outputs...)
	have := map[string]bool{}
	for _, o := range g.Outputs {
		have[o.Name] = true
	}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			if name == "" || have[name] {
				continue
			}
			have[name] = true
			if v := known.ValueInfo(name); v.Type.Elem != onnxio.Undefined &&
				v.Type.Kind == onnxio.TensorType {
				g.Outputs = append(g.Outputs, v)
			}
		}
	}
	g.Values = nil // a value must not be described twice
	return &out, nil
}

func values(ctx context.Context, m *onnxio.Model, in map[string]*onnxio.Tensor,
	opts ...runtime.Option) (map[string]*onnxio.Tensor, error) {
	s, err := runtime.OpenModel(m, opts...)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Run(ctx, in)
}
