package engine

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"time"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Plan is a compiled graph: steps over one arena. A plan runs one call at a time.
type Plan struct {
	pool    *parallel.Pool
	steps   []*step
	offsets map[*buffer]int // of the buffers in the arena
	size    int             // of the arena, in floats
	inputs  []*value
	outputs []*value
	names   []string         // of the outputs, as the model has them
	given   []*onnxio.Tensor // of a Run, in the order of inputs
	results []*onnxio.Tensor // the outputs where they lie in the arena
	arena   []float32
	seed    uint64
	err     error
	spreads bool   // a kernel may make NaN where ONNX has numbers
	suspect bool   // NaN turned up in the last Run of a plan that spreads it
	draws   uint64 // runs so far, for seed

	ctx   context.Context
	exec  func(parallel.Region)
	times []time.Duration // per step, when profiling
	timed int
}

// StepInfo describes one step of a plan.
type StepInfo struct {
	Name     string        // the node it comes from
	Op       string        // operator
	Kernel   string        // what runs it
	Shape    []int64       // of the first output
	Layout   string        // "" is plain
	Type     string        // of the numbers: float32, bf16, uint8 and so on
	Chunks   int           // pieces the step is cut into
	Portions int           // of the batch, for each of which it runs with those before and behind; 0: for all
	FLOPs    int64         // of convolutions and matrix products
	Bytes    int64         // of the buffers it touches
	Estimate time.Duration // by the cost model that chooses between algorithms
	Time     time.Duration // mean, after Profile
}

// Compile plans the inference of m.
func Compile(m *onnxio.Model, opt Options) (*Plan, error) { return new(Weights).Compile(m, opt) }

// Compile is the function of the same name; plans compiled through one Weights share the packed constants.
func (w *Weights) Compile(m *onnxio.Model, opt Options) (p *Plan, err error) {
	defer Recover(&err)
	g, err := importModel(m, opt, nil, nil)
	if err != nil {
		return nil, err
	}
	if err := g.known(); err != nil {
		return nil, err
	}
	if err := g.apply(opt.shapeless()...); err != nil {
		return nil, err
	}
	if p, err = w.finish(g, opt, additions{}); err != nil {
		return nil, err
	}
	p.attach(kernels.AlignedSlice(p.size))
	return p, nil
}

// WinogradAllowed reports whether convolutions may run by Winograd's method: unless
// CNNKIT_WINOGRAD=off forbids it.
func WinogradAllowed() bool { return os.Getenv("CNNKIT_WINOGRAD") != "off" }

// additions are what a training plan has beyond the graph's ops.
type additions struct {
	take  func(l *lowering, i int) bool // lowers op i in another way, or reports that it does not
	after func(l *lowering, i int)      // op i has been lowered
	end   func(l *lowering)             // all have
	brief func(output int) bool         // an output that need not stay readable
	sync  Exchange                      // of BatchNormalization's statistics; nil: they are the batch's own
}

// finish runs the passes after differentiation. The plan runs once it is attached to memory.
func (w *Weights) finish(g *graph, opt Options, more additions) (*Plan, error) {
	p := &Plan{pool: opt.Pool, inputs: g.inputs}
	if p.pool == nil {
		p.pool = parallel.Default()
	}
	for _, v := range g.outputs {
		p.names = append(p.names, v.name)
	}
	g.bf16 = opt.runsBF16() && !opt.careful
	for _, o := range g.ops {
		o.careful = opt.careful
	}
	if !opt.Reference {
		if err := g.apply(integerPass, fusePass, layoutPass); err != nil {
			return nil, err
		}
	}
	p.outputs = g.outputs
	l := &lowering{g: g, order: map[*op]int{}, rowsOf: map[*value]*buffer{}, threads: p.pool.Threads(),
		seed: &p.seed, err: &p.err,
		suspect: &p.suspect, weights: w,
		watches:  more.end == nil && !opt.careful, // the trainer ends at NaN anyhow
		winograd: !opt.NoWinograd && !opt.careful && WinogradAllowed(), limit: opt.maxBytes(),
		sync: more.sync}
	l.ended, l.timed = func() bool { return p.ctx.Err() != nil }, func() bool { return p.times != nil }
	for i, o := range g.ops {
		l.order[o] = i
	}
	cut := g.choosePortions(l.threads, opt.portions)
	for i, o := range g.ops {
		if cut != nil && i == cut.from {
			if err := l.portions(cut); err != nil {
				return nil, err
			}
		}
		if cut.has(i) {
			continue
		}
		if more.take == nil || !more.take(l, i) {
			if err := l.op(o, opt.Reference); err != nil {
				return nil, err
			}
		}
		if more.after != nil {
			more.after(l, i)
		}
	}
	if more.end != nil {
		more.end(l)
	}
	var ends []*value
	for i, v := range p.outputs {
		if more.brief == nil || !more.brief(i) {
			ends = append(ends, v)
		}
	}
	for _, v := range append(append([]*value{}, g.inputs...), ends...) {
		l.of(v)
	}
	lifetimes(l.steps, g.inputs, ends)
	p.steps, p.spreads = l.steps, l.spreads && l.watches
	for _, s := range p.steps {
		s.short = s.estimate(1) < alone
	}
	p.exec = p.execute
	p.offsets, p.size = allocate(l.buffers)
	for _, s := range p.steps {
		if s.room != nil {
			s.places(p.offsets[s.room], p.offsets)
		}
	}
	if need := max(l.over, 4*int64(p.size)); need > l.limit {
		return nil, &onnxio.LimitError{What: "bytes of a run's values", Got: need, Limit: l.limit}
	}
	fillAll(p.pool, l.forms)
	return p, nil
}

// attach gives the plan its memory: an arena of at least its size, which other plans may have used.
func (p *Plan) attach(arena []float32) {
	if p.arena != nil && unsafe.SliceData(p.arena) == unsafe.SliceData(arena) {
		return
	}
	p.arena = arena
	for b, at := range p.offsets {
		b.data = arena[at : at+b.floats : at+b.floats]
	}
	p.results = p.results[:0]
	for _, v := range p.outputs {
		p.results = append(p.results, v.tensor())
	}
	for _, s := range p.steps {
		s.run = s.bind()
	}
}

// detach lets go of the plan's memory.
func (p *Plan) detach() {
	if p.arena == nil {
		return
	}
	p.arena, p.results = nil, nil
	for b := range p.offsets {
		b.data = nil
	}
	for _, s := range p.steps {
		s.run = nil
	}
}

// execute runs the steps; it stops between two when the context ends.
func (p *Plan) execute(r parallel.Region) {
	for i, s := range p.steps {
		if i%8 == 0 && p.endedEarly() {
			return
		}
		if p.times != nil {
			start := time.Now()
			s.execute(r)
			p.times[i] += time.Since(start)
		} else {
			s.execute(r)
		}
		if p.err != nil || s.portions != nil && p.endedEarly() {
			return
		}
	}
}

// endedEarly reports whether the context has ended, and leaves its error.
func (p *Plan) endedEarly() bool {
	if err := p.ctx.Err(); err != nil {
		p.err = err
	}
	return p.err != nil
}

// alone is how long a step may be expected to take for it to be run by the caller alone. A region costs 0.7
// us before the other threads have found it and the caller knows that they are done, three times the way of a
// line from cache to cache; what was written by one core and is read by another comes at that speed, too. A
// parked worker costs 10 us to wake.
const alone = 3 * time.Microsecond

// execute runs the chunks, by all threads where that pays.
func (s *step) execute(r parallel.Region) {
	if s.short {
		for chunk := range s.chunks {
			s.run(chunk, 0)
		}
		return
	}
	r.Run(s.chunks, s.run)
}

// run copies the inputs in, in the plan's order, and executes.
func (p *Plan) run(ctx context.Context, in []*onnxio.Tensor) error {
	for i, v := range p.inputs {
		t := in[i]
		if t.Type != v.info.Type || !equalDims(t.Dims, v.dims) {
			return fmt.Errorf("input %q is %v %v; this plan takes %v %v", v.name, t.Type, t.Dims,
				v.info.Type, v.dims)
		}
		copy(v.buf.bytes(int64(len(t.Raw))), t.Raw)
	}
	p.draws++
	p.seed = mix(p.draws)
	p.timed++
	p.ctx, p.err, p.suspect = ctx, nil, false
	p.pool.Do(p.exec)
	p.ctx = nil
	p.watchOutputs()
	return p.err
}

// ordered gives the inputs in the plan's order.
func (p *Plan) ordered(in map[string]*onnxio.Tensor) ([]*onnxio.Tensor, error) {
	list := p.given[:0]
	for _, v := range p.inputs {
		t := in[v.name]
		if t == nil {
			return nil, fmt.Errorf("input %q is missing: the model takes %s", v.name, p.inputNames())
		}
		list = append(list, t)
	}
	p.given = list
	if len(in) > len(p.inputs) {
		for name := range in {
			if !slices.ContainsFunc(p.inputs, func(v *value) bool { return v.name == name }) {
				return nil, fmt.Errorf("input %q is unknown: the model takes %s", name, p.inputNames())
			}
		}
	}
	return list, nil
}

func (p *Plan) inputNames() string {
	names := []string{}
	for _, v := range p.inputs {
		names = append(names, v.name)
	}
	return strings.Join(names, ", ")
}

// Run computes the outputs from the inputs, both by name. The tensors it gives are the caller's. It
// ends early when ctx does.
func (p *Plan) Run(ctx context.Context, in map[string]*onnxio.Tensor) (out map[string]*onnxio.Tensor,
	err error) {
	defer Recover(&err)
	list, err := p.ordered(in)
	if err != nil {
		return nil, err
	}
	if err := p.run(ctx, list); err != nil {
		return nil, err
	}
	out = make(map[string]*onnxio.Tensor, len(p.outputs))
	for i, v := range p.results {
		t := v.Clone()
		t.Name = p.names[i]
		out[t.Name] = t
	}
	return out, nil
}

// ArenaBytes is the size of the memory that all intermediate values share.
func (p *Plan) ArenaBytes() int64 { return int64(p.size) * 4 }

// Profile turns per-step timing on or off and clears what was measured.
func (p *Plan) Profile(on bool) {
	if p.times = nil; on {
		p.times, p.timed = make([]time.Duration, len(p.steps)), 0
	}
	for _, s := range p.steps {
		for _, t := range s.teams {
			for _, inner := range t.steps {
				inner.time.Store(0)
			}
		}
	}
}

// Steps describes the plan.
func (p *Plan) Steps() []StepInfo {
	var out []StepInfo
	measured := p.times != nil && p.timed > 0
	for i, s := range p.steps {
		if s.portions == nil {
			info := s.info(p.pool.Threads())
			if measured {
				info.Time = p.times[i] / time.Duration(p.timed)
			}
			out = append(out, info)
			continue
		}
		for j, inner := range s.teams[0].steps {
			info := inner.info(1)
			info.Portions = s.portions.count
			info.FLOPs *= int64(info.Portions)
			info.Bytes *= int64(info.Portions)
			info.Estimate = info.Estimate * time.Duration(info.Portions) / time.Duration(len(s.teams))
			if measured {
				info.Time = s.spent(j, p.timed)
			}
			out = append(out, info)
		}
	}
	return out
}

// info describes a step that so many threads run.
func (s *step) info(threads int) StepInfo {
	info := StepInfo{Name: s.op.origin, Op: s.op.node.OpType, Kernel: s.kernel, Chunks: s.chunks, FLOPs: s.flops,
		Bytes: s.bytes, Estimate: s.estimate(threads)}
	if len(s.op.out) == 0 || s.op.out[0] == nil {
		return info
	}
	y := s.op.out[0]
	info.Shape, info.Type = y.dims, y.typeName()
	switch {
	case y.layout != nil:
		info.Layout = fmt.Sprintf("NCHWc%d halo %d", y.layout.Lanes, y.layout.Halo)
	case y.lines != nil:
		info.Layout = fmt.Sprintf("NCHWc%d %s halo %d", y.lines.Lanes, info.Type, y.lines.Halo)
	}
	return info
}

// typeName is the type of v's numbers as they lie in memory.
func (v *value) typeName() string {
	if v.lines != nil && v.lines.Lanes == kernels.BF16Lanes {
		return "bf16"
	}
	return v.info.Type.String()
}

// estimate is what the cost model expects of a step.
func (s *step) estimate(threads int) time.Duration {
	return time.Duration(s.cost() * kernels.NanosecondsPerCycle / float64(min(threads, s.chunks)))
}

// cost is the cycles of a step, or those that its bytes take.
func (s *step) cost() float64 {
	if s.cycles == 0 {
		return float64(s.bytes) / kernels.BytesPerNanosecond / kernels.NanosecondsPerCycle
	}
	return s.cycles
}

// Inputs lists the names and shapes the plan was compiled for, in the model's order.
func (p *Plan) Inputs() []*onnxio.ValueInfo {
	var out []*onnxio.ValueInfo
	for _, v := range p.inputs {
		out = append(out, onnxio.TensorInfo(v.name, v.info.Type, v.info.Shape...))
	}
	return out
}

// OutputNames lists the outputs in the model's order; with Options.Keep, every node's follow.
func (p *Plan) OutputNames() []string { return p.names }

// sortedKeys lists a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
