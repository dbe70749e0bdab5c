package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators of sequences and optionals.

// EvalValues is one execution of an operator of sequences and optionals by its reference kernel.
type EvalValues struct {
	Node *Node
	In   []onnxio.Value // nil where an optional input is omitted
	Out  []onnxio.Value
	// Limit bounds the bytes of one output; 0 is MaxBytes.
	Limit int64
}

func init() {
	seq := func(name string) Param { return Param{Name: name, Type: "S"} }
	types := map[string]TypeSet{"S": All, "T": All, "I": Indices}
	position := Param{Name: "position", Type: "I", Optional: true}
	one := func(p Param) []Param { return []Param{p} }
	elem := func(c *Infer) error {
		if c.Has(0) && c.In[0].Kind != nil {
			v := valueOfType(c.In[0].Kind.Of)
			v.HasShape = false // items may have other shapes each
			c.become(0, v)
		}
		return nil
	}
	same := func(c *Infer) error { c.become(0, &Value{Kind: c.In[0].Kind}); return nil }
	register(
		&Def{Name: "SequenceConstruct", Versions: []int64{11},
			Inputs:  []Param{{Name: "inputs", Type: "T", Variadic: true}},
			Outputs: one(seq("output_sequence")), Types: types, EvalValues: evalSequenceConstruct,
			Infer: func(c *Infer) error { c.become(0, sequenceOf(typeOf(firstOf(c.In)))); return nil }},
		&Def{Name: "SequenceEmpty", Versions: []int64{11}, Attrs: []AttrDef{intA("dtype")},
			Outputs: one(seq("output")), Types: types,
			EvalValues: evalSequenceEmpty,
			Infer:      func(c *Infer) error { c.become(0, sequenceOf(emptyElem(c.Node))); return nil }},
		&Def{Name: "SequenceInsert", Versions: []int64{11}, Inputs: []Param{seq("input_sequence"),
			{Name: "tensor", Type: "T"}, position},
			Outputs: one(seq("output_sequence")), Types: types, Infer: same, EvalValues: evalSequenceInsert},
		&Def{Name: "SequenceErase", Versions: []int64{11}, Inputs: []Param{seq("input_sequence"), position},
			Outputs: one(seq("output_sequence")), Types: types, Infer: same, EvalValues: evalSequenceErase},
		&Def{Name: "SequenceAt", Versions: []int64{11}, Inputs: []Param{seq("input_sequence"),
			{Name: "position", Type: "I"}},
			Outputs: []Param{{Name: "tensor", Type: "T"}}, Types: types, Infer: elem,
			EvalValues: evalSequenceAt},
		&Def{Name: "SequenceLength", Versions: []int64{11}, Inputs: one(seq("input_sequence")),
			Outputs: []Param{{Name: "length", Type: "I"}}, Types: types, EvalValues: evalSequenceLength,
			Infer: func(c *Infer) error { c.Set(0, onnxio.Int64, nil); return nil }},
		&Def{Name: "SplitToSequence", Versions: []int64{11, 24}, Attrs: []AttrDef{intA("axis"),
			intA("keepdims")},
			Inputs:  []Param{{Name: "input", Type: "T"}, {Name: "split", Type: "I", Optional: true}},
			Outputs: one(seq("output_sequence")), Types: types, EvalValues: evalSplitToSequence,
			Infer: func(c *Infer) error {
				c.become(0, sequenceOf(&onnxio.Type{Elem: c.In[0].Type}))
				return nil
			}},
		&Def{Name: "ConcatFromSequence", Versions: []int64{11}, Attrs: []AttrDef{intA("axis").required(),
			intA("new_axis")},
			Inputs: one(seq("input_sequence")), Outputs: []Param{{Name: "concat_result", Type: "T"}},
			Types: types,
			Infer: elem, EvalValues: evalConcatFromSequence},
		&Def{Name: "Optional", Versions: []int64{15, 28},
			Attrs:  []AttrDef{{Name: "type", Type: onnxio.AttrTypeProto}},
			Inputs: []Param{{Name: "input", Type: "T", Optional: true}}, Outputs: one(seq("output")),
			Types:      types,
			EvalValues: evalOptional,
			Infer:      func(c *Infer) error { c.become(0, optionalOf(optionalElem(c))); return nil }},
		&Def{Name: "OptionalHasElement", Versions: []int64{15, 18, 28},
			Inputs:  []Param{{Name: "input", Type: "T", Optional: true}},
			Outputs: []Param{{Name: "output", Type: "B"}}, Types: map[string]TypeSet{"T": All, "B": Bools},
			EvalValues: evalHasElement,
			Infer:      func(c *Infer) error { c.Set(0, onnxio.Bool, nil); return nil }},
		&Def{Name: "OptionalGetElement", Versions: []int64{15, 18, 28},
			Inputs:  []Param{{Name: "input", Type: "T"}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: types, Infer: inferGetElement,
			EvalValues: evalGetElement},
	)
}

func firstOf(in []*Value) *Value {
	if len(in) == 0 {
		return nil
	}
	return in[0]
}

// emptyElem is the item type of SequenceEmpty, float32 by default.
func emptyElem(n *Node) *onnxio.Type {
	return &onnxio.Type{Elem: onnxio.DataType(n.Int("dtype", int64(onnxio.Float)))}
}

func optionalElem(c *Infer) *onnxio.Type {
	if c.Has(0) {
		return typeOf(c.In[0])
	}
	if a := c.Node.Attr("type"); a != nil {
		return a.TypeProto
	}
	return nil
}

func inferGetElement(c *Infer) error {
	v := c.In[0]
	if v.Kind != nil && v.Kind.Kind == onnxio.OptionalType {
		v = valueOfType(v.Kind.Of)
	}
	c.become(0, v) // from version 18 on the input may be no optional
	return nil
}

// sequence is input 0.
func (c *EvalValues) sequence() (*onnxio.Sequence, error) {
	s, ok := c.In[0].(*onnxio.Sequence)
	if !ok {
		return nil, c.Node.Errorf("input %s is no sequence", c.Node.Def.Inputs[0].Name)
	}
	return s, nil
}

// has reports whether input i is present.
func (c *EvalValues) has(i int) bool { return i < len(c.In) && c.In[i] != nil }

// integer is the one number of input i.
func (c *EvalValues) integer(i int) (int64, error) {
	t, ok := c.In[i].(*onnxio.Tensor)
	if ok && t.Size() == 1 && t.Type == onnxio.Int64 {
		return onnxio.Data[int64](t)[0], nil
	}
	if ok && t.Size() == 1 && t.Type == onnxio.Int32 {
		return int64(onnxio.Data[int32](t)[0]), nil
	}
	return 0, c.Node.Errorf("input %s must be one integer", c.Node.Def.Inputs[i].Name)
}

// position is input i as an index into n places; an omitted one is def.
func (c *EvalValues) position(i, n, def int) (int, error) {
	if !c.has(i) {
		return def, nil
	}
	p, err := c.integer(i)
	if err != nil {
		return 0, err
	}
	if p < 0 {
		p += int64(n)
	}
	if p < 0 || p > int64(n) {
		return 0, c.Node.Errorf("position %d is outside the sequence of %d", p, n)
	}
	return int(p), nil
}

func (c *EvalValues) give(v onnxio.Value) { c.Out = append(c.Out[:0], v) }

func evalSequenceConstruct(c *EvalValues) error {
	s := &onnxio.Sequence{Items: slices.Clone(c.In)}
	for i, v := range c.In {
		t, ok := v.(*onnxio.Tensor)
		if !ok {
			return c.Node.Errorf("input %d is no tensor", i)
		}
		if s.Elem == nil {
			s.Elem = &onnxio.Type{Elem: t.Type}
		}
		if t.Type != s.Elem.Elem {
			return c.Node.Errorf("input %d is %v where the first is %v", i, t.Type, s.Elem.Elem)
		}
	}
	c.give(s)
	return nil
}

func evalSequenceEmpty(c *EvalValues) error {
	c.give(&onnxio.Sequence{Elem: emptyElem(c.Node)})
	return nil
}

func evalSequenceInsert(c *EvalValues) error {
	s, err := c.sequence()
	if err != nil {
		return err
	}
	i, err := c.position(2, len(s.Items), len(s.Items))
	if err != nil {
		return err
	}
	c.give(&onnxio.Sequence{Elem: s.Elem, Items: slices.Insert(slices.Clone(s.Items), i, c.In[1])})
	return nil
}

func evalSequenceErase(c *EvalValues) error {
	s, err := c.sequence()
	if err != nil {
		return err
	}
	i, err := c.position(1, len(s.Items), len(s.Items)-1)
	if err != nil {
		return err
	}
	if i < 0 || i >= len(s.Items) {
		return c.Node.Errorf("position %d is outside the sequence of %d", i, len(s.Items))
	}
	c.give(&onnxio.Sequence{Elem: s.Elem, Items: slices.Delete(slices.Clone(s.Items), i, i+1)})
	return nil
}

func evalSequenceAt(c *EvalValues) error {
	s, err := c.sequence()
	if err != nil {
		return err
	}
	i, err := c.position(1, len(s.Items), 0)
	if err != nil {
		return err
	}
	if i >= len(s.Items) {
		return c.Node.Errorf("position %d is outside the sequence of %d", i, len(s.Items))
	}
	c.give(s.Items[i])
	return nil
}

func evalSequenceLength(c *EvalValues) error {
	s, err := c.sequence()
	if err != nil {
		return err
	}
	c.give(onnxio.Scalar(onnxio.Int64, int64(len(s.Items))))
	return nil
}

// pieceSizes are the extents of the pieces of n along the axis.
func pieceSizes(c *EvalValues, n int64) ([]int64, error) {
	if !c.has(1) {
		return slices.Repeat([]int64{1}, int(n)), nil
	}
	split := c.In[1].(*onnxio.Tensor)
	elems, ok := (&Value{Const: split}).Known()
	if !ok {
		return nil, c.Node.Errorf("split must be integers")
	}
	var sizes []int64
	left := n
	if len(split.Dims) == 0 {
		each := elems[0].Value
		if each <= 0 {
			return nil, c.Node.Errorf("split is %d", each)
		}
		for ; left > 0; left -= each {
			sizes = append(sizes, min(each, left))
		}
		return sizes, nil
	}
	for _, e := range elems {
		if e.Value < 0 || e.Value > left {
			return nil, c.Node.Errorf("split %v of %d", elems, n)
		}
		left -= e.Value
		sizes = append(sizes, e.Value)
	}
	if left != 0 {
		return nil, c.Node.Errorf("split %v of %d", elems, n)
	}
	return sizes, nil
}

func evalSplitToSequence(c *EvalValues) error {
	x, ok := c.In[0].(*onnxio.Tensor)
	if !ok {
		return c.Node.Errorf("input is no tensor")
	}
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
	if err != nil {
		return err
	}
	if len(x.Dims) == 0 {
		return c.Node.Errorf("input has no axis to split")
	}
	sizes, err := pieceSizes(c, x.Dims[axis])
	if err != nil {
		return err
	}
	s := &onnxio.Sequence{Elem: &onnxio.Type{Elem: x.Type}}
	at := int64(0)
	for _, n := range sizes {
		piece, err := Sliced(c.Node, x, axis, at, n)
		if err != nil {
			return err
		}
		if at += n; !c.has(1) && c.Node.Int("keepdims", 1) == 0 {
			piece.Dims = slices.Delete(piece.Dims, axis, axis+1)
		}
		s.Items = append(s.Items, piece)
	}
	c.give(s)
	return nil
}

// Sliced copies n places of x from at on along an axis.
func Sliced(n *Node, x *onnxio.Tensor, axis int, at, count int64) (*onnxio.Tensor, error) {
	ev := &Eval{Node: n}
	dims := slices.Clone(x.Dims)
	dims[axis] = count
	y, err := ev.Alloc(0, x.Type, dims...)
	if err != nil {
		return nil, err
	}
	outer, inner := int64(sizeOf(x.Dims[:axis])), int64(sizeOf(x.Dims[axis+1:]))
	if x.Type == onnxio.String {
		y.Strings = nil
		for o := range outer {
			from := (o*x.Dims[axis] + at) * inner
			y.Strings = append(y.Strings, x.Strings[from:from+count*inner]...)
		}
		return y, nil
	}
	if x.Type.Bits()%8 != 0 {
		return nil, n.Errorf("cannot split %v", x.Type)
	}
	inner *= int64(x.Type.Bits() / 8)
	for o := range outer {
		copy(y.Raw[o*count*inner:][:count*inner], x.Raw[(o*x.Dims[axis]+at)*inner:])
	}
	return y, nil
}

func evalConcatFromSequence(c *EvalValues) error {
	s, err := c.sequence()
	if err != nil {
		return err
	}
	stack := c.Node.Int("new_axis", 0) != 0
	ev := &Eval{Limit: c.Limit}
	for i, item := range s.Items {
		t, ok := item.(*onnxio.Tensor)
		if !ok {
			return c.Node.Errorf("item %d is no tensor", i)
		}
		if stack {
			axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(t.Dims)+1)
			if err != nil {
				return err
			}
			view := *t
			view.Dims = slices.Insert(slices.Clone(t.Dims), axis, 1)
			t = &view
		}
		ev.In = append(ev.In, t)
	}
	if len(ev.In) == 0 {
		return c.Node.Errorf("the sequence is empty")
	}
	joined, err := Concat(ev, c.Node.Int("axis", 0))
	if err != nil {
		return c.Node.Errorf("%w", err)
	}
	c.give(joined)
	return nil
}

// Concat joins the inputs of c along an axis, whatever its node is.
func Concat(c *Eval, axis int64) (*onnxio.Tensor, error) {
	n := &onnxio.Node{OpType: "Concat", Outputs: []string{"joined"},
		Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", axis)}}
	bound, err := Bind(n, 13)
	if err != nil {
		return nil, err
	}
	c.Node, c.Out = bound, nil
	if err := bound.Def.Eval(c); err != nil {
		return nil, err
	}
	return c.Out[0], nil
}

func evalOptional(c *EvalValues) error {
	o := &onnxio.Optional{}
	if a := c.Node.Attr("type"); a != nil {
		o.Elem = a.TypeProto
	}
	if c.has(0) {
		o.Value = c.In[0]
	}
	c.give(o)
	return nil
}

func evalHasElement(c *EvalValues) error {
	has := c.has(0)
	if o, ok := firstValue(c).(*onnxio.Optional); ok {
		has = o.Value != nil
	}
	t := onnxio.NewTensor(onnxio.Bool)
	if has {
		t.Raw[0] = 1
	}
	c.give(t)
	return nil
}

func firstValue(c *EvalValues) onnxio.Value {
	if len(c.In) == 0 {
		return nil
	}
	return c.In[0]
}

func evalGetElement(c *EvalValues) error {
	v := c.In[0]
	if o, ok := v.(*onnxio.Optional); ok {
		if v = o.Value; v == nil {
			return c.Node.Errorf("the optional holds nothing")
		}
	}
	c.give(v)
	return nil
}
