package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// trunk is the frozen part of a training graph: the layers that depend on nothing that a step changes or
// draws. It runs as inference does, once for each batch, and what it gives, the features, are the inputs of
// the head, which is trained.
type trunk struct {
	model    *onnxio.Model       // from the model's input to the features
	features []*onnxio.ValueInfo // inputs of the head; one may be the model's own input
	live     []bool              // by node of the model: it belongs to the head
	free     []bool              // it depends on constants alone, and belongs to both

	weights engine.Weights
	plans   map[string]*engine.Plan
	pool    *parallel.Pool
	bf16    bool
}

// divide parts a training graph of m at the last values that depend on no trained parameter. It gives nil
// where no frozen layer comes before the first trained one.
func divide(m, graph *onnxio.Model, trained []string) (*trunk, error) {
	if slices.ContainsFunc(graph.Graph.Nodes, hasBody) {
		return nil, nil
	}
	known, err := infer.Shapes(graph)
	if err != nil {
		return nil, err
	}
	moves := map[string]bool{TargetName: true, WeightName: true}
	for _, name := range trained {
		moves[name] = true
	}
	input := m.Graph.Inputs[0].Name
	k := &trunk{plans: map[string]*engine.Plan{}, live: make([]bool, len(graph.Graph.Nodes)),
		free: make([]bool, len(graph.Graph.Nodes))}
	for {
		k.mark(graph, input, moves)
		names := k.frontier(graph, input)
		i := slices.IndexFunc(names, func(name string) bool {
			return known.ValueInfo(name).Type.Elem != onnxio.Float
		})
		if i < 0 {
			for _, name := range names {
				k.features = append(k.features, known.ValueInfo(name))
			}
			break
		}
		moves[names[i]] = true // a shape or an index: the head computes it itself
	}
	if !slices.ContainsFunc(k.features, func(v *onnxio.ValueInfo) bool { return v.Name != input }) ||
		!k.layered(m) {
		return nil, nil
	}
	k.model = part(m, func(i int) bool { return !k.live[i] }, m.Graph.Inputs[:1],
		slices.DeleteFunc(slices.Clone(k.features),
			func(v *onnxio.ValueInfo) bool { return v.Name == input }))
	return k, nil
}

func hasBody(n *onnxio.Node) bool {
	return slices.ContainsFunc(n.Attrs, func(a *onnxio.Attribute) bool {
		return a.G != nil || len(a.Graphs) > 0
	})
}

// mark finds the live nodes: those that read what moves, draw at random, or follow one that does.
func (k *trunk) mark(graph *onnxio.Model, input string, moves map[string]bool) {
	live, fed := map[string]bool{}, map[string]bool{input: true, TargetName: true, WeightName: true}
	for i, n := range graph.Graph.Nodes {
		d := ops.Lookup(n.Domain, n.OpType)
		k.live[i] = d == nil || d.Random && !(n.OpType == "Dropout" && !slices.Contains(n.Inputs,
			trainingFlag)) ||
			isBatchNorm(n) && n.Int("training_mode", 0) != 0 ||
			slices.ContainsFunc(n.Inputs, func(name string) bool {
				return live[name] || moves[name] && name != ""
			}) ||
			slices.ContainsFunc(n.Outputs, func(name string) bool { return moves[name] })
		reads := slices.ContainsFunc(n.Inputs, func(name string) bool { return fed[name] })
		k.free[i] = !reads && !k.live[i]
		for _, name := range n.Outputs {
			live[name], fed[name] = k.live[i], reads
		}
	}
}

// frontier lists the values that live nodes read from the others, in the order of the graph.
func (k *trunk) frontier(graph *onnxio.Model, input string) []string {
	given := map[string]bool{input: true}
	for i, n := range graph.Graph.Nodes {
		for _, name := range n.Outputs {
			given[name] = !k.live[i] && !k.free[i]
		}
	}
	var names []string
	for i, n := range graph.Graph.Nodes {
		for _, name := range n.Inputs {
			if k.live[i] && given[name] {
				names, given[name] = append(names, name), false
			}
		}
	}
	return names
}

// layered says whether the trunk has a layer.
func (k *trunk) layered(m *onnxio.Model) bool {
	for i, n := range m.Graph.Nodes {
		if !k.live[i] && weighs(m, n) {
			return true
		}
	}
	return false
}

// part is a model of some nodes of m, with the initializers that they read.
func part(m *onnxio.Model, keep func(i int) bool, inputs, outputs []*onnxio.ValueInfo) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph, out.Metadata = &g, nil
	g.Nodes, g.Inputs, g.Outputs, g.Values, g.Initializers = nil, inputs, outputs, nil, nil
	read := map[string]bool{}
	for i, n := range m.Graph.Nodes {
		if !keep(i) {
			continue
		}
		g.Nodes = append(g.Nodes, n)
		for _, name := range n.Inputs {
			read[name] = true
		}
	}
	for _, t := range m.Graph.Initializers {
		if read[t.Name] {
			g.Initializers = append(g.Initializers, t)
		}
	}
	return &out
}

// head is the rest of m, or of its training graph: from the features on.
func (k *trunk) head(m *onnxio.Model) *onnxio.Model {
	inputs := slices.Clone(k.features)
	for _, v := range m.Graph.Inputs[1:] {
		if m.Graph.Initializer(v.Name) == nil {
			inputs = append(inputs, v)
		}
	}
	out := part(m, func(i int) bool { return k.live[i] || k.free[i] }, inputs, m.Graph.Outputs)
	out.Metadata = m.Metadata
	return out
}

// run gives the features of a batch, by name.
func (k *trunk) run(ctx context.Context, x *onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	input := k.model.Graph.Inputs[0].Name
	key := fmt.Sprint(x.Dims)
	p := k.plans[key]
	if p == nil {
		var err error
		opt := engine.Options{Pool: k.pool, Shapes: map[string][]int64{input: x.Dims}, BF16: k.bf16}
		if p, err = k.weights.Compile(k.model, opt); err != nil {
			return nil, fmt.Errorf("frozen layers: %w", err)
		}
		k.plans[key] = p
	}
	out, err := p.Run(ctx, map[string]*onnxio.Tensor{input: x})
	if err != nil {
		return nil, fmt.Errorf("frozen layers: %w", err)
	}
	if slices.ContainsFunc(k.features, func(v *onnxio.ValueInfo) bool { return v.Name == input }) {
		out[input] = x
	}
	return out, nil
}

// inputs are the training graph's inputs for a batch: the model's own, or the
// features where layers are frozen.
func (t *Trainer) inputs(ctx context.Context, x, target *onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	if t.trunk == nil {
		return map[string]*onnxio.Tensor{t.model.Graph.Inputs[0].Name: x, TargetName: target}, nil
	}
	in, err := t.trunk.run(ctx, x)
	if err != nil {
		return nil, err
	}
	in[TargetName] = target
	return in, nil
}
