package engine

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// key names a segment: the ops that are done, and the shapes of what the others read.
func (r *run) key(reads []*value) string {
	var b []byte
	if r.careful {
		b = append(b, 0)
	}
	if r.left < len(r.done) {
		b = append(b, 1)
		for i := 0; i < len(r.done); i += 8 {
			bits := byte(0)
			for j := i; j < min(i+8, len(r.done)); j++ {
				if r.done[j] {
					bits |= 1 << (j - i)
				}
			}
			b = append(b, bits)
		}
	}
	for _, v := range reads {
		b = appendShape(b, r.env[v])
	}
	return string(b)
}

// appendShapes is the key of the first segment.
func appendShapes(b []byte, in []onnxio.Value) []byte {
	for _, x := range in {
		b = appendShape(b, x)
	}
	return b
}

// appendShape encodes type and shape of a value.
func appendShape(b []byte, x onnxio.Value) []byte {
	t, ok := x.(*onnxio.Tensor)
	if !ok {
		return append(b, 0xff)
	}
	b = append(b, 2+byte(t.Type))
	b = binary.AppendUvarint(b, uint64(len(t.Dims)))
	for _, d := range t.Dims {
		b = binary.AppendVarint(b, d)
	}
	return b
}

// reads lists what the ops that are left read of what is there.
func (r *run) reads() []*value {
	if r.left == len(r.done) {
		return r.p.g.inputs
	}
	var out []*value
	seen := map[*value]bool{}
	for i, o := range r.p.g.ops {
		if r.done[i] {
			continue
		}
		for _, v := range o.in {
			if v != nil && r.env[v] != nil && !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}

// segment is the part of a program that shapes alone decide, planned, and what follows it.
type segment struct {
	plan   *Plan    // nil where there is nothing to plan
	gives  []*value // of the program's graph, what the plan's outputs are
	static []int    // ops of the program's graph that the plan runs
	island []bool   // ops that wait for data: they run by their reference kernels
	// whole says, where the plan is all of the program, which of the program's inputs the plan's are, and
	// which of the plan's outputs the program's are.
	whole *wiring
}

type wiring struct {
	in, out []int
}

// run runs a segment that is all of its program, and gives views of its outputs unless they are suspect.
func (s *segment) run(ctx context.Context, lane *Lane, in []onnxio.Value, give func(i int, x onnxio.Value,
	view bool) error) error {
	list := s.plan.given[:0]
	for _, i := range s.whole.in {
		list = append(list, in[i].(*onnxio.Tensor))
	}
	s.plan.given = list
	s.plan.attach(lane.room(s.plan.size))
	err := s.plan.run(ctx, list)
	clear(list)
	if err != nil || s.plan.suspect {
		return err
	}
	for i, k := range s.whole.out {
		if err := give(i, s.plan.results[k], true); err != nil {
			return err
		}
	}
	return nil
}

// wire says how the plan's inputs and outputs are the program's, when nothing else is left to run.
func (s *segment) wire(p *Program) *wiring {
	if s.plan == nil || len(s.static) < len(p.g.ops) {
		return nil
	}
	w := &wiring{}
	for _, v := range s.plan.inputs {
		w.in = append(w.in, slices.Index(p.g.inputs, v.base))
	}
	for _, v := range p.g.outputs {
		k := slices.Index(s.gives, v)
		if k < 0 {
			return nil
		}
		w.out = append(w.out, k)
	}
	return w
}

// segment finds or makes the plan of the ops that are left, as far as shapes decide.
func (r *run) segment() (*segment, error) {
	reads := r.reads()
	key := segmentKey{r.p, r.key(reads)}
	if s := r.lane.segment(key); s != nil {
		return s, nil
	}
	whole := map[*op]bool{} // Ifs that stay what they are
	for {
		b := &binding{r: r, g: newGraph(r.p.opt), whole: whole}
		b.copier = newCopier(b.g)
		again, err := b.copy(reads)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		s, err := b.segment()
		if err != nil {
			return nil, err
		}
		r.lane.keep(key, s)
		return s, nil
	}
}

// binding makes a segment: a copy of what is left of a program's graph, with the shapes that turned up.
type binding struct {
	*copier
	r      *run
	g      *graph
	whole  map[*op]bool
	static map[*op]bool
}

// copy copies the ops that are left and infers their shapes. It reports whether a branch has to stay whole,
// so that all begins again.
func (b *binding) copy(reads []*value) (again bool, err error) {
	for _, v := range reads {
		in := b.value(v, input)
		info := &ops.Value{}
		if t, ok := b.r.env[v].(*onnxio.Tensor); ok {
			info = &ops.Value{Type: t.Type, Shape: numbers(t.Dims), HasShape: true}
		} else if v.info != nil {
			info = v.info
		}
		in.know(info)
		b.g.inputs = append(b.g.inputs, in)
	}
	b.static = map[*op]bool{}
	for i, o := range b.r.p.g.ops {
		if b.r.done[i] {
			continue
		}
		c := b.op(o, func(v *value) *value { return nil })
		if c.path().differentiates {
			if err := b.gradient(c); err != nil {
				return false, err
			}
			continue
		}
		run := []*op{c}
		spliced := c.branch()
		if spliced != nil && !b.whole[o] {
			run = b.g.splice(c, spliced)
		}
		fixed := true
		for _, x := range run {
			if err := b.g.infer(x); err != nil {
				return false, err
			}
			b.static[x] = b.fixed(x)
			fixed = fixed && b.static[x]
		}
		if !fixed && len(run) > 0 && run[0] != c {
			b.whole[o] = true
			return true, nil
		}
		b.g.ops = append(b.g.ops, run...)
	}
	return false, nil
}

// fixed reports whether an op can be planned: the shapes of what it reads and gives are known.
func (b *binding) fixed(o *op) bool {
	if len(o.bodies) > 0 || o.node.Def.Eval == nil {
		return false
	}
	for _, v := range o.in {
		if v == nil || v.kind == constant && v.sized {
			continue
		}
		if !v.sized || v.producer != nil && !b.static[v.producer] {
			return false
		}
	}
	return !slices.ContainsFunc(o.out, func(v *value) bool { return v != nil && !v.sized })
}

// segment plans the ops that can be planned.
func (b *binding) segment() (*segment, error) {
	p := b.r.p
	s := &segment{island: make([]bool, len(p.g.ops))}
	planned := map[*value]bool{} // of the program's graph
	done := map[*op]bool{}
	kept := b.g.ops[:0:0]
	for _, o := range b.g.ops {
		if !b.static[o] {
			continue
		}
		kept = append(kept, o)
		if done[o.base] {
			continue
		}
		done[o.base] = true
		i := p.number[o.base]
		s.static = append(s.static, i)
		for _, v := range o.base.out {
			planned[v] = true
		}
	}
	wanted := map[*value]bool{}
	for i, o := range p.g.ops {
		if b.r.done[i] || done[o] {
			continue
		}
		s.island[i] = !slices.ContainsFunc(o.in, func(v *value) bool { return !b.r.has(v) && !planned[v] })
		for _, v := range o.in {
			wanted[v] = wanted[v] || planned[v]
		}
	}
	for _, v := range p.g.outputs {
		wanted[v] = wanted[v] || planned[v]
	}
	if len(kept) == 0 {
		return s, nil
	}
	b.g.ops = kept
	for _, i := range s.static {
		for _, v := range p.g.ops[i].out {
			if v != nil && wanted[v] {
				c := b.copies[v]
				c.output = true
				b.g.outputs = append(b.g.outputs, c)
				s.gives = append(s.gives, v)
			}
		}
	}
	b.g.keep = p.g.keep
	b.g.index()
	b.g.inputs = slices.DeleteFunc(b.g.inputs, func(v *value) bool { return len(v.users) == 0 })
	if err := b.g.apply(p.opt.shapeless()...); err != nil {
		return nil, err
	}
	b.g.inputs = slices.DeleteFunc(b.g.inputs, func(v *value) bool { return len(v.users) == 0 })
	var err error
	opt := p.opt
	opt.careful = b.r.careful
	if s.plan, err = p.weights.finish(b.g, opt, additions{}); err != nil {
		return nil, err
	}
	s.whole = s.wire(p)
	return s, nil
}
