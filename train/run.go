package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/train/data"
)

// Observer follows a run; nil functions are skipped.
type Observer struct {
	// Start is told the steps of an epoch and the number of parameters.
	Start func(steps, parameters int)
	// Step is called after every step with the images so far and the mean loss of the epoch so far.
	Step func(epoch, step, images int, loss float64)
	// Epoch is called when an epoch is finished, validated and saved.
	Epoch func(Epoch)
	// OnStep and OnEpoch are Step and Epoch with a look at the model; they must not change
	// Moment's Trainer. ErrStop ends the run as if this were its last epoch; another error ends it
	// where it is, with a checkpoint.
	OnStep, OnEpoch func(Moment) error
}

// Result of a run.
type Result struct {
	History   []Epoch
	Best      int // index in History
	Model     *onnxio.Model
	Loss      string     // which loss was used
	Stopped   bool       // the run ended early: nothing got better any more, or a callback gave ErrStop
	Confusion *Confusion // after the last epoch, when a metric asked for needs it

	kind    kind         // of what the model gives
	classes []ClassScore // after the last epoch
}

// InterruptedError says that the context ended a run; Saved is the file with the weights of that moment, ""
// when there was no folder, and Checkpoint the file from which Resume goes on.
type InterruptedError struct {
	Epoch, Step int
	Saved       string
	Checkpoint  string
	Err         error
}

// Error says where the run stopped and what is on disk.
func (e *InterruptedError) Error() string {
	s := fmt.Sprintf("interrupted in epoch %d after step %d", e.Epoch, e.Step)
	if e.Saved != "" {
		s += fmt.Sprintf("; the weights are in %s", e.Saved)
	}
	return s
}

// Unwrap is the context's error.
func (e *InterruptedError) Unwrap() error { return e.Err }

// run is the state of Run.
type run struct {
	*Trainer
	recipe   Recipe
	splits   data.Splits
	dir      string
	obs      Observer
	result   *Result
	loader   *data.Loader  // nil where batches are copied from memory
	sampler  *data.Sampler // nil: every image once an epoch
	weights  []float64     // of the images' losses; nil: all alike
	batches  int           // of an epoch
	ended    bool          // by ErrStop
	ending   bool          // ErrStop was given here
	stopping bool          // some rank was interrupted
	resumed  bool          // from a checkpoint
	unlock   func()        // of dir
	digest   func() (string, error)

	at      int     // the epoch in progress, from 1
	done    int     // batches of it that are done
	latest  float64 // loss of the last step
	lossSum float64
	right   int
	counted int
	seen    int
	plateau Plateau

	// averages: with EMA of the running statistics, with SWA of the parameters
	means    map[string]*onnxio.Tensor
	stopped  []string                  // parameters of groups whose epochs are over that means has too
	averaged int                       // epochs in SWA's
	next     map[string]*onnxio.Tensor // SWA's with the epoch in progress, until that is finished

	cached, validated *cache // of features, of the images to train on and of the others; nil: none

	started time.Time     // of the epoch, or of its part since a resumption
	spent   time.Duration // on the epoch before that
	kept    *Checkpoint   // of the epoch's start or later
}

// Run trains model on the splits and writes its files into dir ("" writes none). The model is changed in
// place: it holds the weights of the last finished epoch (with EMA or SWA their average), labels and
// preprocessing. After every epoch dir/model.onnx is replaced atomically, so that it is always whole and from
// a finished epoch. When ctx ends, the step in progress is finished, the weights and a checkpoint are saved
// and the error is an *InterruptedError. Numbers that are not finite end the run with a *DivergedError.
func Run(ctx context.Context, model *onnxio.Model, splits data.Splits, cfg Config, dir string,
	obs Observer) (*Result, error) {
	return Recipe{Config: cfg}.Run(ctx, model, splits, dir, obs)
}

// Run is the function of the same name; the recipe is written into dir.
func (recipe Recipe) Run(ctx context.Context, model *onnxio.Model, splits data.Splits, dir string,
	obs Observer) (*Result, error) {
	return recipe.run(ctx, model, splits, dir, obs, nil)
}

// Resume goes on from a checkpoint of the same recipe. Only fields that RecipeFields lets move may
// differ, which cannot change the numbers so far; and the number of ranks with the batch, where the
// joint batch stays the same.
func (recipe Recipe) Resume(ctx context.Context, from *Checkpoint, splits data.Splits, dir string,
	obs Observer) (*Result, error) {
	was := from.Recipe
	if n, ranks := max(1, from.Ranks), recipe.ranks(); n != ranks {
		if was.Batch*n != recipe.Batch*ranks {
			return nil, fmt.Errorf(
				"the checkpoint was made by %d ranks with a batch of %d each, and here are %d with %d: "+
					"go on with as many ranks, or with a batch that makes %d together", n, was.Batch, ranks,
				recipe.Batch, was.Batch*n)
		}
		was.Batch = recipe.Batch
	}
	if err := was.continues(recipe); err != nil {
		return nil, err
	}
	if from.Epoch > recipe.Epochs {
		return nil, fmt.Errorf(
			"the checkpoint is that of the end, after %d epochs: ask for more epochs to go on", from.Epoch-1)
	}
	return recipe.run(ctx, withOwnInitializers(from.model), splits, dir, obs, from)
}

func (recipe Recipe) run(ctx context.Context, model *onnxio.Model, splits data.Splits, dir string,
	obs Observer, from *Checkpoint) (*Result, error) {
	r := &run{Trainer: &Trainer{cfg: recipe.Config, model: model}, unlock: func() {}, recipe: recipe,
		splits: splits, dir: dir, obs: obs, result: &Result{Model: model}, at: 1,
		resumed: from != nil, plateau: Plateau{LR: recipe.LR}, means: map[string]*onnxio.Tensor{}}
	if from != nil { // a checkpoint between epochs is of the stage of the one before
		r.at = from.Epoch
		if from.Step == 0 {
			r.at = max(1, from.Epoch-1)
		}
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.Close()
	defer r.unlock()
	if from != nil {
		if err := r.sameData(from); err != nil {
			return nil, err
		}
		if err := r.restore(from); err != nil {
			return nil, err
		}
	}
	if r.ranks != nil {
		r.ranks.ctx = ctx
	}
	if err := r.alike(ctx); err != nil {
		return nil, err
	}
	if err := r.connect(); err != nil {
		return nil, err
	}
	if err := r.firstCheckpoint(); err != nil {
		return nil, err
	}
	if obs.Start != nil {
		obs.Start(r.batches, int(builders.Parameters(r.model)))
	}
	for r.at <= r.cfg.Epochs && !r.result.Stopped {
		if err := r.thaw(); err != nil {
			return r.result, err
		}
		if err := r.epoch(ctx); err != nil {
			return r.result, r.lost(err)
		}
	}
	return r.result, nil
}

// ranks is the number of processes.
func (c Config) ranks() int {
	if c.Comm == nil {
		return 1
	}
	return c.Comm.Size()
}

// rank and size are those of the run's Comm.
func (r *run) rank() int {
	if r.cfg.Comm == nil {
		return 0
	}
	return r.cfg.Comm.Rank()
}

func (r *run) size() int { return r.cfg.ranks() }

// prepare finds out what can be found out before the first step.
func (r *run) prepare() error {
	if _, err := r.cfg.Rule(); err != nil {
		return err
	}
	if r.cfg.Distributed != "" && r.cfg.Comm == nil {
		return fmt.Errorf("distributed is %s, and there is no connection: 'cnnkit train' makes one, in Go it is Config.Comm",
			r.cfg.Distributed)
	}
	r.recipe.Comm = nil
	if r.rank() > 0 { // rank 0 alone writes and reports
		r.dir, r.obs = "", Observer{}
	}
	if err := r.compatible(); err != nil {
		return err
	}
	if err := r.cfg.checkPatterns(r.model); err != nil {
		return err
	}
	r.cfg = r.cfg.at(r.at)
	var err error
	if r.cfg.ClassWeights, err = r.cfg.ClassWeights.of(r.splits.Train); err != nil {
		return fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	if loss := LossFor(r.recipe.Task); loss != "" && (r.cfg.Loss == LossAuto || r.cfg.Loss == "") {
		r.cfg.Loss = loss
	}
	if r.cfg.Whiten > 0 && !r.resumed {
		if err := whitenModel(r.model, r.splits.Train, r.cfg.Whiten); err != nil {
			return err
		}
	}
	if err := r.makeSampler(); err != nil {
		return err
	}
	if err := r.makeGraph(); err != nil {
		return err
	}
	r.kind = r.loss.kind(r.maps(), data.Width(r.splits.Train) > 0, r.logs())
	if err := r.cfg.Thresholds.check(r.kind.several, data.Width(r.splits.Train)); err != nil {
		return err
	}
	r.kind.thresholds.Each = r.cfg.Thresholds.Each // those of training; the best are of the validation
	r.result.Loss = r.loss.Name
	r.result.kind = r.kind
	if err := r.targets(); err != nil {
		return err
	}
	if err := check.Model(r.graph); err != nil {
		return err
	}
	if err := r.recipe.checkStages(r.model, r.graph); err != nil {
		return err
	}
	if err := r.makeLoader(); err != nil {
		return err
	}
	if r.dir != "" {
		if err := writable(r.dir); err != nil {
			return err
		}
		unlock, err := lock(r.dir)
		if err != nil {
			return err
		}
		r.unlock = unlock
		if err := r.recipe.Save(r.dir); err != nil {
			unlock()
			return err
		}
	}
	r.batches = (r.images() + r.jointBatch() - 1) / r.jointBatch()
	r.perEpoch = r.updatesPerEpoch()
	r.describe()
	// Result's comes to hold averages; training goes on from the values of frozen weights
	r.model = withOwnInitializers(r.model)
	r.digest = sync.OnceValues(func() (string, error) { return data.Digest(r.splits.Train) })
	go r.digest() // the first checkpoint asks for it
	if err := r.start(); err != nil {
		r.unlock()
		return err
	}
	if err := r.makeCaches(); err != nil {
		r.Close()
		r.unlock()
		return err
	}
	return nil
}

// updatesPerEpoch is how many steps the optimiser makes in an epoch.
func (r *run) updatesPerEpoch() int64 {
	every := max(1, r.cfg.Accumulate)
	return int64((r.batches + every - 1) / every)
}

// sameData compares the images to train on with those of a checkpoint. One without a digest is
// of a version that had none.
func (r *run) sameData(from *Checkpoint) error {
	if from.Samples != r.splits.Train.Len() {
		return nil // which restore tells
	}
	digest, err := r.digest()
	if err != nil {
		return fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	if from.Data != "" && digest != "" && from.Data != digest {
		return fmt.Errorf("data set %s has changed since the checkpoint was made: its images, their order, targets or the names of the classes are other ones. "+
			"Bring back the data, or start a new run from the checkpoint's model", r.splits.Name)
	}
	return nil
}

// setShortRates sets the rates of groups that are trained in the first epochs alone.
func (r *run) setShortRates() {
	for _, u := range r.allRules() {
		if u.epochs > 0 && r.at <= u.epochs { // behind them thaw has frozen its parameters
			lr, _, _ := r.scheduled(u.epochs)
			u.SetRate(lr * u.scale)
		}
	}
}

// scheduled is the learning rate of the next step of a run of so many epochs, and one-cycle's momentum.
func (r *run) scheduled(epochs int) (lr, momentum float64, moves bool) {
	perEpoch := int(r.updatesPerEpoch())
	epoch, updates := r.at-1, int(r.updates())
	if r.annealed() { // the schedule stands still where SWA's begins
		epoch = r.cfg.SWA.Start - 1
		updates = epoch * perEpoch
	}
	s := r.cfg.Schedule
	t, length := epoch, epochs
	if s.filled(1).By == "step" {
		t, length = updates, length*perEpoch
	}
	momentum, moves = s.momentum(t, length)
	if lr = s.Rate(r.cfg.LR, t, length); s.Kind == OnPlateau && t >= s.Warmup {
		lr = r.plateau.LR
	}
	if r.annealed() {
		lr = r.cfg.SWA.rate(lr, r.at-r.cfg.SWA.Start)
	}
	return lr, momentum, moves
}

func (r *run) elapsed() time.Duration {
	if r.started.IsZero() {
		return r.spent
	}
	return r.spent + time.Since(r.started)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// epoch trains on every image once, validates and saves; or on those that are left of a resumed epoch.
func (r *run) epoch(ctx context.Context) error {
	r.started = time.Now()
	if r.kept == nil {
		var err error
		if r.kept, err = r.capture(); err != nil {
			return err
		}
	}
	f := r.feeder(r.done)
	defer f.stop()
	for r.done < r.batches && !r.ended {
		if r.halted(ctx) {
			return r.interrupted(ctx)
		}
		if err := r.step(ctx, f); err != nil {
			return r.explained(ctx, err)
		}
		if r.obs.Step != nil {
			r.obs.Step(r.at, r.done, r.seen, r.lossSum/float64(r.seen))
		}
		if err := r.called(r.obs.OnStep, r.at, r.latest); err != nil {
			return r.failed(err)
		}
		if n := r.cfg.CheckpointSteps; n > 0 && r.done%n == 0 && r.done < r.batches {
			if err := r.checkpoint(); err != nil {
				return fmt.Errorf("checkpoint in epoch %d after step %d: %w", r.at, r.done,
					r.explained(ctx, err))
			}
		}
	}
	trained := r.elapsed()
	if err := r.export(ctx); err != nil {
		if ctx.Err() != nil {
			return r.interrupted(ctx)
		}
		return err
	}
	if name, v := r.strangeParameter(r.result.Model); name != "" {
		return r.explained(ctx, &DivergedError{Epoch: r.at, Step: r.done,
			What: fmt.Sprintf("%q is %v", name, v)})
	}
	// The plan of the exported model packs its own weights: they are new tensors each time.
	v := Score{Loss: math.NaN(), Accuracy: math.NaN()}
	var err error
	if r.validates() {
		v, err = r.jointMeasure(ctx)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) || ctx.Err() != nil && !errors.As(err, new(*LostError)) {
			return r.interrupted(ctx)
		}
		return fmt.Errorf("validation after epoch %d: %w", r.at, err)
	}
	if r.validates() && !finite(v.Loss) {
		return &DivergedError{Epoch: r.at, Step: r.done,
			What: fmt.Sprintf("the validation loss is %v", v.Loss)}
	}
	lr, _, _ := r.scheduled(r.cfg.Epochs)
	e := Epoch{Epoch: r.at, TrainLoss: r.lossSum / float64(r.seen), TrainAccuracy: share(r.right, r.counted),
		ValidationLoss: v.Loss, ValidationAccuracy: v.Accuracy, Seconds: r.elapsed().Seconds(),
		ImagesPerSecond: float64(r.seen) / trained.Seconds(), LR: lr, Metrics: v.Metrics}
	r.result.History, r.result.Confusion, r.result.classes = append(r.result.History,
		e), v.Confusion, v.Classes
	r.setThresholds(v)
	return r.finish(ctx, e)
}

// validates says that the epoch in progress is validated: every so many, and the last.
func (r *run) validates() bool {
	n := r.cfg.ValidateEvery
	return n < 2 || r.at%n == 0 || r.at >= r.cfg.Epochs || r.ended
}

// measure validates.
func (r *run) measure(ctx context.Context) (Score, error) {
	c, ds := r.cfg, r.splits.Validation
	c.Loss, c.Metrics = r.loss.Name, r.measured()
	if r.validated != nil && len(r.stopped) == 0 { // whose averages the trunk does not compute with
		return r.measureCached(ctx, c, ds)
	}
	return c.measure(ctx, native(r.result.Model, r.pool), ds, EvaluationBatch(ds.Shape()), r.kind.logs)
}

// measured lists the metrics to measure: those asked for and the monitored one.
func (r *run) measured() []string {
	m := r.cfg.Metrics
	if w := r.cfg.Monitor; w != "" && w != "accuracy" && w != "loss" && !slices.Contains(m, w) {
		m = append(slices.Clone(m), w)
	}
	return m
}

// step trains on one batch.
func (r *run) step(ctx context.Context, f *feeder) error {
	p, err := r.fill(f)
	if err != nil {
		return err
	}
	r.setRates(r.scheduled(r.cfg.Epochs))
	r.setShortRates()
	updates := r.updates()
	flush := (r.done+1)%max(1, r.cfg.Accumulate) == 0 || r.done+1 == r.batches
	if r.ranks == nil {
		ctx = context.Background() // a step that has begun is finished
	}
	l, counts, err := r.Trainer.step(ctx, f.in, p, flush, func() ([]float64, error) {
		return r.counts(ctx, f, p)
	})
	if d := new(DivergedError); errors.As(err, &d) {
		d.Epoch, d.Step = r.at, r.done+1
		return d
	}
	if err != nil {
		return fmt.Errorf("epoch %d, step %d: %w", r.at, r.done+1, err)
	}
	if r.cfg.EMA > 0 && r.updates() > updates {
		r.moveMeans()
	}
	for _, row := range counts {
		r.right, r.counted = r.right+int(row[0]), r.counted+int(row[1])
		r.stopping, r.ended = r.stopping || row[2] != 0, r.ended || row[3] != 0
	}
	r.latest = l
	r.lossSum, r.seen = r.lossSum+l*float64(p.total), r.seen+p.total
	r.done++
	return nil
}

// counts are what ranks tell each other after a step: right answers, of how many, whether the run is
// interrupted, and whether the observer has ended it.
func (r *run) counts(ctx context.Context, f *feeder, p portion) ([]float64, error) {
	var right, counted int
	if p.images > 0 {
		var err error
		if right, counted, err = r.kind.right(r.trainer.Output(r.output), f.target); err != nil {
			return nil, err
		}
	}
	return []float64{float64(right), float64(counted), flag(ctx.Err() != nil), flag(r.ending)}, nil
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// figure is what an epoch is judged by; rises says that more is better.
func (r *run) figure(e Epoch) (v float64, rises bool) {
	switch monitor := r.cfg.Monitor; {
	case (monitor == "" || monitor == "accuracy") && !math.IsNaN(e.ValidationAccuracy):
		return e.ValidationAccuracy, true
	case monitor == "" || monitor == "loss":
		return e.ValidationLoss, false
	}
	metric, err := metrics.find(r.cfg.Monitor)
	if v, ok := e.Metrics[r.cfg.Monitor]; ok && err == nil {
		return v, !metric.Falls
	}
	return math.Inf(-1), true
}

// better says whether epoch a is better than b; equal ones are told apart by their loss. One that was not
// validated is never better, and always worse than one that was.
func (r *run) better(a, b Epoch) bool {
	if math.IsNaN(a.ValidationLoss) || math.IsNaN(b.ValidationLoss) {
		return !math.IsNaN(a.ValidationLoss)
	}
	x, rises := r.figure(a)
	y, _ := r.figure(b)
	if !rises {
		x, y = -x, -y
	}
	return x > y || x == y && a.ValidationLoss < b.ValidationLoss
}

// called calls a function of the observer; ErrStop makes this the last epoch.
func (r *run) called(f func(Moment) error, epoch int, loss float64) error {
	if f == nil {
		return nil
	}
	err := f(Moment{Epoch: epoch, Step: r.done, Loss: loss, History: slices.Clone(r.result.History),
		Trainer: r.Trainer})
	if errors.Is(err, ErrStop) {
		r.ending = true // which the other ranks hear of with the next step
		r.ended = r.ended || r.ranks == nil
		return nil
	}
	return err
}

// failed ends a run within an epoch for an error of the caller's.
func (r *run) failed(err error) error {
	if saved := r.checkpoint(); saved != nil {
		return errors.Join(err, saved)
	}
	return fmt.Errorf("epoch %d, step %d: %w", r.at, r.done, err)
}

// finish judges an epoch, saves and reports it, and turns to the next.
func (r *run) finish(ctx context.Context, e Epoch) error {
	h := r.result.History
	best := len(h) == 1 || r.better(e, h[r.result.Best])
	if best {
		r.result.Best = len(h) - 1
	}
	if r.cfg.Schedule.Kind == OnPlateau && r.at > r.cfg.Schedule.Warmup && !r.annealed() {
		figure, rises := e.ValidationLoss, false
		if r.cfg.Monitor != "" {
			figure, rises = r.figure(e)
		}
		r.plateau.Step(r.cfg.Schedule, figure, rises)
	}
	if r.next != nil {
		r.means, r.averaged, r.next = r.next, r.averaged+1, nil
	}
	r.at++
	r.done, r.lossSum, r.right, r.counted, r.seen, r.spent, r.started = 0, 0, 0, 0, 0, 0, time.Time{}
	r.result.Stopped = r.cfg.Patience > 0 && len(h)-1-r.result.Best >= r.cfg.Patience && r.at <= r.cfg.Epochs
	save := r.checkpoint
	if r.dir != "" {
		save = func() error { return r.save(best) }
	}
	if err := save(); err != nil {
		return fmt.Errorf("saving epoch %d: %w", e.Epoch, err)
	}
	if r.obs.Epoch != nil {
		r.obs.Epoch(e)
	}
	if err := r.called(r.obs.OnEpoch, e.Epoch, e.TrainLoss); err != nil {
		return fmt.Errorf("after epoch %d: %w", e.Epoch, err)
	}
	if err := r.meet(ctx); err != nil {
		return fmt.Errorf("after epoch %d: %w", e.Epoch, err)
	}
	r.result.Stopped = r.result.Stopped || r.ended
	return nil
}
