package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// Trainer trains a model step by step, for loops of one's own; Run is made of one. It is
// not safe for concurrent use.
type Trainer struct {
	cfg     Config
	model   *onnxio.Model
	graph   *onnxio.Model // with the loss; from the trunk's features on
	trunk   *trunk        // the frozen first layers; nil: none
	loss    Loss
	kind    kind
	output  string
	takes   spec.Input // the form of the model's images
	pool    *parallel.Pool
	trainer *engine.Trainer
	rules   []scaled // what the engine applies; nil when apart
	apart   *apart   // makes the steps where the engine cannot
	ranks   *ranks   // the other processes; nil: there are none
	rate    float64  // of SetRate
	calls   int      // of Step

	perEpoch int64 // steps of the optimiser, for rules that begin with an epoch
}

// NewTrainer prepares to train a model, which is not changed, by the loss and the optimiser of cfg.
// The learning rate is cfg.LR until SetRate changes it: schedules, averages of the weights and epochs
// are Run's. With a cfg.Comm every rank makes a Trainer, which starts from the weights of rank 0's.
// Close frees what it holds.
func NewTrainer(model *onnxio.Model, cfg Config) (*Trainer, error) {
	cfg.Epochs, cfg.Batch = max(cfg.Epochs, 1), max(cfg.Batch, 1)
	for field, set := range map[string]bool{"schedule": cfg.Schedule.Kind != "" &&
		cfg.Schedule.Kind != Constant || cfg.Schedule.Warmup > 0,
		"unfreeze": len(cfg.Unfreeze) > 0, "cache_features": cfg.CacheFeatures, "whiten": cfg.Whiten > 0,
		"ema": cfg.EMA > 0, "swa": cfg.SWA.Start > 0,
		"class_weights of a data set": cfg.ClassWeights.Balanced,
		"sampler":                     cfg.Sampler != "", "sample_weights": cfg.SampleWeights,
		"epochs of a group": slices.ContainsFunc(cfg.Groups, func(g Group) bool { return g.Epochs > 0 })} {
		if set {
			return nil, fmt.Errorf("a Trainer has no %s: it belongs to Run", field)
		}
	}
	t := &Trainer{cfg: cfg, model: withOwnInitializers(model), rate: cfg.LR}
	if len(model.Graph.Inputs) == 0 {
		return nil, fmt.Errorf("the model has no input")
	}
	if _, err := cfg.Rule(); err != nil {
		return nil, err
	}
	t.takes = formOf(model)
	if err := t.makeGraph(); err != nil {
		return nil, err
	}
	if err := check.Model(t.graph); err != nil {
		return nil, err
	}
	t.kind = t.loss.kind(t.maps(), !t.maps(), t.logs())
	if err := t.start(); err != nil {
		return nil, err
	}
	if err := t.connect(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// maps says that the model's output is a map.
func (t *Trainer) maps() bool { return isMap(t.model.Graph.Outputs[0]) }

// logs says that the model's output is log-probabilities.
func (t *Trainer) logs() bool { return spec.End(t.model).Scale == spec.LogProbabilities }

// makeGraph makes the training graph.
func (t *Trainer) makeGraph() (err error) {
	if t.graph, t.loss, err = t.cfg.trainingGraph(t.channelsFirst(t.model)); err == nil {
		t.output = t.graph.Graph.Outputs[0].Name
	}
	return err
}

// start makes the engine's trainer and the pool.
func (t *Trainer) start() (err error) {
	if t.ranks, err = newRanks(t.cfg.Comm); err != nil {
		return err
	}
	threads := t.cfg.Threads
	if threads == 0 && t.ranks != nil {
		if threads, err = t.ranks.threads(t.ranks.ctx); err != nil {
			t.ranks.close()
			return err
		}
	}
	t.pool = parallel.New(threads)
	if err = t.cutTrunk(); err == nil {
		err = t.makeTrainer()
	}
	if err != nil {
		t.Close()
	}
	return err
}

// cutTrunk parts the frozen first layers from the training graph.
func (t *Trainer) cutTrunk() error {
	t.trunk = nil
	if len(t.cfg.Freeze) == 0 {
		return nil
	}
	names, err := t.cfg.trained(t.model, t.graph)
	if err != nil {
		return err
	}
	if t.trunk, err = divide(t.model, t.graph, names); err != nil || t.trunk == nil {
		return err
	}
	t.trunk.pool, t.trunk.bf16 = t.pool, t.cfg.Precision == "bf16"
	t.graph = t.trunk.head(t.graph)
	return nil
}

func (t *Trainer) makeTrainer() error {
	names, err := t.cfg.trained(t.model, t.graph)
	if err != nil {
		return err
	}
	t.rules, t.apart = nil, nil
	opt := engine.TrainOptions{Pool: t.pool, Loss: LossName, Params: names, Seed: t.cfg.Seed,
		BF16: t.cfg.Precision == "bf16"}
	if t.ranks != nil {
		opt.Exchange, opt.SyncNorm = t.ranks, t.cfg.SyncBN
	}
	if !t.cfg.needsApart() {
		if t.rules, opt.Own, err = t.makeRules(); err != nil {
			return err
		}
		opt.Update = t.rules[0].Rule
	}
	if t.trainer, err = engine.NewTrainer(t.graph, opt); err != nil {
		return err
	}
	if t.rules == nil {
		t.apart, err = newApart(t)
	}
	return err
}

// Close ends the trainer's goroutines. The Comm stays open.
func (t *Trainer) Close() {
	t.pool.Close()
	t.ranks.close()
	t.ranks = nil
}

// Params lists the trained parameters.
func (t *Trainer) Params() []string { return slices.Clone(t.trainer.Params()) }

// Rate is the learning rate of the next step.
func (t *Trainer) Rate() float64 { return t.rate }

// SetRate changes the learning rate; a group's is scaled by its lr_scale.
func (t *Trainer) SetRate(lr float64) { t.setRates(lr, 0, false) }

// setRates tells the optimisers the rate, and the momentum where it moves.
func (t *Trainer) setRates(lr, momentum float64, moves bool) {
	t.rate = lr
	for _, u := range t.allRules() {
		u.SetRate(lr * u.scale)
		if p, ok := u.Rule.(MomentumRule); ok && moves {
			p.SetMomentum(momentum)
		}
	}
}

// allRules are those of the groups, or, where they are applied apart, of the parameters.
func (t *Trainer) allRules() []scaled {
	if t.apart != nil {
		return t.apart.rules
	}
	return t.rules
}

// updates is the number of steps that the optimiser has made.
func (t *Trainer) updates() int64 {
	if t.apart != nil {
		return t.apart.updates
	}
	return t.trainer.Steps()
}

// Step trains on a batch: x is the model's input [N,C,H,W], target what the loss compares its output with
// (Loss.Targets). It gives the batch's loss before the step. With Accumulate every so many calls make a step
// of the optimiser. A loss that is not finite is a *DivergedError. With a Comm the batch is this rank's part
// of the joint batch, and the loss that of all parts: the ranks' losses weighted by their images.
func (t *Trainer) Step(ctx context.Context, x, target *onnxio.Tensor) (loss float64, err error) {
	if len(x.Dims) == 0 {
		return 0, fmt.Errorf("the input is a single number: a batch is wanted")
	}
	t.setRates(t.rate, 0, false)
	t.calls++
	in, err := t.inputs(ctx, x, target)
	if err != nil {
		return 0, err
	}
	p := whole(int(x.Dims[0]))
	if t.ranks != nil {
		rows, err := t.ranks.gather(ctx, float64(p.images))
		if err != nil {
			return 0, err
		}
		p.total = 0
		for rank, row := range rows {
			if rank == t.ranks.rank() {
				p.first = p.total
			}
			p.total += int(row[0])
		}
	}
	loss, _, err = t.step(ctx, in, p, t.calls%max(1, t.cfg.Accumulate) == 0, nil)
	return loss, err
}

// step trains on a part of a batch; flush says that the gradients so far make a step of the optimiser. It
// gives the loss of the whole batch, and what after counts of the part once the step is made, of each rank.
func (t *Trainer) step(ctx context.Context, in map[string]*onnxio.Tensor, p portion, flush bool,
	after func() ([]float64, error)) (loss float64, rows [][]float64, err error) {
	if t.ranks != nil {
		t.ranks.begin(ctx, p)
		ctx = context.WithoutCancel(ctx) // the ranks make a step together
	}
	if t.apart == nil {
		err = t.trainer.Step(ctx, in)
	} else {
		err = t.apart.step(ctx, in, p.total, flush)
	}
	if err != nil {
		return 0, nil, err
	}
	var counts []float64
	if after != nil {
		if counts, err = after(); err != nil {
			return 0, nil, err
		}
	}
	loss, rows = float64(t.trainer.Output(LossName).Float32s()[0]), [][]float64{counts}
	if t.ranks != nil {
		if loss, rows, err = t.jointLoss(loss, counts); err != nil {
			return 0, nil, err
		}
	}
	if !finite(loss) {
		return 0, nil, &DivergedError{Epoch: 1, Step: int(t.trainer.Steps()),
			What: fmt.Sprintf("the loss is %v", loss)}
	}
	return loss, rows, nil
}

// jointLoss is the loss of all parts of a batch, and what each rank has counted.
func (t *Trainer) jointLoss(loss float64, counts []float64) (float64, [][]float64, error) {
	if loss *= t.ranks.portion.share(); t.ranks.portion.images == 0 {
		loss = 0
	}
	rows, err := t.ranks.gather(t.ranks.ctx, append([]float64{loss}, counts...)...)
	if err != nil {
		return 0, nil, err
	}
	loss = 0
	for i, row := range rows {
		loss, rows[i] = loss+row[0], row[1:]
	}
	return loss, rows, nil
}

// Output is what the model gave in the last Step: a copy.
func (t *Trainer) Output() *onnxio.Tensor {
	if y := t.trainer.Output(t.output); y != nil {
		return y.Clone()
	}
	return nil
}

// Gradients are those of the last Step, by parameter. An optimiser that needs no whole gradients uses large
// ones up in the middle of the step: they are absent.
func (t *Trainer) Gradients() map[string]*onnxio.Tensor {
	out := map[string]*onnxio.Tensor{}
	for _, name := range t.trainer.Params() {
		if g, err := t.trainer.Gradient(name); err == nil {
			out[name] = g
		}
	}
	return out
}

// Export is the model with the weights of this moment.
func (t *Trainer) Export() (*onnxio.Model, error) {
	m := withOwnInitializers(t.model)
	return m, t.trainer.Export(m)
}

// Evaluate scores the weights of this moment on a data set, with the metrics of Config.Metrics.
func (t *Trainer) Evaluate(ctx context.Context, ds data.Dataset) (Score, error) {
	m, err := t.Export()
	if err != nil {
		return Score{}, err
	}
	c := t.cfg
	c.Loss = t.loss.Name
	return c.measure(ctx, native(m, t.pool), ds, EvaluationBatch(ds.Shape()), t.kind.logs)
}

// State is a Trainer at one moment: with it another one of the same model and Config
// goes on to the same bits.
type State struct {
	steps, updates int64
	calls          int
	rate           float64
	weights        *onnxio.Model
	slots          map[string][]*onnxio.Tensor
	sums           map[string]*onnxio.Tensor // of gradients, with images in them
	images         int
	fresh          bool // parameters without states were frozen until now
}

// State copies what the trainer is made of.
func (t *Trainer) State() (*State, error) {
	s := &State{steps: t.trainer.Steps(), updates: t.updates(), calls: t.calls, rate: t.rate,
		weights: withOwnInitializers(t.model),
		slots:   map[string][]*onnxio.Tensor{}, sums: map[string]*onnxio.Tensor{}}
	if err := t.trainer.Export(s.weights); err != nil {
		return nil, err
	}
	for i, name := range t.trainer.Params() {
		for k := range t.slotCount(i) {
			slot, err := t.slot(i, k)
			if err != nil {
				return nil, err
			}
			s.slots[name] = append(s.slots[name], slot)
		}
		if t.apart != nil && t.apart.images > 0 {
			s.images, s.sums[name] = t.apart.images, vector(t.apart.sums[i])
		}
	}
	return s, nil
}

// Restore puts the trainer where State was taken.
func (t *Trainer) Restore(s *State) error {
	if err := t.trainer.Import(s.weights); err != nil {
		return err
	}
	for i, name := range t.trainer.Params() {
		if n := t.slotCount(i); len(s.slots[name]) != n && !(s.fresh && s.slots[name] == nil) {
			return fmt.Errorf("the checkpoint has %d states of %q, optimizer %s has %d", len(s.slots[name]),
				name, t.cfg.Optimizer, n)
		}
		for k, slot := range s.slots[name] {
			if err := t.setSlot(i, k, slot); err != nil {
				return err
			}
		}
		if t.apart == nil {
			continue
		}
		clear(t.apart.sums[i])
		if s.images == 0 {
			continue
		}
		if s.sums[name] == nil && s.fresh {
			continue
		}
		if s.sums[name] == nil {
			return fmt.Errorf("the checkpoint lacks the gradient of %q", name)
		}
		if err := fill(t.apart.sums[i], s.sums[name], name); err != nil {
			return err
		}
	}
	t.trainer.SetSteps(s.steps)
	if t.apart != nil {
		t.apart.updates, t.apart.images = s.updates, s.images
	}
	t.calls, t.rate = s.calls, s.rate
	return nil
}

// slotCount is the number of state values of the i-th parameter.
func (t *Trainer) slotCount(i int) int {
	if t.apart != nil {
		return t.apart.rules[i].Slots()
	}
	return t.rules[0].Slots()
}

// slot copies the k-th state of the i-th parameter.
func (t *Trainer) slot(i, k int) (*onnxio.Tensor, error) {
	if t.apart != nil {
		return vector(t.apart.slots[i][k]), nil
	}
	return t.trainer.Slot(t.trainer.Params()[i], k)
}

func (t *Trainer) setSlot(i, k int, slot *onnxio.Tensor) error {
	name := t.trainer.Params()[i]
	if t.apart != nil {
		return fill(t.apart.slots[i][k], slot, name)
	}
	if like := t.model.Graph.Initializer(name); len(slot.Dims) == 1 && slot.Size() == like.Size() {
		// kept apart, as the states of groups once were
		slot = &onnxio.Tensor{Name: slot.Name, Type: slot.Type, Dims: like.Dims, Raw: slot.Raw}
	}
	return t.trainer.SetSlot(name, k, slot)
}

func vector(x []float32) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Float, int64(len(x)))
	copy(t.Float32s(), x)
	return t
}

func fill(to []float32, from *onnxio.Tensor, name string) error {
	if from.Type != onnxio.Float || int(from.Size()) != len(to) {
		return fmt.Errorf("the checkpoint's state of %q is %v %v; here it is float32 of %d", name, from.Type,
			from.Dims, len(to))
	}
	copy(to, from.Float32s())
	return nil
}

// ErrStop, given by a function of Observer, ends a run as if it had been its last epoch: the epoch in
// progress ends with the step, is validated and saved.
var ErrStop = errors.New("stopped by a callback")

// Moment is where a run is when it calls OnStep or OnEpoch.
type Moment struct {
	Epoch, Step int     // from 1
	Loss        float64 // of the step, or mean of the epoch
	History     []Epoch // finished epochs
	Trainer     *Trainer
}
