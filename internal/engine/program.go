package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Program is a model compiled as far as that goes without shapes. Plans for the shapes that turn up are made
// when they are needed, and share its weights. It is safe for concurrent use.
type Program struct {
	g       *graph
	opt     Options
	weights *Weights
	inputs  []string
	// readers counts the ops that read a value; a graph output counts as one more.
	readers map[*value]int
	number  map[*op]int // of the graph's ops
}

// body is a subgraph of a control flow op.
type body struct {
	attr     string // then_branch, else_branch, body
	program  *Program
	formal   int // inputs that the op gives
	captures int // inputs behind those, from the graphs around
	from     int // index in the op's inputs of the first captured one
}

// NewProgram compiles m. Initializers that given names are inputs: the caller overrides them.
func NewProgram(m *onnxio.Model, opt Options, given ...string) (*Program, error) {
	set := map[string]bool{}
	for _, name := range given {
		set[name] = true
	}
	g, err := importModel(m, opt, nil, set)
	if err != nil {
		return nil, err
	}
	if err := g.apply(opt.shapeless()...); err != nil {
		return nil, err
	}
	p := newProgram(g)
	p.adopt(opt, new(Weights))
	return p, nil
}

func newProgram(g *graph) *Program {
	p := &Program{g: g, inputs: namesOf(g.inputs), readers: map[*value]int{}, number: map[*op]int{}}
	for i, o := range g.ops {
		p.number[o] = i
		for _, v := range o.reads() {
			p.readers[v]++
		}
	}
	for _, v := range g.outputs {
		p.readers[v]++
	}
	return p
}

// adopt gives a program, and those of its bodies, its options and its place for weights.
func (p *Program) adopt(opt Options, w *Weights) {
	opt.MaxBytes = opt.maxBytes()
	p.opt, p.weights = opt, w
	for _, o := range p.g.ops {
		for _, b := range o.bodies {
			b.program.adopt(opt, w)
		}
	}
}

// Inputs lists the names of what Run takes, in order.
func (p *Program) Inputs() []string { return p.inputs }

// Prepare makes the plan for inputs of these shapes, so that the first Run of them is as fast as the later
// ones. Shapes that depend on data end what it can do.
func (p *Program) Prepare(lane *Lane, shapes [][]int64) error {
	r := p.begin(context.Background(), lane)
	for i, v := range p.g.inputs {
		if v.info.Kind != nil || v.info.Type.Bits() == 0 {
			return nil
		}
		r.env[v] = &onnxio.Tensor{Type: v.info.Type, Dims: shapes[i]}
	}
	_, err := r.segment()
	return err
}

// Run computes the outputs, in the model's order, from the inputs in theirs. The values it gives are the
// caller's. It ends early when ctx does.
func (p *Program) Run(ctx context.Context, lane *Lane, in []onnxio.Value) ([]onnxio.Value, error) {
	out := make([]onnxio.Value, len(p.g.outputs))
	err := p.run(ctx, lane, in, func(i int, x onnxio.Value, view bool) error {
		if out[i] = x; view {
			out[i] = x.(*onnxio.Tensor).Clone()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// RunInto is Run for outputs that have their memory already: tensors of the type and shape that the run turns
// out to give, nil for those not asked for.
func (p *Program) RunInto(ctx context.Context, lane *Lane, in []onnxio.Value, into []*onnxio.Tensor) error {
	return p.run(ctx, lane, in, func(i int, x onnxio.Value, _ bool) error {
		if into[i] == nil {
			return nil
		}
		t, ok := x.(*onnxio.Tensor)
		if !ok {
			return fmt.Errorf("output %q is no tensor", p.g.outputs[i].name)
		}
		if err := into[i].CopyFrom(t); err != nil {
			return fmt.Errorf("output %q: %w", p.g.outputs[i].name, err)
		}
		return nil
	})
}

// run hands each output to give, some as views of memory that the next Run overwrites.
func (p *Program) run(ctx context.Context, lane *Lane, in []onnxio.Value, give func(i int, x onnxio.Value,
	view bool) error) error {
	var space [64]byte
	again := false
	if s := lane.first(p, appendShapes(space[:0], in)); s != nil && s.whole != nil {
		err := s.run(ctx, lane, in, give)
		if again = s.plan.suspect; !again {
			return err
		}
	}
	r := p.begin(ctx, lane)
	r.careful = again
	defer r.end()
	for i, v := range p.g.inputs {
		r.env[v] = in[i]
	}
	for r.left > 0 {
		if err := r.round(); err != nil {
			return err
		}
	}
	for i, v := range p.g.outputs {
		x := r.value(v)
		if x == nil {
			return fmt.Errorf("output %q was not computed", v.name)
		}
		if err := give(i, r.own(v, x), false); err != nil {
			return err
		}
	}
	return nil
}

// own is x as an output: a value that Run made for the caller alone.
func (r *run) own(v *value, x onnxio.Value) onnxio.Value {
	t, ok := x.(*onnxio.Tensor)
	if !ok {
		return x
	}
	fresh := v.kind == computed && v.producer.node.Def.Eval != nil && !v.producer.path().same && t.Name == ""
	if !fresh {
		t = t.Clone()
	}
	t.Name = v.name
	return t
}

// run is one Run of a program.
type run struct {
	p    *Program
	ctx  context.Context
	lane *Lane
	env  map[*value]onnxio.Value // what is there
	done []bool                  // of the graph's ops
	left int                     // ops that are not done
	// careful asks for segments whose kernels spread no NaN.
	careful bool
	live    int64          // bytes that this run holds: of what it put into env, and of a loop's values
	used    map[*value]int // reads of a value that are done
}

func (p *Program) begin(ctx context.Context, lane *Lane) *run {
	return &run{p: p, ctx: ctx, lane: lane, env: make(map[*value]onnxio.Value, len(p.g.inputs)),
		done: make([]bool, len(p.g.ops)),
		left: len(p.g.ops)}
}

// value is what stands for v: computed, given or constant; nil when it is not there.
func (r *run) value(v *value) onnxio.Value {
	if v.kind == constant {
		return v.konst
	}
	if x := r.env[v]; x != nil {
		return x
	}
	return nil
}

// has reports whether v is there.
func (r *run) has(v *value) bool { return v == nil || v.kind == constant || r.env[v] != nil }

// ready reports whether all that o reads is there.
func (r *run) ready(o *op) bool {
	return !slices.ContainsFunc(o.in, func(v *value) bool { return !r.has(v) })
}

// round runs the plan of what can be planned, then the ops whose shapes follow from data, one by one.
func (r *run) round() error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	s, err := r.segment()
	if err != nil {
		return err
	}
	if s.plan != nil {
		if err := r.runPlan(s); err != nil {
			return err
		}
	}
	for _, i := range s.static {
		r.finish(i)
	}
	for i, o := range r.p.g.ops {
		if r.done[i] || !r.ready(o) || !s.island[i] && r.heavy(o) {
			continue
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.interpret(o); err != nil {
			return err
		}
		r.finish(i)
	}
	return nil
}

// finish notes that op i is done, and lets go of what nobody reads any more.
func (r *run) finish(i int) {
	r.done[i] = true
	r.left--
	if r.used == nil {
		r.used = map[*value]int{}
	}
	for _, v := range r.p.g.ops[i].reads() {
		if r.used[v]++; r.used[v] == r.p.readers[v] && v.kind == computed {
			r.hold(-bytesOf(r.env[v]))
			delete(r.env, v)
		}
	}
}

// runPlan runs a segment's plan and takes what the rest reads.
func (r *run) runPlan(s *segment) error {
	in := make([]*onnxio.Tensor, len(s.plan.inputs))
	for i, v := range s.plan.inputs {
		in[i] = r.env[v.base].(*onnxio.Tensor)
	}
	s.plan.attach(r.lane.room(s.plan.size))
	err := s.plan.run(r.ctx, in)
	if s.plan.suspect && !r.careful {
		return r.runCarefully()
	}
	if err != nil {
		return err
	}
	for i, v := range s.gives {
		t := s.plan.results[i].Clone()
		t.Name = ""
		r.put(v, t)
	}
	return r.within()
}

// runCarefully runs the segment again by kernels that spread no NaN.
func (r *run) runCarefully() error {
	before := r.careful
	r.careful = true
	s, err := r.segment()
	r.careful = before
	if err != nil {
		return err
	}
	return r.runPlan(s)
}

// put takes a value that an op gave.
func (r *run) put(v *value, x onnxio.Value) {
	r.env[v] = x
	r.hold(bytesOf(x))
}

// hold counts bytes that the run holds from now on, or no longer where n is below 0.
func (r *run) hold(n int64) {
	r.live += n
	r.lane.live += n
}

// end stops counting what the run holds.
func (r *run) end() { r.hold(-r.live) }

// itemBytes is what an item of a list takes beside its elements: a tensor of no element costs too.
const itemBytes = 64

func bytesOf(x onnxio.Value) int64 {
	switch x := x.(type) {
	case *onnxio.Tensor:
		if x != nil {
			return int64(len(x.Raw))
		}
	case *onnxio.Sequence:
		n := int64(0)
		for _, item := range x.Items {
			n += bytesOf(item) + itemBytes
		}
		return n
	case *onnxio.Optional:
		return bytesOf(x.Value)
	}
	return 0
}
