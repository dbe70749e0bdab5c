package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Update is an optimiser's rule.
type Update interface {
	// Slots is the number of state values the rule keeps for each parameter element.
	Slots() int
	// Begin announces update number step = 1, 2, ...
	Begin(step int64)
	// Apply updates p by its gradient g, element by element. It is called concurrently on disjoint ranges.
	Apply(p, g []float32, slots [][]float32)
}

// TrainOptions of a Trainer.
type TrainOptions struct {
	// Pool runs the steps; nil is the process-wide pool.
	Pool *parallel.Pool
	// Loss names the graph output to minimise, a scalar.
	Loss string
	// Params names the initializers to train; nil means those that Trainable finds. With an empty list a step
	// runs forward alone, and moves the running statistics.
	Params []string
	// Update is the optimiser; nil computes gradients only.
	Update Update
	// Own are the rules of single parameters that Update is not for. They keep as many slots.
	Own map[string]Update
	// Seed drives Dropout.
	Seed uint64
	// Reference keeps to the reference kernels.
	Reference bool
	// NoWinograd keeps to direct convolutions, whose rounding errors are smaller.
	NoWinograd bool
	// BF16 runs convolutions and what lies between them on maps in bf16, where the processor can (BF16Runs).
	// Parameters, their gradients, statistics, the loss and the optimiser stay in float32.
	BF16  bool
	twins bool // also where it cannot: for tests
	// Exchange adds up the gradients of the processes of a data-parallel run; nil: there is one.
	Exchange Exchange
	// SyncNorm makes BatchNormalization take the statistics of the joint batch, not of this process's part.
	SyncNorm bool
}

// Trainer runs training steps on a training graph: model, loss, and BatchNormalization and Dropout in
// training mode. It holds the parameters and the optimiser's state; plans for batches of different shapes
// share them. It is not safe for concurrent use.
type Trainer struct {
	model   *onnxio.Model
	opt     TrainOptions
	params  map[string]*stored
	names   []string // of the trained parameters, sorted
	rules   []Update // each once
	plans   []*trainPlan
	last    *trainPlan
	weights Weights
	steps   int64
	sums    [][]float32         // of Exchange, by bucket
	forms   map[string]*packing // in which gradients are exchanged
}

// stored is a parameter or a running statistic.
type stored struct {
	name    string
	dims    []int64
	buf     *buffer
	pack    *packing // nil: plain
	slots   []*buffer
	trained bool
	settled bool // the first plan has chosen its form
}

// size is the number of floats in use in buf and slots.
func (s *stored) size() int {
	if s.pack != nil {
		return s.pack.conv.WeightSize()
	}
	n := int64(1)
	for _, d := range s.dims {
		n *= d
	}
	return int(n)
}

type trainPlan struct {
	*Plan
	grads  map[string]*value
	views  map[string]*onnxio.Tensor
	shapes map[string][]int64
}

// NewTrainer prepares the training of m. Plans are compiled when Step meets a shape for the first time.
func NewTrainer(m *onnxio.Model, opt TrainOptions) (*Trainer, error) {
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	t := &Trainer{model: withUnbiasedVariance(m), opt: opt, params: map[string]*stored{}}
	trained := opt.Params
	if trained == nil {
		if trained, err = Trainable(m); err != nil {
			return nil, err
		}
		slices.Sort(trained)
	}
	for _, name := range trained {
		if err := t.hold(name, true); err != nil {
			return nil, err
		}
	}
	for _, name := range runningNames(m) {
		if err := t.hold(name, false); err != nil {
			return nil, err
		}
	}
	for _, name := range t.names {
		if u := t.rule(name); u != nil && !slices.Contains(t.rules, u) {
			t.rules = append(t.rules, u)
		}
	}
	t.model = withoutData(t.model, t.params)
	return t, nil
}

// rule is what updates a parameter.
func (t *Trainer) rule(name string) Update {
	if u := t.opt.Own[name]; u != nil {
		return u
	}
	return t.opt.Update
}

// withoutData is m without the numbers of the parameters, which the trainer has copies of.
func withoutData(m *onnxio.Model, params map[string]*stored) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Initializers = slices.Clone(g.Initializers)
	for i, init := range g.Initializers {
		if params[init.Name] != nil {
			g.Initializers[i] = &onnxio.Tensor{Name: init.Name, Type: init.Type, Dims: init.Dims}
		}
	}
	return &out
}

func (t *Trainer) hold(name string, trained bool) error {
	init := t.model.Graph.Initializer(name)
	if init == nil || init.Type != onnxio.Float {
		return fmt.Errorf("parameter %q is no float32 initializer of the model", name)
	}
	if t.params[name] != nil {
		return fmt.Errorf("parameter %q is named twice, or is a running statistic", name)
	}
	s := &stored{name: name, dims: init.Dims, trained: trained}
	s.buf = persistent(s.size())
	copy(s.buf.data, init.Float32s())
	t.params[name] = s
	if trained {
		t.names = append(t.names, name)
	}
	return nil
}

func persistent(n int) *buffer {
	n = roundUp(max(n, 1))
	return &buffer{floats: n, data: kernels.AlignedSlice(n), persistent: true, shared: 2}
}

// muchMemory is the number of floats of parameters from which on a collection in the first plan pays.
const muchMemory = 1 << 24

// compile makes the plan for inputs of these shapes.
func (t *Trainer) compile(shapes map[string][]int64) (*trainPlan, error) {
	held, floats := map[string]bool{}, 0
	for name, s := range t.params {
		held[name] = true
		floats += s.size()
	}
	opt := Options{Pool: t.opt.Pool, Shapes: shapes, Reference: t.opt.Reference, NoWinograd: t.opt.NoWinograd,
		BF16: t.opt.BF16 && !t.opt.Reference, twins: t.opt.twins}
	g, err := importModel(t.model, opt, held, nil)
	if err != nil {
		return nil, err
	}
	if err := g.known(); err != nil {
		return nil, err
	}
	for name, s := range t.params {
		g.values[name].store = s
	}
	if err := simplify(g, true); err != nil {
		return nil, err
	}
	if err := g.after(simplifyPass.name); err != nil {
		return nil, err
	}
	if err := straighten(g); err != nil {
		return nil, err
	}
	loss := g.values[t.opt.Loss]
	if loss == nil || !loss.output {
		return nil, fmt.Errorf("the graph has no output %q to minimise", t.opt.Loss)
	}
	grads := map[*value]*value{}
	if len(t.names) > 0 {
		if grads, err = differentiate(g, loss); err != nil {
			return nil, err
		}
		if err := g.after("differentiate"); err != nil {
			return nil, err
		}
	}
	// The gradients join the outputs while the later passes run, so that they stay readable and plain.
	first := len(g.outputs)
	var order []*value
	for _, name := range t.names {
		if v := g.values[name]; grads[v] != nil {
			grads[v].output = true
			g.outputs, order = append(g.outputs, grads[v]), append(order, v)
		}
	}
	var posted []string
	if t.opt.Exchange != nil {
		posted = backwardOrder(g, order, grads)
	}
	g.training, g.bf16 = true, opt.runsBF16()
	runningInPlace(g)
	g.prune()
	if g.bf16 {
		foldNarrow(g)
	}
	t.settle(g, grads)
	if len(posted) > 0 && t.forms == nil {
		if err := t.agreeOnForms(posted, grads, g); err != nil {
			return nil, err
		}
	}
	if len(t.plans) == 0 && floats >= muchMemory {
		// The caller may have let go of the model, and packing of the parameters: before the optimiser's
		// state and the arena come, the system has that memory back.
		debug.FreeOSMemory()
	}
	p := &trainPlan{grads: map[string]*value{}, views: map[string]*onnxio.Tensor{}, shapes: shapes}
	var arena []float32
	for _, other := range t.plans {
		if len(other.arena) > len(arena) {
			arena = other.arena // plans never run at the same time
		}
	}
	var early earlyUpdates
	var buckets []*bucket
	var refused error
	var drawn uint64 // ops so far that draw
	p.Plan, err = t.weights.finish(g, opt, additions{
		sync: t.syncs(),
		take: func(l *lowering, i int) bool {
			if early.at == nil {
				for i, v := range order {
					p.grads[v.name] = g.outputs[first+i]
				}
				early = t.planEarly(g, p.grads)
				buckets = t.planBuckets(g, posted, p.grads)
			}
			if o := g.ops[i]; t.opt.SyncNorm && refused == nil {
				refused = unsynchronized(o)
			}
			if o := g.ops[i]; o.node.Def.Random && !o.folded() {
				drawn++
				t.lowerDrawn(l, o, drawn)
				return true
			}
			s := early.streamed[i]
			if s != nil {
				t.lowerStreamed(l, g.ops[i], s)
			}
			return s != nil
		},
		after: func(l *lowering, i int) {
			if names := early.at[i]; len(names) > 0 {
				t.lowerUpdate(l, p.grads, names)
			}
			for _, b := range buckets {
				if b.after == i {
					t.lowerPost(l, b, p.grads)
				}
			}
		},
		end: func(l *lowering) {
			if len(buckets) > 0 {
				t.lowerSums(l, buckets, p.grads)
			}
			t.lowerUpdate(l, p.grads, early.late)
		},
		brief: func(i int) bool {
			return i >= first && early.has(order[i-first].name)
		},
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	if len(arena) < p.size {
		arena = kernels.AlignedSlice(p.size)
	}
	p.outputs, p.names = p.outputs[:first], p.names[:first]
	p.attach(arena)
	for name := range early.names {
		delete(p.grads, name)
	}
	for i, view := range p.results {
		view.Name = p.names[i]
		p.views[view.Name] = view
	}
	t.plans = append(t.plans, p)
	return p, nil
}

// syncs is the exchange through which BatchNormalization's statistics go; nil where they are the part's own.
func (t *Trainer) syncs() Exchange {
	if t.opt.SyncNorm {
		return t.opt.Exchange
	}
	return nil
}

// runningInPlace lets the statistics that BatchNormalization puts out live where it reads the old ones.
func runningInPlace(g *graph) {
	for _, o := range g.ops {
		if o.node.Def.Running == nil || o.node.Int("training_mode", 0) == 0 {
			continue
		}
		for i := 1; i <= 2 && i < len(o.out); i++ {
			if in := o.in[o.node.Def.Running[i-1]]; o.out[i] != nil && in != nil && in.kind == param {
				o.out[i].kind, o.out[i].store = param, in.store
			}
		}
	}
}

// settle chooses the form in which parameters are stored: packed where every reader is a convolution of the
// same form and the gradient comes straight from one.
func (t *Trainer) settle(g *graph, grads map[*value]*value) {
	for _, name := range t.names {
		v := g.values[name]
		form := t.form(g, v, grads[v])
		s := v.store
		if !s.settled {
			s.settled = true
			s.repack(form)
		} else if s.pack != nil && (form == nil || form.key != s.pack.key) {
			s.unpack()
			t.plans = nil // they take the weights packed
		}
		if s.pack != nil {
			grads[v].pack = form
		}
	}
}

// form is the packed form that suits every reader of v, nil when there is none.
func (t *Trainer) form(g *graph, v, dv *value) *packing {
	if t.opt.Reference || dv == nil || dv.producer == nil || len(dv.users) > 0 {
		return nil
	}
	if p, ok := conv(dv.producer); !ok || p.w != dv {
		return nil
	}
	var form *packing
	for _, o := range append([]*op{dv.producer}, v.users...) {
		p, ok := conv(o)
		if !ok || p.w != v && p.w != dv || !fastConv(o) {
			return nil
		}
		f, err := g.trainedForm(o)
		if err != nil || form != nil && form.key != f.key {
			return nil
		}
		form = &f
	}
	return form
}

// trainedForm is the form in which a convolution of training reads its weights, or writes their gradient.
func (g *graph) trainedForm(o *op) (packing, error) {
	if g.bf16 && trainsBF16(o) {
		if isFoldedConv(o) {
			return packing{}, errors.New("the weights of folded maps are made of plain ones")
		}
		taps, err := weightTaps(o)
		if err != nil {
			return packing{}, err
		}
		return packing{key: taps.Form(), conv: taps}, nil
	}
	_, f, err := planConv(o)
	return f, err
}

// repack changes the form in which s and its state are stored; they hold plain numbers before.
func (s *stored) repack(form *packing) {
	if form == nil {
		return
	}
	plainSize := s.size()
	s.pack = form
	move := func(old *buffer) *buffer {
		b := persistent(s.size())
		form.conv.Pack(b.data, old.data[:plainSize])
		return b
	}
	s.buf = move(s.buf)
	for i, slot := range s.slots {
		s.slots[i] = move(slot)
	}
}

// unpack goes back to plain numbers for good: the readers of a later plan want them so.
func (s *stored) unpack() {
	move := func(old *buffer) *buffer {
		t := s.plain(old)
		b := persistent(len(t.Float32s()))
		copy(b.data, t.Float32s())
		return b
	}
	s.buf = move(s.buf)
	for i, slot := range s.slots {
		s.slots[i] = move(slot)
	}
	s.pack = nil
}

// Step runs forward, backward and update on one batch. in holds every input of the training graph; its shapes
// may differ from call to call. It does not begin when ctx has ended.
func (t *Trainer) Step(ctx context.Context, in map[string]*onnxio.Tensor) (err error) {
	defer Recover(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := t.planFor(in)
	if err != nil {
		return err
	}
	t.steps++
	for _, u := range t.rules {
		u.Begin(t.steps)
	}
	p.draws = mix(t.opt.Seed) + uint64(t.steps)
	t.last = p
	// A step is made as a whole or not at all: parameters change in its middle.
	list, err := p.ordered(in)
	if err == nil {
		err = p.run(context.Background(), list)
	}
	if err != nil {
		t.steps--
		return err
	}
	return nil
}

func (t *Trainer) planFor(in map[string]*onnxio.Tensor) (*trainPlan, error) {
	for i := len(t.plans) - 1; i >= 0; i-- {
		if t.plans[i].matches(in) {
			return t.plans[i], nil
		}
	}
	shapes := map[string][]int64{}
	for _, info := range t.model.Graph.Inputs {
		x := in[info.Name]
		if x == nil {
			if t.model.Graph.Initializer(info.Name) != nil {
				continue
			}
			return nil, fmt.Errorf("input %q is missing", info.Name)
		}
		shapes[info.Name] = append([]int64{}, x.Dims...)
	}
	return t.compile(shapes)
}

func (p *trainPlan) matches(in map[string]*onnxio.Tensor) bool {
	for _, v := range p.inputs {
		if x := in[v.name]; x == nil || !equalDims(x.Dims, v.dims) {
			return false
		}
	}
	return true
}

// Steps is the number of updates made.
func (t *Trainer) Steps() int64 { return t.steps }

// SetSteps tells a resumed trainer how many updates were made before.
func (t *Trainer) SetSteps(n int64) { t.steps = n }

// Params lists the trained parameters.
func (t *Trainer) Params() []string { return t.names }

// Output is a graph output of the last Step: a view that the next Step overwrites. nil when there is none.
func (t *Trainer) Output(name string) *onnxio.Tensor {
	if t.last == nil {
		return nil
	}
	return t.last.views[name]
}

// Plan is the plan of the last Step, for its description.
func (t *Trainer) Plan() *Plan {
	if t.last == nil {
		return nil
	}
	return t.last.Plan
}
