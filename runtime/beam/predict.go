package beam

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

func init() {
	register.DoFn6x1[context.Context, beam.Window, string, []byte,
		func(vision.Result), func(vision.Result), error](&predictFn{})
	register.Emitter1[vision.Result]()
}

// Config says how Predict runs a model. It travels to the workers with the pipeline.
type Config struct {
	Model string `json:"model"` // a path that every worker can read, or gs://...
	// "": auto, as runtime.Auto; ort wants an import of package runtime/ort
	Engine  string `json:"engine,omitempty"`
	Threads int    `json:"threads,omitempty"` // of one run; 0: as many as the process may use
	Batch   int    `json:"batch,omitempty"`   // images of one run, where the model does not fix that; 0: 32
	Top     int    `json:"top,omitempty"`     // classes of an answer; 0: 5
	NoEXIF  bool   `json:"no_exif,omitempty"` // leaves photographs as the sensor saw them
}

// The defaults of a Config.
const (
	defaultBatch = 32
	defaultTop   = 5
)

// Counters of a pipeline: images with an answer, and images without.
const (
	Namespace = "cnnkit"
	Answered  = "answered"
	Dead      = "dead_letters"
)

var (
	countAnswered = beam.NewCounter(Namespace, Answered)
	countDead     = beam.NewCounter(Namespace, Dead)
)

// Predict runs a model on images, a PCollection<KV<string, []byte>> of names and whole files (PNG, JPEG, GIF,
// BMP, TIFF or WebP). It gives two PCollection<vision.Result>: an answer for each image that has one, and a
// dead letter, with the reason, for each other.
//
// Images are run in batches within a bundle, and answers come at its end at the latest. Since they come
// without the windows and times of their images, those must be in the global window: others are refused.
func Predict(s beam.Scope, c Config, images beam.PCollection) (answers, dead beam.PCollection) {
	return beam.ParDo2(s.Scope("cnnkit.Predict"), &predictFn{Config: c}, images)
}

// predictFn holds the images of a bundle that wait for their batch to be full.
type predictFn struct {
	Config Config `json:"config"`

	model   *classifier
	batches vision.Batcher[string]
}

// Setup opens the model.
func (f *predictFn) Setup(ctx context.Context) (err error) {
	f.model, err = acquire(ctx, f.Config)
	return err
}

// StartBundle forgets what a bundle that failed has left.
func (f *predictFn) StartBundle(context.Context, func(vision.Result), func(vision.Result)) error {
	f.batches = vision.Batcher[string]{Input: f.model.spec.Input, Limit: cmp.Or(f.Config.Batch, defaultBatch)}
	return nil
}

// ProcessElement decodes an image, and runs the batch that it does not fit into any more.
func (f *predictFn) ProcessElement(ctx context.Context, w beam.Window, name string, file []byte,
	answers, dead func(vision.Result)) error {
	if _, global := w.(window.GlobalWindow); !global {
		return fmt.Errorf("image %s is in window %v: Predict takes images in the global window, "+
			"since it answers at the end of a bundle", name, w)
	}
	img, err := vision.Decode(bytes.NewReader(file), vision.Limits{NoEXIF: f.Config.NoEXIF})
	if err != nil {
		bury(ctx, name, err, dead)
		return nil
	}
	if full, ready := f.batches.Add(name, img); ready {
		return f.answer(ctx, full, answers, dead)
	}
	return nil
}

// FinishBundle runs what is left.
func (f *predictFn) FinishBundle(ctx context.Context, answers, dead func(vision.Result)) error {
	if rest, ready := f.batches.Rest(); ready {
		return f.answer(ctx, rest, answers, dead)
	}
	return nil
}

// Teardown closes the model, unless other bundles use it.
func (f *predictFn) Teardown() error {
	if f.model == nil {
		return nil
	}
	f.model = nil
	return release(f.Config)
}

// answer runs a batch. Where that fails each image runs alone, so that one costs the others nothing.
func (f *predictFn) answer(ctx context.Context, b vision.Batch[string], answers,
	dead func(vision.Result)) error {
	tops, err := f.top(ctx, b)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		for i, name := range b.Of {
			answers(vision.Result{File: name, Top: tops[i]})
		}
		countAnswered.Inc(ctx, int64(len(b.Of)))
	case len(b.Of) == 1:
		bury(ctx, b.Of[0], fmt.Errorf("the model %s: %w", f.Config.Model, err), dead)
	default:
		for _, one := range b.Singles() {
			if err := f.answer(ctx, one, answers, dead); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *predictFn) top(ctx context.Context, b vision.Batch[string]) ([][]vision.Guess, error) {
	y, err := b.Run(ctx, f.model.run)
	if err != nil {
		return nil, err
	}
	tops, err := vision.Answers(y, f.model.spec.Output, cmp.Or(f.Config.Top, defaultTop), f.model.spec.Labels)
	if err == nil && len(tops) != len(b.Of) {
		err = errors.New("the model has not an answer for each image")
	}
	return tops, err
}

// bury makes a dead letter.
func bury(ctx context.Context, name string, err error, dead func(vision.Result)) {
	countDead.Inc(ctx, 1)
	dead(vision.Result{File: name, Error: err.Error()})
}
