package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/train/data"
)

// Files that Run leaves in its folder.
const (
	LastFile        = "model.onnx"       // after the last finished epoch
	BestFile        = "best.onnx"        // after the epoch of the highest validation accuracy
	InterruptedFile = "interrupted.onnx" // within an epoch, when the run was interrupted
	HistoryFile     = "history.csv"
	PlotFile        = "history.png"
)

// Observer follows a run; nil functions are skipped.
type Observer struct {
	// Start is told the steps of an epoch and the number of parameters.
	Start func(steps, parameters int)
	// Step is called after every step with the images so far and the mean loss of the epoch so far.
	Step func(epoch, step, images int, loss float64)
	// Epoch is called when an epoch is finished, validated and saved.
	Epoch func(Epoch)
}

// Result of a run.
type Result struct {
	History []Epoch
	Best    int // index in History
	Model   *onnxio.Model
	Loss    string // which loss was used
}

// InterruptedError says that the context ended a run; Saved is the file with the weights of that moment, "" when there
// was no folder.
type InterruptedError struct {
	Epoch, Step int
	Saved       string
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
	cfg     Config
	model   *onnxio.Model
	splits  data.Splits
	dir     string
	obs     Observer
	pool    *parallel.Pool
	trainer *engine.Trainer
	result  *Result
	output  string
}

// Run trains model on the splits and writes its files into dir ("" writes none). The model is changed in place: it
// holds the weights of the last finished epoch, labels and preprocessing. After every epoch dir/model.onnx is replaced
// atomically, so that it is always whole and from a finished epoch. When ctx ends, the step in progress is finished, the
// weights are saved and the error is an *InterruptedError.
func Run(ctx context.Context, model *onnxio.Model, splits data.Splits, cfg Config, dir string, obs Observer) (*Result, error) {
	r := &run{cfg: cfg, model: model, splits: splits, dir: dir, obs: obs, result: &Result{Model: model}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.pool.Close()
	for epoch := 1; epoch <= cfg.Epochs; epoch++ {
		if err := r.epoch(ctx, epoch); err != nil {
			return r.result, err
		}
	}
	return r.result, nil
}

// prepare finds out what can be found out before the first step.
func (r *run) prepare() error {
	update, err := r.cfg.Update()
	if err != nil {
		return err
	}
	if err := r.compatible(); err != nil {
		return err
	}
	graph, loss, err := TrainingGraph(r.model, r.cfg.Loss)
	if err != nil {
		return err
	}
	if loss == LossBCE {
		return fmt.Errorf("loss %s needs masks, and data set %s has class labels", loss, r.splits.Name)
	}
	if err := check.Model(graph); err != nil {
		return err
	}
	r.result.Loss = loss
	if r.dir != "" {
		if err := writable(r.dir); err != nil {
			return err
		}
	}
	r.output = r.model.Graph.Outputs[0].Name
	r.describe()
	r.pool = parallel.New(r.cfg.Threads)
	r.trainer, err = engine.NewTrainer(graph, engine.TrainOptions{Pool: r.pool, Loss: LossName, Update: update, Seed: r.cfg.Seed})
	if err != nil {
		r.pool.Close()
		return err
	}
	return nil
}

// compatible compares the data with the model's input and output.
func (r *run) compatible() error {
	if len(r.model.Graph.Inputs) == 0 || len(r.model.Graph.Outputs) == 0 {
		return fmt.Errorf("the model has no input or no output")
	}
	in, shape := r.model.Graph.Inputs[0], r.splits.Train.Shape()
	dims := in.Type.Shape
	if len(dims) != 4 {
		return fmt.Errorf("the model's input %q is no image [N,C,H,W]", in.Name)
	}
	for i, d := range dims[1:] {
		if d.Known() && d.Value != int64(shape[i]) {
			return fmt.Errorf("data set %s has images of %dx%dx%d, the model takes %dx%dx%d: build it with --input %dx%dx%d",
				r.splits.Name, shape[0], shape[1], shape[2], dims[1].Value, dims[2].Value, dims[3].Value, shape[0], shape[1], shape[2])
		}
	}
	out, classes := r.model.Graph.Outputs[0], len(r.splits.Train.Classes())
	if s := out.Type.Shape; len(s) == 2 && s[1].Known() && s[1].Value < int64(classes) {
		return fmt.Errorf("data set %s has %d classes, the model %d outputs: build it with --classes %d", r.splits.Name, classes, s[1].Value, classes)
	}
	if r.splits.Train.Len() == 0 || r.splits.Validation.Len() == 0 {
		return fmt.Errorf("data set %s has %d images to train on and %d to validate on", r.splits.Name, r.splits.Train.Len(), r.splits.Validation.Len())
	}
	return nil
}

// describe records in the model what is needed to predict with it.
func (r *run) describe() {
	shape := r.splits.Train.Shape()
	builders.SetLabels(r.model, r.splits.Train.Classes())
	builders.SetPreprocessing(r.model, builders.Preprocessing{Size: [2]int{shape[1], shape[2]}, Channels: shape[0],
		Mean: r.splits.Mean, Std: r.splits.Std, Resize: "bilinear"})
}

// writable makes the folder and tries to write in it, before hours of training.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	f, err := os.CreateTemp(dir, ".cnnkit-*")
	if err != nil {
		return fmt.Errorf("output folder %s cannot be written to: %w", dir, err)
	}
	f.Close()
	return os.Remove(f.Name())
}

// epoch trains on every image once, validates and saves.
func (r *run) epoch(ctx context.Context, epoch int) error {
	started := time.Now()
	ds := r.splits.Train
	order := data.Order(ds.Len(), r.cfg.Seed, epoch)
	steps := (len(order) + r.cfg.Batch - 1) / r.cfg.Batch
	if epoch == 1 && r.obs.Start != nil {
		r.obs.Start(steps, int(builders.Parameters(r.model)))
	}
	x, target := NewBatch(ds.Shape(), min(r.cfg.Batch, len(order)))
	in := map[string]*onnxio.Tensor{}
	var loss float64
	right, seen := 0, 0
	for step := range steps {
		if ctx.Err() != nil {
			return r.interrupted(ctx, epoch, step)
		}
		part := order[step*r.cfg.Batch : min(len(order), (step+1)*r.cfg.Batch)]
		if int(x.Dims[0]) != len(part) {
			x, target = NewBatch(ds.Shape(), len(part))
		}
		if err := ds.Fill(x, target, part); err != nil {
			return err
		}
		in[r.model.Graph.Inputs[0].Name], in[TargetName] = x, target
		if err := r.trainer.Step(context.WithoutCancel(ctx), in); err != nil {
			return fmt.Errorf("epoch %d, step %d: %w", epoch, step+1, err)
		}
		l := float64(r.trainer.Output(LossName).Float32s()[0])
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return fmt.Errorf("epoch %d, step %d: the loss is %v: lower the learning rate, or look for bad numbers in the data", epoch, step+1, l)
		}
		_, n, err := batchScore(r.trainer.Output(r.output), target, true)
		if err != nil {
			return err
		}
		loss, right, seen = loss+l*float64(len(part)), right+n, seen+len(part)
		if r.obs.Step != nil {
			r.obs.Step(epoch, step+1, seen, loss/float64(seen))
		}
	}
	trained := time.Since(started)
	if err := r.trainer.Export(r.model); err != nil {
		return err
	}
	// The plan of the exported model packs its own weights: they are new tensors each time.
	v, err := Evaluate(ctx, native(r.model, r.pool), r.splits.Validation, 500, r.result.Loss == LossNLL)
	if err != nil {
		if ctx.Err() != nil {
			return r.interrupted(ctx, epoch, steps)
		}
		return fmt.Errorf("validation after epoch %d: %w", epoch, err)
	}
	e := Epoch{Epoch: epoch, TrainLoss: loss / float64(seen), TrainAccuracy: float64(right) / float64(seen),
		ValidationLoss: v.Loss, ValidationAccuracy: v.Accuracy, Seconds: time.Since(started).Seconds(),
		ImagesPerSecond: float64(seen) / trained.Seconds()}
	r.result.History = append(r.result.History, e)
	return r.finish(e)
}

// finish saves an epoch and reports it.
func (r *run) finish(e Epoch) error {
	h := r.result.History
	better := func(a, b Epoch) bool {
		return a.ValidationAccuracy > b.ValidationAccuracy ||
			a.ValidationAccuracy == b.ValidationAccuracy && a.ValidationLoss < b.ValidationLoss
	}
	best := len(h) == 1 || better(e, h[r.result.Best])
	if best {
		r.result.Best = len(h) - 1
	}
	if r.dir != "" {
		if err := r.save(best); err != nil {
			return fmt.Errorf("saving epoch %d: %w", e.Epoch, err)
		}
	}
	if r.obs.Epoch != nil {
		r.obs.Epoch(e)
	}
	return nil
}

func (r *run) save(best bool) error {
	if err := onnxio.Save(filepath.Join(r.dir, LastFile), r.model); err != nil {
		return err
	}
	if best {
		if err := onnxio.Save(filepath.Join(r.dir, BestFile), r.model); err != nil {
			return err
		}
	}
	if err := WriteCSV(filepath.Join(r.dir, HistoryFile), r.result.History); err != nil {
		return err
	}
	return Plot(filepath.Join(r.dir, PlotFile), r.result.History)
}

// interrupted saves the weights of this moment beside those of the last finished epoch.
func (r *run) interrupted(ctx context.Context, epoch, step int) error {
	e := &InterruptedError{Epoch: epoch, Step: step, Err: context.Cause(ctx)}
	if r.dir == "" || r.trainer.Steps() == 0 {
		return e
	}
	g := *r.model.Graph
	m := *r.model
	m.Graph = &g
	g.Initializers = slices.Clone(g.Initializers)
	if err := r.trainer.Export(&m); err != nil {
		return errors.Join(e, err)
	}
	path := filepath.Join(r.dir, InterruptedFile)
	if err := onnxio.Save(path, &m); err != nil {
		return errors.Join(e, err)
	}
	e.Saved = path
	return e
}
