package convert

import (
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

const batches = ".num_batches_tracked"

// FromModel gives a model's state dict: its parameters and buffers under their initializers' names, in order,
// sharing their bytes. An initializer is one when its type is a float, and an operator takes weights or
// running statistics where it stands, engine.Trainable finds it, or its name is dotted as PyTorch dots names
// ("layer1.0.scale", not "/layer1/Constant" nor "onnx::Mul_3"). A table of int64 under a dotted name is a
// buffer. So Reshape's shapes, Clip's bounds and other constants stay out. Each BatchNormalization whose mean
// is called X.running_mean adds PyTorch's X.num_batches_tracked, an int64 scalar 0.
func FromModel(m *onnxio.Model) (*StateDict, error) {
	if m == nil || m.Graph == nil {
		return nil, malformed("onnx", "", "the model has no graph")
	}
	slots := parameterUses(m.Graph)
	if learned, err := engine.Trainable(m); err == nil { // a class token, a scale under a name without a dot
		for _, name := range learned {
			slots[name] = true
		}
	}
	sd := &StateDict{}
	for _, t := range m.Graph.Initializers {
		table := t != nil && t.Type == onnxio.Int64 && len(t.Dims) > 0 && engine.StateKey(t.Name)
		if t == nil || !table && (!isFloat(t.Type) || !(slots[t.Name] || engine.StateKey(t.Name))) {
			continue
		}
		if sd.Get(t.Name) != nil {
			return nil, malformed("onnx", t.Name, "two initializers of this name")
		}
		sd.Set(t.Name, t)
	}
	trackBatches(m.Graph, sd)
	return sd, sd.check()
}

// trackBatches puts num_batches_tracked after each running_var, where PyTorch has it.
func trackBatches(g *onnxio.Graph, sd *StateDict) {
	norms := map[string]bool{}
	for _, n := range g.Nodes {
		if n != nil && n.OpType == "BatchNormalization" && len(n.Inputs) == 5 {
			if p, ok := strings.CutSuffix(n.Inputs[3], ".running_mean"); ok {
				norms[p] = true
			}
		}
	}
	old := sd.entries
	sd.entries, sd.index = nil, nil
	for _, e := range old {
		sd.Set(e.Name, e.Tensor)
		if p, ok := strings.CutSuffix(e.Name, ".running_var"); ok && norms[p] {
			t := onnxio.Scalar(onnxio.Int64, int64(0))
			t.Name = p + batches
			sd.Set(t.Name, t)
		}
	}
}

// takesWeights says whether an operator's input i is a weight or a running statistic. Of operators that take
// other constants at the same place engine.Trainable decides.
func takesWeights(d *ops.Def, i int) bool {
	return d != nil && len(d.Learned) == 0 && (slices.Contains(d.Weights, i) || slices.Contains(d.Running, i))
}

// parameterUses finds the values that nodes take as parameters, subgraphs included.
func parameterUses(g *onnxio.Graph) map[string]bool {
	used := map[string]bool{}
	seen := map[*onnxio.Graph]bool{}
	for todo := []*onnxio.Graph{g}; len(todo) > 0; {
		g := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if g == nil || seen[g] {
			continue
		}
		seen[g] = true
		for _, n := range g.Nodes {
			if n == nil {
				continue
			}
			for i, in := range n.Inputs {
				used[in] = used[in] || takesWeights(ops.Lookup(n.Domain, n.OpType), i)
			}
			for _, a := range n.Attrs {
				if a != nil {
					todo = append(append(todo, a.G), a.Graphs...)
				}
			}
		}
	}
	return used
}

func isFloat(t onnxio.DataType) bool {
	switch t {
	case onnxio.Float, onnxio.Double, onnxio.Float16, onnxio.BFloat16:
		return true
	}
	return false
}
