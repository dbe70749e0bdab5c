package train

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/report"
)

// Reports follows a run and writes what package report makes of it: history.jsonl, report.html
// and TensorBoard's events. It only looks on: a run has the same weights with it and without.
// Not safe for concurrent use.
type Reports struct {
	recipe    Recipe
	splits    data.Splits
	dir       string
	dashboard *report.Dashboard
	recorder  *report.Recorder // nil before the run's start
	history   []Epoch
	best      int
	steps     int
	told      time.Time // of the progress
	begun     time.Time // the epoch's first step
	err       error     // the first of writing
	loggers   []openLogger
	logs      []report.Logger // of the run that has begun
	logged    int64           // steps before this part of the run
	between   bool            // epochs, that part begins
}

// openLogger opens a logger for a run that has made a number of steps.
type openLogger func(run report.Run, steps int64) (report.Logger, error)

// How many pictures a report has.
const (
	reportedMistakes = 24
	reportedSamples  = 16
	reportedMasks    = 8
)

// NewReports makes a run's reports, which begin with the run; dir "" writes no files. from is the checkpoint
// that the run goes on from, or nil, and dashboard, when it is not nil, shows the run as it goes on.
func NewReports(recipe Recipe, splits data.Splits, dir string, from *Checkpoint,
	dashboard *report.Dashboard) *Reports {
	r := &Reports{recipe: recipe, splits: splits, dir: dir, dashboard: dashboard}
	if from != nil {
		r.history, r.best, r.logged, r.between = slices.Clone(from.History), from.Best, from.Steps,
			from.Step == 0
	}
	return r
}

// Log adds a logger, which open gives when the run begins; steps are those of the
// checkpoint that it goes on from.
func (r *Reports) Log(open func(run report.Run, steps int64) (report.Logger, error)) {
	r.loggers = append(r.loggers, open)
}

// begin opens the files, once the run has found nothing wrong.
func (r *Reports) begin() error {
	config, err := json.Marshal(r.recipe)
	if err != nil {
		return err
	}
	run := report.Run{Title: cmp.Or(r.recipe.Model, "model") + " on " + cmp.Or(r.recipe.Data, r.splits.Name),
		State:   report.Running,
		Started: time.Now(), Planned: r.recipe.Epochs, Config: config, Environment: report.Environment()}
	for _, e := range r.history {
		run.Epochs = append(run.Epochs, e.reported())
	}
	if len(r.history) > 0 {
		run.Best = r.history[r.best].Epoch
	}
	recorder, err := report.NewRecorder(r.dir, run)
	if err != nil {
		return err
	}
	recorder.Dashboard, r.recorder = r.dashboard, recorder
	for _, open := range r.loggers {
		l, err := open(run, r.logged)
		if err != nil {
			return errors.Join(recorder.Save(), fmt.Errorf("log: %w", err))
		}
		r.logs = append(r.logs, l)
		if err := r.catchUp(l); err != nil {
			return errors.Join(recorder.Save(), fmt.Errorf("log: %w", err))
		}
	}
	return recorder.Save()
}

// catchUp logs the figures of the last epoch, where the run was killed after the epoch's
// checkpoint and before that.
func (r *Reports) catchUp(l report.Logger) error {
	old, ok := l.(report.Resumed)
	if !ok || !r.between || len(r.history) == 0 {
		return nil
	}
	e := r.history[len(r.history)-1]
	values := e.reported().Values
	if old.Has("train_loss") {
		return nil
	}
	values["epoch"] = float64(e.Epoch)
	return l.Log(r.logged, values)
}

// log tells every logger.
func (r *Reports) log(epoch, step int, values map[string]float64) {
	values["epoch"] = float64(epoch)
	for _, l := range r.logs {
		r.keep(l.Log(int64(epoch-1)*int64(r.steps)+int64(step), values))
	}
}

// reported is the epoch as package report takes it.
func (e Epoch) reported() report.Epoch {
	values := map[string]float64{"train_loss": e.TrainLoss, "train_accuracy": e.TrainAccuracy,
		"validation_loss":     e.ValidationLoss,
		"validation_accuracy": e.ValidationAccuracy, "seconds": e.Seconds, "images_per_s": e.ImagesPerSecond,
		"lr": e.LR}
	for name, v := range e.Metrics {
		values[name] = v
	}
	maps.DeleteFunc(values, func(_ string, v float64) bool { return math.IsNaN(v) })
	return report.Epoch{Epoch: e.Epoch, Values: values}
}

// Observer is o with the reports behind it.
func (r *Reports) Observer(o Observer) Observer {
	out := Observer{
		Start: func(steps, parameters int) {
			r.steps = steps
			r.keep(r.begin())
			if o.Start != nil {
				o.Start(steps, parameters)
			}
		},
		Step: o.Step, OnStep: o.OnStep, OnEpoch: o.OnEpoch,
		Epoch: func(e Epoch) {
			r.epoch(e)
			if o.Epoch != nil {
				o.Epoch(e)
			}
		},
	}
	if len(r.loggers) > 0 {
		out.OnStep = func(m Moment) error {
			r.log(m.Epoch, m.Step, map[string]float64{"step_loss": m.Loss, "lr": m.Trainer.Rate()})
			if o.OnStep != nil {
				return o.OnStep(m)
			}
			return nil
		}
	}
	if r.dashboard != nil {
		out.Step = func(epoch, step, images int, loss float64) {
			r.step(epoch, step, images, loss)
			if o.Step != nil {
				o.Step(epoch, step, images, loss)
			}
		}
	}
	return out
}

// step tells the dashboard, some times a second.
func (r *Reports) step(epoch, step, images int, loss float64) {
	now := time.Now()
	if step == 1 || r.begun.IsZero() {
		r.begun = now
	}
	if now.Sub(r.told) < 250*time.Millisecond {
		return
	}
	r.told = now
	p := report.Progress{Epoch: epoch, Epochs: r.recipe.Epochs, Step: step, Steps: r.steps, Loss: loss}
	if s := now.Sub(r.begun).Seconds(); s > 0 && step > 1 {
		p.ImagesPerSecond = float64(images) * float64(step-1) / float64(step) / s
	}
	r.dashboard.Progress(p)
}

func (r *Reports) epoch(e Epoch) {
	if r.recorder == nil {
		return
	}
	r.history = append(r.history, e)
	judge := run{Trainer: &Trainer{cfg: r.recipe.Config}}
	best := len(r.history) == 1 || judge.better(e, r.history[r.best])
	if best {
		r.best = len(r.history) - 1
	}
	told := e.reported()
	r.keep(r.recorder.Epoch(told, best))
	r.log(e.Epoch, r.steps, maps.Clone(told.Values))
}

func (r *Reports) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Close ends the reports with what the run gave, its error among it. A finished run's model is shown the
// images to validate on once more: the confusion matrix, the worst mistakes and some predictions are those of
// the last epoch. The error is the first of writing the reports.
func (r *Reports) Close(ctx context.Context, result *Result, err error) error {
	if r.recorder == nil {
		return r.err
	}
	run := &r.recorder.Run
	run.State, run.Ended = report.Finished, time.Now()
	var interrupted *InterruptedError
	switch {
	case errors.As(err, &interrupted):
		run.State, run.Message = report.Interrupted, err.Error()
	case err != nil:
		run.State, run.Message = report.Failed, err.Error()
	case result != nil:
		if result.Stopped {
			run.Message = "stopped by a callback"
			if p := r.recipe.Patience; p > 0 && len(r.history)-1-r.best >= p {
				run.Message = fmt.Sprintf("stopped: nothing got better after epoch %d", run.Best)
			}
		}
		// who interrupts the last look has a report without pictures
		if err := r.show(ctx, result); ctx.Err() == nil {
			r.keep(err)
		}
	}
	r.keep(r.recorder.Close())
	for _, l := range r.logs {
		r.keep(l.Close(run.State))
	}
	r.logs = nil
	return r.err
}

// show looks at the validation once more and fills in what the report shows of it.
func (r *Reports) show(ctx context.Context, result *Result) error {
	pool := parallel.New(r.recipe.Threads)
	defer pool.Close()
	src, err := data.SourceOf(r.splits.Validation)
	if err != nil {
		return nil // there are no pictures to show
	}
	forward := native(result.Model, pool)
	switch {
	case src.Width() > 0: // there is no picture of numbers
	case src.Masked():
		err = r.showMasks(ctx, src, forward, result)
	default:
		err = r.showLabels(ctx, src, forward, result)
	}
	if err != nil {
		return err
	}
	if png, err := os.ReadFile(filepath.Join(r.dir, ConfusionFile)); err == nil && r.dir != "" &&
		slices.Contains(r.recipe.Metrics, "confusion") {
		return r.recorder.Image("confusion", len(r.history), png)
	}
	return nil
}

// guess is what the model takes a sample for.
type guess struct {
	index, label, taken int
	p                   float64 // probability of what it was taken for
}

func (r *Reports) showLabels(ctx context.Context, src data.Source, forward Forward, result *Result) error {
	classes, n := src.Classes(), src.Len()
	confusion := NewConfusion(classes)
	k := result.kind
	k.soft = false
	var mistakes, samples []guess
	every := max(1, n/reportedSamples)
	for b, err := range batches(ctx, src, EvaluationBatch(src.Shape()), k) {
		if err != nil {
			return err
		}
		y, err := forward(ctx, b.X)
		if err != nil {
			return err
		}
		if len(y.Dims) != 2 || int(y.Dims[0]) != len(b.Indices) {
			return nil // no classifier
		}
		cols := int(y.Dims[1])
		for i, label := range onnxio.Data[int64](b.Target) {
			row := y.Float32s()[i*cols : (i+1)*cols]
			g := guess{index: b.Indices[i], label: int(label), taken: argmax(row)}
			total := 0.0
			if !k.logs {
				total = logSumExp(row)
			}
			g.p = math.Exp(float64(row[g.taken]) - total)
			if g.label < len(classes) && g.taken < len(classes) {
				confusion.Counts[g.label][g.taken]++
			}
			if g.taken != g.label {
				mistakes = append(mistakes, g)
			}
			if g.index%every == 0 && len(samples) < reportedSamples {
				samples = append(samples, g)
			}
		}
		slices.SortStableFunc(mistakes, func(a, b guess) int { return cmp.Compare(b.p, a.p) })
		mistakes = mistakes[:min(len(mistakes), reportedMistakes)]
	}
	run := &r.recorder.Run
	run.Confusion = &report.Confusion{Classes: confusion.Classes, Counts: confusion.Counts}
	var err error
	if run.Mistakes, err = pictured(src, mistakes); err != nil {
		return err
	}
	run.Samples, err = pictured(src, samples)
	return err
}

// pictured makes the report's samples of guesses.
func pictured(src data.Source, guesses []guess) ([]report.Sample, error) {
	classes := src.Classes()
	name := func(class int) string {
		if class < len(classes) {
			return classes[class]
		}
		return fmt.Sprint(class)
	}
	var out []report.Sample
	for _, g := range guesses {
		img, err := picture(src, g.index)
		if err != nil {
			return nil, err
		}
		s := report.Sample{Name: where(src, g.index), Truth: name(g.label), Prediction: name(g.taken),
			Probability: g.p}
		if s.Image, err = report.PNG(img); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// where names a sample by its file, without the folders, which are the machine's.
func where(src data.Source, index int) string { return filepath.Base(src.Where(index)) }

// picture is a sample as the model sees it.
func picture(src data.Source, index int) (image.Image, error) {
	s, err := src.Sample(index)
	if err != nil {
		return nil, err
	}
	shape := src.Shape()
	s = s.Resized(shape[1], shape[2])
	return report.Pixels(s.C, s.H, s.W, s.Pixels)
}

// showMasks shows some samples from the whole of the validation, input, truth and prediction.
func (r *Reports) showMasks(ctx context.Context, src data.Source, forward Forward, result *Result) error {
	if c := result.Confusion; c != nil {
		r.recorder.Run.Confusion = &report.Confusion{Classes: c.Classes, Counts: c.Counts}
	}
	n := min(reportedMasks, src.Len())
	var some data.Subset
	some.Dataset = src
	for i := range n {
		some.Indices = append(some.Indices, i*src.Len()/n)
	}
	k := result.kind
	shape := src.Shape()
	for b, err := range batches(ctx, some, 1, k) {
		if err != nil {
			return err
		}
		y, err := forward(ctx, b.X)
		if err != nil {
			return err
		}
		masks, err := vision.Masks(y, spec.End(result.Model).Scale, 0.5)
		if err != nil {
			return err
		}
		index := some.Indices[b.Indices[0]]
		s, err := src.Sample(index)
		if err != nil {
			return err
		}
		s = s.Resized(shape[1], shape[2])
		img, err := report.Pixels(s.C, s.H, s.W, s.Pixels)
		if err != nil {
			return err
		}
		truth := vision.Mask{W: s.W, H: s.H, Classes: max(2, len(src.Classes())), Pixels: s.Mask}
		triple, err := report.NewTriple(where(src, index), img, &truth, masks[0])
		if err != nil {
			return err
		}
		r.recorder.Run.Masks = append(r.recorder.Run.Masks, triple)
		if err := r.compare(triple.Name, img, &truth, masks[0]); err != nil {
			return err
		}
	}
	return nil
}

// compare puts the three pictures side by side into TensorBoard's file.
func (r *Reports) compare(name string, img image.Image, truth *vision.Mask, prediction vision.Mask) error {
	if r.dir == "" {
		return nil
	}
	side, err := report.Compare(img, truth, prediction)
	if err != nil {
		return err
	}
	png, err := report.PNG(side)
	if err != nil {
		return err
	}
	return r.recorder.Image("masks/"+name, len(r.history), png)
}
