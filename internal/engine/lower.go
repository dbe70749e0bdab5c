package engine

import (
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// buffer is memory with a lifetime: a value's, several values' in turn, or scratch of one op.
type buffer struct {
	floats      int // size in float32s; other element types take what covers them
	first, last int // steps that write it first and touch it last
	persistent  bool
	shared      int // values that live in it
	data        []float32
	filling     *filling // of a constant
}

// bytes views the buffer.
func (b *buffer) bytes(n int64) []byte {
	if n == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b.data))), n)
}

// step is a stretch of a plan: chunks of one kernel over known buffers.
type step struct {
	op     *op
	kernel string
	chunks int
	bufs   []*buffer
	flops  int64
	bytes  int64
	cycles float64 // estimated; 0: what its bytes take
	short  bool    // not worth the other threads
	// A step that runs portions: what each worker has for them, and where.
	portions *portions
	teams    []team
	room     *buffer
	time     atomic.Int64 // of a step of a team, when profiling
	// bind makes the function, once the buffers have memory.
	bind func() func(chunk, worker int)
	run  func(chunk, worker int)
}

// lowering turns ops into steps.
type lowering struct {
	g       *graph
	order   map[*op]int // of the graph's ops
	threads int
	steps   []*step
	buffers []*buffer
	at      *op
	seed    *uint64 // of the current Run, for random operators
	err     *error  // first error of a reference kernel
	// weights caches packed constants, so that plans of one model for several shapes share them.
	weights *Weights
	forms   []*buffer          // that the plan reads
	rowsOf  map[*value]*buffer // what is there as rows of bf16 alone
	// winograd allows convolutions by Winograd's method.
	winograd bool
	limit    int64 // bytes of all values
	over     int64 // the size of a buffer that is larger
	// spreads says that a kernel so far may have made NaN where ONNX has numbers; suspect
	// is told when NaN turns up.
	spreads bool
	suspect *bool
	watches bool // NaN is looked for
	sync    Exchange
	ended   func() bool // the run has
	timed   func() bool // steps are
}

const unit = 16 // floats: 64 bytes, the alignment of every buffer

func roundUp(n int) int { return (n + unit - 1) / unit * unit }

// buffer makes one of n floats.
func (l *lowering) buffer(n int) *buffer {
	if int64(n) > l.limit/4 || n < 0 {
		l.over, n = max(l.over, 4*int64(n)), 0
	}
	b := &buffer{floats: roundUp(max(n, 1)), first: -1, last: -1}
	l.buffers = append(l.buffers, b)
	return b
}

// of gives v's buffer, making it on first sight.
func (l *lowering) of(v *value) *buffer {
	if v.buf != nil {
		return v.buf
	}
	switch {
	case v.kind == param:
		v.buf = v.store.buf
	case v.kind == constant:
		v.buf = l.constant(v)
	case v.layout != nil:
		v.buf = l.buffer(v.layout.Size())
	case v.form() == bytesForm:
		v.buf = l.buffer((v.lines.Size() + 3) / 4)
	case v.lines != nil:
		v.buf = l.buffer((v.lines.Size() + 1) / 2)
	default:
		n, _ := onnxio.CheckedBytes(v.info.Type, v.dims)
		v.buf = l.buffer(int((n + 3) / 4))
	}
	if !v.buf.persistent { // those may belong to several plans, and are never written in place
		v.buf.shared++
	}
	return v.buf
}

// constant is a persistent buffer that holds a constant, padded with zeros.
func (l *lowering) constant(v *value) *buffer {
	n := len(v.konst.Raw)
	return l.form(v.konst, "", (n+3)/4, 1, func(dst []float32, _ int) {
		copy((&buffer{data: dst}).bytes(int64(n)), v.konst.Raw)
	})
}

// form is the constant t in a form that kernels read, see Weights.get.
func (l *lowering) form(t *onnxio.Tensor, form string, size, chunks int,
	part func(dst []float32, chunk int)) *buffer {
	b := l.weights.get(t, form, size, chunks, part)
	l.forms = append(l.forms, b)
	return b
}

// alias makes out live in in's memory.
func (l *lowering) alias(out, in *value) {
	if out.buf = l.of(in); !out.buf.persistent {
		out.buf.shared++
	}
}

// inPlace gives out the memory of the first of ins that nobody reads after o and where nobody else's numbers
// are, and reports whether there is one.
func (l *lowering) inPlace(o *op, out *value, ins ...*value) bool {
	for _, in := range ins {
		b := l.of(in)
		if in.kind != computed || in.output || b.shared != 1 || b.persistent || out.buf != nil ||
			!l.last(o, in) ||
			in.form() != out.form() || in.lines != nil && *in.lines != *out.lines || in.layout != nil &&
			*in.layout != *out.layout {
			continue
		}
		l.alias(out, in)
		return true
	}
	return false
}

// last reports whether no op after o reads v.
func (l *lowering) last(o *op, v *value) bool {
	return !slices.ContainsFunc(v.users, func(u *op) bool { return l.order[u] > l.order[o] })
}

// add appends a step that touches the given buffers.
func (l *lowering) add(kernel string, chunks int, bufs []*buffer, bind func() func(chunk, worker int)) *step {
	s := &step{op: l.at, kernel: kernel, chunks: chunks, bufs: bufs, bind: bind}
	for _, b := range bufs {
		s.bytes += int64(b.floats) * 4
	}
	l.steps = append(l.steps, s)
	return s
}

// op lowers one op: by its fast path, else by its reference kernel.
func (l *lowering) op(o *op, reference bool) error {
	l.at = o
	if o.folded() {
		return nil
	}
	if done, err := l.view(o); done || err != nil {
		return err
	}
	if !reference {
		p := o.path()
		if p.lowerLines != nil && o.onLines() {
			if err := p.lowerLines(l, o); err != nil {
				return fmt.Errorf("%s: %w", o, err)
			}
			return nil
		}
		if p.lower != nil {
			done, err := p.lower(l, o)
			if err != nil {
				return fmt.Errorf("%s: %w", o, err)
			}
			if done {
				return nil
			}
		}
	}
	if o.relu || o.then != nil || o.residual != nil || o.mask != nil || o.within != nil ||
		o.node.Def.Eval == nil {
		return fmt.Errorf("%s: fused, but it has no kernel for that", o)
	}
	return l.reference(o)
}

// folded reports whether all that o gives was computed by fold.
func (o *op) folded() bool {
	for _, v := range o.out {
		if v != nil && v.kind != constant {
			return false
		}
	}
	return true
}

// view handles the ops that only rename or reshape contiguous memory.
func (l *lowering) view(o *op) (bool, error) {
	if !o.path().view {
		return false, nil
	}
	in, out := o.in[0], o.out[0]
	if in.form() != plainForm || in.size() != out.size() || in.kind == param {
		return false, nil
	}
	l.of(in)
	l.alias(out, in)
	return true, nil
}

// reference lowers an op to its reference kernel.
func (l *lowering) reference(o *op) error {
	l.evaluate(o, uint64(len(l.steps))+1, nil)
	return nil
}

// evaluate appends the reference kernel of an op, in one chunk. It draws by the run's seed and number; place
// tells it of each run where its images stand.
func (l *lowering) evaluate(o *op, number uint64, place func(*ops.Eval)) {
	var bufs []*buffer
	for _, v := range append(slices.Clone(o.in), o.out...) {
		if v != nil && v.kind != constant {
			bufs = append(bufs, l.of(v))
		}
	}
	seed, fail, watched, suspect := l.seed, l.err, l.spreads && l.watches, l.suspect
	l.add("reference", 1, bufs, func() func(int, int) {
		ev := &ops.Eval{Node: o.node, In: make([]*onnxio.Tensor, len(o.in)), Out: make([]*onnxio.Tensor,
			len(o.out)), Want: make([]bool, len(o.out))}
		for i, v := range o.in {
			switch {
			case v == nil:
			case v.kind == constant:
				ev.In[i] = v.konst
			default:
				ev.In[i] = v.tensor()
			}
		}
		outs := make([]*onnxio.Tensor, len(o.out))
		for i, v := range o.out {
			if v != nil {
				outs[i], ev.Want[i] = v.tensor(), true
			}
		}
		return func(int, int) {
			if watched && slices.ContainsFunc(ev.In, hasNaN) {
				*suspect = true
			}
			copy(ev.Out, outs)
			if place != nil {
				place(ev)
			}
			ev.Seed = mix(*seed + number)
			if err := o.node.Def.Eval(ev); err != nil && *fail == nil {
				*fail = err
			}
		}
	})
}

// mix is SplitMix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// tensor views a plain value's memory.
func (v *value) tensor() *onnxio.Tensor {
	n, _ := onnxio.CheckedBytes(v.info.Type, v.dims)
	return &onnxio.Tensor{Name: v.name, Type: v.info.Type, Dims: v.dims, Raw: v.buf.bytes(n)}
}

// f is a value's memory as floats, after allocation; nil for an absent value.
func (v *value) f() []float32 {
	if v == nil {
		return nil
	}
	return v.buf.data
}

// plainFloats is a plain value's elements without the padding of its buffer.
func (v *value) plainFloats() []float32 { return v.buf.data[:v.size()] }
