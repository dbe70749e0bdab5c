package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// loop runs Loop: body(iteration, condition, carried...) gives (condition, carried..., scanned...).
func (r *run) loop(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	b, err := o.named("body")
	if err != nil {
		return nil, err
	}
	trips, err := tripCount(o, in)
	if err != nil {
		return nil, err
	}
	going := true
	if len(in) > 1 && in[1] != nil {
		if going, err = truth(o, in[1]); err != nil {
			return nil, err
		}
	}
	carried := slices.Clone(in[min(2, len(in)):])
	scanned := make([]stack, max(0, len(b.program.g.outputs)-1-len(carried)))
	held := int64(0)
	for i := int64(0); i < trips && going; i++ {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		out, err := r.call(o, b, append([]onnxio.Value{
			b.scalar(0, onnxio.Scalar(onnxio.Int64, i)), b.scalar(1, boolean(going))}, carried...))
		if err != nil {
			return nil, err
		}
		if len(out) < 1+len(carried) {
			return nil, o.node.Errorf("body gives %d values for %d that are carried", len(out), len(carried))
		}
		if going, err = truth(o, out[0]); err != nil {
			return nil, err
		}
		copy(carried, out[1:])
		held = r.rehold(held, carried)
		if err := r.push(o, scanned, out[1+len(carried):]); err != nil {
			return nil, err
		}
	}
	return r.finishStacks(o, b, carried, scanned, 1, nil, nil)
}

// tripCount is the most iterations that a Loop makes.
func tripCount(o *op, in []onnxio.Value) (int64, error) {
	if len(in) == 0 || in[0] == nil {
		return math.MaxInt64, nil
	}
	t, ok := in[0].(*onnxio.Tensor)
	if !ok || t.Type != onnxio.Int64 || len(t.Raw) != 8 {
		return 0, o.node.Errorf("the trip count must be one int64")
	}
	return onnxio.Data[int64](t)[0], nil
}

// scalar gives a scalar the shape that the body declares for its input i: some files declare [1].
func (b *body) scalar(i int, t *onnxio.Tensor) *onnxio.Tensor {
	if i < b.formal && len(b.program.g.inputs[i].info.Shape) == 1 {
		t.Dims = []int64{1}
	}
	return t
}

func boolean(b bool) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Bool)
	if b {
		t.Raw[0] = 1
	}
	return t
}

// stack collects what an iteration gives each time.
type stack struct{ items []*onnxio.Tensor }

// rehold counts the bytes of an iteration's states in place of those of the one before, and gives them.
func (r *run) rehold(before int64, states []onnxio.Value) int64 {
	now := int64(0)
	for _, x := range states {
		now += bytesOf(x)
	}
	r.hold(now - before)
	return now
}

// push adds an iteration's values, within the run's budget.
func (r *run) push(o *op, stacks []stack, out []onnxio.Value) error {
	for i := range stacks {
		t, ok := out[i].(*onnxio.Tensor)
		if !ok {
			return o.node.Errorf("scan output %d is no tensor", i)
		}
		stacks[i].items = append(stacks[i].items, t)
		r.hold(bytesOf(t) + itemBytes)
	}
	if err := r.within(); err != nil {
		return o.node.Errorf("%w", err)
	}
	return nil
}

// finishStacks gives the states, then the stacks, each along its axis, in its direction. first is the body's
// output at which the states begin.
func (r *run) finishStacks(o *op, b *body, states []onnxio.Value, stacks []stack, first int, axes,
	directions []int64) ([]onnxio.Value, error) {
	out := slices.Clone(states)
	for i, s := range stacks {
		axis := int64(0)
		if i < len(axes) {
			axis = axes[i]
		}
		if i < len(directions) && directions[i] != 0 {
			slices.Reverse(s.items)
		}
		t, err := r.stacked(o, s.items, axis)
		if err == nil && t == nil {
			t, err = empty(o, b.program.g.outputs[first+len(states)+i], axis)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// stacked joins tensors of one shape along a new axis; nil where there are none.
func (r *run) stacked(o *op, items []*onnxio.Tensor, axis int64) (*onnxio.Tensor, error) {
	if len(items) == 0 {
		return nil, nil
	}
	rank := int64(len(items[0].Dims)) + 1
	if axis < 0 {
		axis += rank
	}
	if axis < 0 || axis >= rank {
		return nil, o.node.Errorf("axis %d of a scan output of rank %d", axis, rank)
	}
	ev := &ops.Eval{Limit: r.room()}
	for _, t := range items {
		if !equalDims(t.Dims, items[0].Dims) || t.Type != items[0].Type {
			return nil, o.node.Errorf("a scan output is %v %v after %v %v", t.Type, t.Dims, items[0].Type,
				items[0].Dims)
		}
		view := *t
		view.Dims = slices.Insert(slices.Clone(t.Dims), int(axis), 1)
		ev.In = append(ev.In, &view)
	}
	t, err := ops.Concat(ev, axis)
	if err != nil {
		return nil, o.node.Errorf("%w", err)
	}
	return t, nil
}

// empty is a scan output of no iteration: of the shape that inference knows of v, 0 where it knows none.
func empty(o *op, v *value, axis int64) (*onnxio.Tensor, error) {
	dims := make([]int64, len(v.info.Shape))
	for i, d := range v.info.Shape {
		if d.Known() {
			dims[i] = d.Value
		}
	}
	if rank := int64(len(dims)) + 1; axis < 0 {
		axis += rank
	}
	if axis < 0 || axis > int64(len(dims)) || v.info.Type == onnxio.Undefined {
		return nil, o.node.Errorf("the shape of a scan output of no iteration is not known")
	}
	return onnxio.NewTensor(v.info.Type, slices.Insert(dims, int(axis), 0)...), nil
}

// scan runs Scan: body(states..., slices...) gives (states..., scanned...).
func (r *run) scan(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	b, err := o.named("body")
	if err != nil {
		return nil, err
	}
	n := int(o.node.Int("num_scan_inputs", 0))
	if o.node.Since == 8 {
		return r.scanBatches(o, b, in, n)
	}
	if n < 1 || n > len(in) {
		return nil, o.node.Errorf("num_scan_inputs is %d of %d inputs", n, len(in))
	}
	s := &scanner{axes: o.node.Ints("scan_input_axes"), directions: o.node.Ints("scan_input_directions")}
	if err := s.take(o, in[len(in)-n:]); err != nil {
		return nil, err
	}
	states, stacks, err := r.steps(o, b, slices.Clone(in[:len(in)-n]), s)
	if err != nil {
		return nil, err
	}
	return r.finishStacks(o, b, states, stacks, 0, o.node.Ints("scan_output_axes"),
		o.node.Ints("scan_output_directions"))
}

// scanner goes through tensors along an axis each.
type scanner struct {
	axes, directions []int64
	from             []*onnxio.Tensor
	at               []int // the axes in numbers
	length           int64
}

func (s *scanner) take(o *op, in []onnxio.Value) error {
	for i, x := range in {
		t, ok := x.(*onnxio.Tensor)
		if !ok || len(t.Dims) == 0 {
			return o.node.Errorf("scan input %d is no tensor with an axis", i)
		}
		axis := int64(0)
		if i < len(s.axes) {
			axis = s.axes[i]
		}
		if axis < 0 {
			axis += int64(len(t.Dims))
		}
		if axis < 0 || axis >= int64(len(t.Dims)) {
			return o.node.Errorf("scan input %d of shape %v has no axis %d", i, t.Dims, axis)
		}
		if i > 0 && t.Dims[axis] != s.length {
			return o.node.Errorf("scan input %d has %d slices, the first %d", i, t.Dims[axis], s.length)
		}
		s.length = t.Dims[axis]
		s.from, s.at = append(s.from, t), append(s.at, int(axis))
	}
	return nil
}

// slices are the slices of step i.
func (s *scanner) slices(o *op, i int64) ([]onnxio.Value, error) {
	var out []onnxio.Value
	for k, t := range s.from {
		at := i
		if k < len(s.directions) && s.directions[k] != 0 {
			at = s.length - 1 - i
		}
		y, err := ops.Sliced(o.node, t, s.at[k], at, 1)
		if err != nil {
			return nil, err
		}
		y.Dims = slices.Delete(slices.Clone(y.Dims), s.at[k], s.at[k]+1)
		out = append(out, y)
	}
	return out, nil
}

// steps runs the body once for every slice.
func (r *run) steps(o *op, b *body, states []onnxio.Value, s *scanner) ([]onnxio.Value, []stack, error) {
	stacks := make([]stack, max(0, len(b.program.g.outputs)-len(states)))
	held := int64(0)
	for i := range s.length {
		if err := r.ctx.Err(); err != nil {
			return nil, nil, err
		}
		slices, err := s.slices(o, i)
		if err != nil {
			return nil, nil, err
		}
		out, err := r.call(o, b, append(append([]onnxio.Value{}, states...), slices...))
		if err != nil {
			return nil, nil, err
		}
		if len(out) < len(states) {
			return nil, nil, o.node.Errorf("body gives %d values for %d states", len(out), len(states))
		}
		copy(states, out)
		held = r.rehold(held, states)
		if err := r.push(o, stacks, out[len(states):]); err != nil {
			return nil, nil, err
		}
	}
	return states, stacks, nil
}

// scanBatches runs Scan of version 8, whose inputs have the batch as their first axis and the
// sequence as their second.
func (r *run) scanBatches(o *op, b *body, in []onnxio.Value, n int) ([]onnxio.Value, error) {
	if len(in) < 1+n || n < 1 {
		return nil, o.node.Errorf("num_scan_inputs is %d of %d inputs", n, len(in))
	}
	first, ok := in[len(in)-1].(*onnxio.Tensor)
	if !ok || len(first.Dims) < 2 {
		return nil, o.node.Errorf("a scan input needs a batch and a sequence axis")
	}
	if in[0] != nil {
		return nil, &onnxio.UnsupportedError{Op: "Scan", Opset: 8, Node: o.String(), Attr: "sequence_lens",
			Reason: "sequences of several lengths are not run here: convert the model to opset 9 or later"}
	}
	perOutput := make([][]*onnxio.Tensor, len(b.program.g.outputs))
	for batch := range first.Dims[0] {
		single := make([]onnxio.Value, len(in)-1)
		for i, x := range in[1:] {
			t, ok := x.(*onnxio.Tensor)
			if !ok || len(t.Dims) == 0 || t.Dims[0] != first.Dims[0] {
				return nil, o.node.Errorf("input %d has another batch than %d", i+1, first.Dims[0])
			}
			y, err := ops.Sliced(o.node, t, 0, batch, 1)
			if err != nil {
				return nil, err
			}
			y.Dims = y.Dims[1:]
			single[i] = y
		}
		s := &scanner{directions: o.node.Ints("directions")}
		if err := s.take(o, single[len(single)-n:]); err != nil {
			return nil, err
		}
		states, stacks, err := r.steps(o, b, single[:len(single)-n], s)
		if err != nil {
			return nil, err
		}
		out, err := r.finishStacks(o, b, states, stacks, 0, nil, nil)
		if err != nil {
			return nil, err
		}
		for i, x := range out {
			perOutput[i] = append(perOutput[i], x.(*onnxio.Tensor))
			r.hold(bytesOf(x) + itemBytes)
		}
	}
	var out []onnxio.Value
	for i, items := range perOutput {
		t, err := r.stacked(o, items, 0)
		if err == nil && t == nil {
			t, err = empty(o, b.program.g.outputs[i], 0)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// sequenceMap runs SequenceMap: the body for every item of the first sequence, with the same item of other
// sequences and with tensors as they are.
func (r *run) sequenceMap(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	b, err := o.named("body")
	if err != nil {
		return nil, err
	}
	first, ok := in[0].(*onnxio.Sequence)
	if !ok {
		return nil, o.node.Errorf("the first input is no sequence")
	}
	out := make([]*onnxio.Sequence, len(b.program.g.outputs))
	for i, v := range b.program.g.outputs {
		out[i] = &onnxio.Sequence{Elem: &onnxio.Type{Elem: v.info.Type}}
	}
	for k := range first.Items {
		args := make([]onnxio.Value, len(in))
		for i, x := range in {
			args[i] = x
			if s, ok := x.(*onnxio.Sequence); ok {
				if len(s.Items) != len(first.Items) {
					return nil, o.node.Errorf("input %d has %d items, the first %d", i, len(s.Items),
						len(first.Items))
				}
				args[i] = s.Items[k]
			}
		}
		got, err := r.call(o, b, args)
		if err != nil {
			return nil, err
		}
		for i, x := range got {
			out[i].Items = append(out[i].Items, x)
			r.hold(bytesOf(x) + itemBytes)
		}
		if err := r.within(); err != nil {
			return nil, o.node.Errorf("%w", err)
		}
	}
	values := make([]onnxio.Value, len(out))
	for i, s := range out {
		values[i] = s
	}
	return values, nil
}
