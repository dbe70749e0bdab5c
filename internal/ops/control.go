package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Control flow: If, Loop, Scan, SequenceMap. The engine runs them, since their attributes are graphs; here
// stands what is known of their outputs.

func init() {
	versions := []int64{1, 11, 13, 16, 19, 21, 23, 24, 25}
	any := map[string]TypeSet{"V": All, "B": Bools, "I": Set(onnxio.Int64)}
	variadic := func(name string) Param { return Param{Name: name, Type: "V", Variadic: true} }
	register(
		&Def{Name: "If", Versions: versions, Attrs: []AttrDef{graphA("then_branch").required(),
			graphA("else_branch").required()},
			Inputs: []Param{{Name: "cond", Type: "B"}}, Outputs: []Param{variadic("outputs")}, Types: any,
			Infer: inferIf},
		&Def{Name: "Loop", Versions: versions, Attrs: []AttrDef{graphA("body").required()},
			Inputs: []Param{{Name: "M", Type: "I", Optional: true}, {Name: "cond", Type: "B", Optional: true},
				{Name: "v_initial", Type: "V", Optional: true, Variadic: true}},
			Outputs: []Param{variadic("v_final_and_scan_outputs")}, Types: any, Infer: inferLoop},
		&Def{Name: "Scan", Versions: []int64{8, 9, 11, 16, 19, 21, 23, 24, 25},
			Attrs: []AttrDef{graphA("body").required(), intA("num_scan_inputs").required(),
				intsA("directions").until(8),
				intsA("scan_input_axes").since(9), intsA("scan_input_directions").since(9),
				intsA("scan_output_axes").since(9),
				intsA("scan_output_directions").since(9)},
			Inputs: []Param{{Name: "sequence_lens", Type: "I", Optional: true, Until: 8},
				{Name: "initial_state_and_scan_inputs", Type: "V", Optional: true, Variadic: true}},
			Outputs: []Param{variadic("final_state_and_scan_outputs")}, Types: any, Infer: inferScan},
		&Def{Name: "SequenceMap", Versions: []int64{17}, Attrs: []AttrDef{graphA("body").required()},
			Inputs: []Param{{Name: "input_sequence", Type: "V"}, {Name: "additional_inputs", Type: "V",
				Optional: true, Variadic: true}},
			Outputs: []Param{variadic("out_sequence")}, Types: any, Infer: inferSequenceMap},
	)
}

func graphA(name string) AttrDef { return AttrDef{Name: name, Type: onnxio.AttrGraph} }

// bodyOf is a graph attribute; nil when it is absent.
func bodyOf(n *Node, name string) *onnxio.Graph {
	if a := n.Attr(name); a != nil {
		return a.G
	}
	return nil
}

// declared is what a subgraph says of its output i: its type, and its shape where that is declared.
func declared(g *onnxio.Graph, i int) *Value {
	if g == nil || i >= len(g.Outputs) || g.Outputs[i] == nil || g.Outputs[i].Type == nil {
		return &Value{}
	}
	t := g.Outputs[i].Type
	if t.Kind != onnxio.TensorType {
		return &Value{Kind: t}
	}
	v := &Value{Type: t.Elem, Shape: t.Shape, HasShape: t.HasShape}
	return v
}

// become gives output i what v says.
func (c *Infer) become(i int, v *Value) {
	if i < len(c.Out) && c.Out[i] != nil {
		*c.Out[i] = Value{Type: v.Type, Shape: v.Shape, HasShape: v.HasShape, Kind: v.Kind}
	}
}

// either is what is true of both a and b.
func either(a, b *Value) *Value {
	switch {
	case a.Kind != nil:
		return &Value{Kind: a.Kind}
	case a.Type != b.Type:
		return &Value{}
	case !a.HasShape || !b.HasShape || len(a.Shape) != len(b.Shape):
		return &Value{Type: a.Type}
	}
	out := &Value{Type: a.Type, HasShape: true, Shape: make([]onnxio.Dim, len(a.Shape))}
	for i := range out.Shape {
		if out.Shape[i] = a.Shape[i]; a.Shape[i] != b.Shape[i] {
			out.Shape[i] = onnxio.Dim{Value: -1}
		}
	}
	return out
}

func inferIf(c *Infer) error {
	for i := range c.Out {
		c.become(i, either(declared(bodyOf(c.Node, "then_branch"), i),
			declared(bodyOf(c.Node, "else_branch"), i)))
	}
	return nil
}

// inferLoop: carried values may change their shape from one iteration to the next, unless the body declares
// it; what an iteration gives to scan is stacked.
func inferLoop(c *Infer) error {
	body := bodyOf(c.Node, "body")
	carried := max(0, len(c.In)-2)
	for i := range c.Out {
		v := declared(body, i+1)
		if i >= carried {
			stacked(v, onnxio.Dim{Value: -1}, 0)
		} else if v.Kind == nil && v.Type == onnxio.Undefined && c.Has(i+2) {
			v = &Value{Type: c.In[i+2].Type, Kind: c.In[i+2].Kind}
		}
		c.become(i, v)
	}
	return nil
}

// stacked puts a dimension in front of axis.
func stacked(v *Value, d onnxio.Dim, axis int) {
	if v.HasShape && axis >= 0 && axis <= len(v.Shape) {
		v.Shape = append(append(append([]onnxio.Dim{}, v.Shape[:axis]...), d), v.Shape[axis:]...)
	} else {
		v.HasShape = false
	}
}

// inferScan: states keep what the body declares; scanned outputs are stacked along an axis, as
// long as the scanned inputs.
func inferScan(c *Infer) error {
	body := bodyOf(c.Node, "body")
	scans := int(c.Node.Int("num_scan_inputs", 0))
	in := c.In
	if c.Node.Since == 8 && len(in) > 0 {
		in = in[1:]
	}
	states := len(in) - scans
	if scans < 1 || states < 0 {
		return c.Node.Errorf("num_scan_inputs is %d of %d inputs", scans, len(in))
	}
	for i := range c.Out {
		v := declared(body, i)
		switch {
		case c.Node.Since == 8:
			v.HasShape = false
			if i < states && in[i] != nil {
				v.Shape, v.HasShape = in[i].Shape, in[i].HasShape
			}
		case i < states:
			if !v.HasShape && in[i] != nil {
				v.Shape, v.HasShape = in[i].Shape, in[i].HasShape
			}
		default:
			axis := elementOf(c.Node.Ints("scan_output_axes"), i-states)
			if rank := int64(len(v.Shape)) + 1; axis < 0 {
				axis += rank
			}
			stacked(v, scanLength(c, in[states:]), int(axis))
		}
		c.become(i, v)
	}
	return nil
}

// elementOf is element i of a list, 0 beyond its end.
func elementOf(list []int64, i int) int64 {
	if i < len(list) {
		return list[i]
	}
	return 0
}

// scanLength is the extent of the first scanned input along its axis.
func scanLength(c *Infer, scanned []*Value) onnxio.Dim {
	if v := scanned[0]; v != nil && v.HasShape {
		axis := elementOf(c.Node.Ints("scan_input_axes"), 0)
		if axis < 0 {
			axis += int64(len(v.Shape))
		}
		if axis >= 0 && axis < int64(len(v.Shape)) {
			return v.Shape[axis]
		}
	}
	return onnxio.Dim{Value: -1}
}

func inferSequenceMap(c *Infer) error {
	body := bodyOf(c.Node, "body")
	for i := range c.Out {
		v := declared(body, i)
		c.become(i, sequenceOf(&onnxio.Type{Elem: v.Type, Shape: v.Shape, HasShape: v.HasShape}))
	}
	return nil
}

// sequenceOf is what is known of a sequence of values of type t.
func sequenceOf(t *onnxio.Type) *Value {
	return &Value{Kind: &onnxio.Type{Kind: onnxio.SequenceType, Of: t}}
}

// optionalOf is what is known of an optional of type t.
func optionalOf(t *onnxio.Type) *Value {
	return &Value{Kind: &onnxio.Type{Kind: onnxio.OptionalType, Of: t}}
}

// typeOf is the type of a value.
func typeOf(v *Value) *onnxio.Type {
	if v == nil {
		return nil
	}
	if v.Kind != nil {
		return v.Kind
	}
	return &onnxio.Type{Elem: v.Type, Shape: v.Shape, HasShape: v.HasShape}
}

// valueOfType is what a type says of its values.
func valueOfType(t *onnxio.Type) *Value {
	switch {
	case t == nil:
		return &Value{}
	case t.Kind != onnxio.TensorType:
		return &Value{Kind: t}
	}
	return &Value{Type: t.Elem, Shape: t.Shape, HasShape: t.HasShape}
}

func init() {
	register(&Def{Name: "Gradient", Domain: "ai.onnx.preview.training", Versions: []int64{1},
		Attrs: []AttrDef{{Name: "xs", Type: onnxio.AttrStrings, Required: true}, stringA("y").required(),
			{Name: "zs", Type: onnxio.AttrStrings}},
		Inputs:  []Param{{Name: "Inputs", Type: "T", Variadic: true}},
		Outputs: []Param{{Name: "Outputs", Type: "T", Variadic: true}}, Types: map[string]TypeSet{"T": All},
		Infer: func(c *Infer) error { // a derivative is of the shape of what it is by
			for i := range min(len(c.Out), len(c.In)) {
				if c.Out[i] != nil && c.In[i] != nil {
					setLike(c, i, c.In[i])
				}
			}
			return nil
		}})
}
