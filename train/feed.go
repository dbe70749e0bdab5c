package train

import (
	"context"
	"fmt"
	"iter"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
)

// feeder gives the batches of an epoch from a position on.
type feeder struct {
	step      int // the next batch
	order     []int
	x, target *onnxio.Tensor
	indices   []int // of the batch in x
	in        map[string]*onnxio.Tensor

	next func() (*data.Batch, error, bool) // of a loader; nil where batches are filled in place
	stop func()
}

// makeLoader makes the loader, where there is something to do beside copying pixels from memory.
func (r *run) makeLoader() error {
	soft := r.kind.soft
	if len(r.cfg.Augment) == 0 && !soft && r.cfg.Workers == 0 && filled(r.splits.Train) {
		return nil
	}
	var err error
	r.loader, err = data.NewLoader(r.splits.Train, data.LoaderConfig{Batch: r.jointBatch(),
		Workers: r.cfg.Workers,
		Seed:    r.cfg.Seed, Shuffle: true, Sampler: r.sampler, Draws: r.cfg.Draws, Transforms: r.cfg.Augment,
		Soft: soft, Mix: r.cfg.Mix, Rank: r.rank(), Ranks: r.size()})
	if err != nil {
		return fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	return nil
}

// filled says that a data set's own Fill makes the batches: of images in memory, and of
// sets without single samples.
func filled(ds data.Dataset) bool {
	_, err := data.SourceOf(ds)
	return err != nil || inMemory(ds)
}

func inMemory(ds data.Dataset) bool {
	switch d := ds.(type) {
	case *data.Images:
		return true
	case data.Subset:
		return inMemory(d.Dataset)
	case *data.Subset:
		return inMemory(d.Dataset)
	}
	return false
}

// feeder gives the batches of the epoch in progress, from number step = 0, 1, ... on.
func (r *run) feeder(step int) *feeder {
	f := &feeder{step: step, in: map[string]*onnxio.Tensor{}, stop: func() {}}
	if r.loader == nil || r.cached.full() {
		f.order = r.order()
		return f
	}
	// The loader is stopped by stop, never by the run's context: an interrupted run finishes its step.
	f.next, f.stop = iter.Pull2(r.loader.Epoch(context.Background(), r.at, step))
	return f
}

// jointBatch is the number of images of a batch of all processes.
func (r *run) jointBatch() int { return r.cfg.Batch * r.size() }

// portion is what this process has of the feeder's next batch.
func (r *run) portion(f *feeder) portion {
	n := min(r.jointBatch(), r.images()-f.step*r.jointBatch())
	lo, hi := data.Part(n, r.rank(), r.size())
	return portion{lo, hi - lo, n}
}

// fill is this process's part of the next batch; one without images gets an image that does not count.
func (r *run) fill(f *feeder) (p portion, err error) {
	p = r.portion(f)
	switch {
	case f.order != nil && r.cached.has(f.samples(r.jointBatch(), p)):
		f.in = r.cached.get(f.samples(r.jointBatch(), p))
		f.target = f.in[TargetName]
		f.step++
		return p, nil
	case f.next != nil:
		err = r.load(f)
	default:
		err = r.copy(f, p)
	}
	if err != nil {
		return p, err
	}
	x := vision.Fed(r.takes, f.x)
	if f.in, err = r.inputs(context.Background(), x, f.target); err != nil {
		return p, err
	}
	r.weigh(f.in, f.indices)
	if r.cached != nil {
		if err := r.keepFeatures(r.cached, f.in, f.indices); err != nil {
			return p, err
		}
	}
	f.step++
	return p, nil
}

// samples lists those of a part of the next batch.
func (f *feeder) samples(batch int, p portion) []int {
	all := f.order[f.step*batch:]
	if p.images == 0 {
		return all[:1]
	}
	return all[p.first : p.first+p.images]
}

func (r *run) copy(f *feeder, p portion) error {
	ds := r.splits.Train
	part := f.samples(r.jointBatch(), p)
	f.indices = part
	if f.x == nil || int(f.x.Dims[0]) != len(part) {
		f.x, f.target = NewBatch(ds.Shape(), len(part))
		f.target = r.kind.target(f.target, ds.Shape(), data.Width(ds))
	}
	return ds.Fill(f.x, f.target, part)
}

// load takes the next batch from the loader.
func (r *run) load(f *feeder) error {
	b, err, ok := f.next()
	if err != nil {
		return fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	if !ok || b.Step != f.step {
		return fmt.Errorf("data set %s: no batch %d of %d", r.splits.Name, f.step+1, r.batches)
	}
	f.x, f.target, f.indices = b.X, r.kind.taken(b.Target), b.Indices
	return nil
}

// taken is a loader's target in the form that the loss takes.
func (k kind) taken(target *onnxio.Tensor) *onnxio.Tensor {
	d := target.Dims
	switch {
	case k.masks && target.Type == onnxio.Int64:
		out := onnxio.NewTensor(onnxio.Float, d[0], 1, d[1], d[2])
		for i, v := range onnxio.Data[int64](target) {
			out.Float32s()[i] = float32(v)
		}
		return out
	case k.maps && target.Type == onnxio.Float:
		out := onnxio.NewTensor(onnxio.Int64, d[0], d[2], d[3])
		to := onnxio.Data[int64](out)
		for i, v := range target.Float32s() {
			to[i] = int64(v)
		}
		return out
	}
	return target
}

// batches gives a data set's batches in its order, read ahead where they do not lie in memory. A batch is
// valid until the next is asked for.
func batches(ctx context.Context, ds data.Dataset, batch int, k kind) iter.Seq2[*data.Batch, error] {
	return func(yield func(*data.Batch, error) bool) {
		if !filled(ds) {
			loader, err := data.NewLoader(ds, data.LoaderConfig{Batch: batch})
			if err != nil {
				yield(nil, err)
				return
			}
			for b, err := range loader.Epoch(ctx, 1, 0) {
				if err == nil {
					b.Target = k.taken(b.Target)
				}
				if !yield(b, err) {
					return
				}
			}
			return
		}
		order := data.Sequence(ds.Len())
		for at := 0; at < len(order); at += batch {
			b := &data.Batch{Indices: order[at:min(len(order), at+batch)], Step: at / batch}
			b.X, b.Target = NewBatch(ds.Shape(), len(b.Indices))
			b.Target = k.target(b.Target, ds.Shape(), data.Width(ds))
			if !yield(b, ds.Fill(b.X, b.Target, b.Indices)) {
				return
			}
		}
	}
}
