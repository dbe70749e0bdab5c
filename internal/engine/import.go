package engine

import (
	"fmt"
	"sort"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of a compilation.
type Options struct {
	// Pool runs the plan; nil is the process-wide pool.
	Pool *parallel.Pool
	// Dims binds symbolic dimensions by name: {"N": 32}.
	Dims map[string]int64
	// Shapes gives the shape of an input, before Dims.
	Shapes map[string][]int64
	// Reference keeps to the reference kernels: no fusion, no blocked layouts.
	Reference bool
	// Keep makes the output of every node readable after Run, under its name in the model.
	Keep bool
	// NoWinograd keeps to direct convolutions, whose rounding errors are smaller.
	NoWinograd bool
}

// importModel turns a model into a graph with concrete shapes. params names the initializers that become params instead of
// constants.
func importModel(m *onnxio.Model, opt Options, params map[string]bool) (*graph, error) {
	if m.Graph == nil {
		return nil, &onnxio.FormatError{Format: "onnx", Msg: "the model has no graph"}
	}
	if len(m.Graph.SparseInitializers) > 0 {
		return nil, &onnxio.UnsupportedError{Op: "sparse initializer", Reason: "the engine takes dense tensors"}
	}
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	g := newGraph(m.Opset(""))
	for _, t := range m.Graph.Initializers {
		v, err := g.add(t.Name, constant)
		if err != nil {
			return nil, err
		}
		v.konst, v.dims = t, t.Dims
		v.info = &ops.Value{Type: t.Type, Shape: numbers(t.Dims), HasShape: true, Const: t}
		if params[t.Name] {
			v.kind, v.info.Const = param, nil
		}
	}
	for _, in := range m.Graph.Inputs {
		if g.values[in.Name] != nil {
			continue // an initializer listed among the inputs, as IR version 3 wanted
		}
		v, err := g.add(in.Name, input)
		if err != nil {
			return nil, err
		}
		if err := v.bind(in, opt); err != nil {
			return nil, err
		}
		g.inputs = append(g.inputs, v)
	}
	nodes, err := inlined(m)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Domain, "cnnkit.") {
			return nil, &onnxio.UnsupportedError{Op: n.Domain + "." + n.OpType, Node: n.Name, Reason: "the domain is the compiler's own and cannot stand in a model"}
		}
		o, err := g.make(n, m.Opset(n.Domain))
		if err != nil {
			return nil, err
		}
		if err := g.infer(o); err != nil {
			return nil, err
		}
		g.ops = append(g.ops, o)
	}
	for _, out := range m.Graph.Outputs {
		v := g.values[out.Name]
		if v == nil {
			return nil, &onnxio.FormatError{Format: "onnx", Where: out.Name, Msg: "graph output is not defined by any node"}
		}
		v.output = true
		g.outputs = append(g.outputs, v)
	}
	if opt.Keep {
		for _, o := range g.ops {
			for _, v := range o.out {
				if v != nil && !v.output {
					v.output = true
					g.outputs = append(g.outputs, v)
				}
			}
		}
	}
	g.keep = opt.Keep
	g.index()
	return g, nil
}

func numbers(dims []int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(dims))
	for i, d := range dims {
		out[i].Value = d
	}
	return out
}

// bind gives an input its concrete shape.
func (v *value) bind(in *onnxio.ValueInfo, opt Options) error {
	if in.Type == nil || in.Type.Kind != onnxio.TensorType {
		return &onnxio.UnsupportedError{Op: "graph input", Node: in.Name, Reason: "only tensors are supported as inputs"}
	}
	given, ok := opt.Shapes[in.Name]
	if !ok {
		if !in.Type.HasShape {
			return fmt.Errorf("input %q declares no shape: give one", in.Name)
		}
		for i, d := range in.Type.Shape {
			switch n, bound := opt.Dims[d.Param]; {
			case d.Known():
				given = append(given, d.Value)
			case bound && d.Param != "":
				given = append(given, n)
			default:
				return fmt.Errorf("input %q: dimension %d (%s) has no value", in.Name, i, d.Param)
			}
		}
	} else if err := fits(in, given); err != nil {
		return err
	}
	v.dims = given
	v.info = &ops.Value{Type: in.Type.Elem, Shape: numbers(given), HasShape: true}
	return nil
}

// fits compares a shape given by the caller with the declared one.
func fits(in *onnxio.ValueInfo, given []int64) error {
	if !in.Type.HasShape {
		return nil
	}
	bad := len(given) != len(in.Type.Shape)
	for i := 0; !bad && i < len(given); i++ {
		bad = in.Type.Shape[i].Known() && in.Type.Shape[i].Value != given[i] || given[i] < 0
	}
	if !bad {
		return nil
	}
	return fmt.Errorf("input %q: the model takes %s, not %v", in.Name, shapeText(in.Type.Shape), given)
}

func shapeText(shape []onnxio.Dim) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = fmt.Sprint(d.Value)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// sortedValues lists the values by name: maps have no order, results must.
func (g *graph) sortedValues() []*value {
	out := make([]*value, 0, len(g.values))
	for _, v := range g.values {
		out = append(out, v)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}
