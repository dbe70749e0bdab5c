package data

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// LoaderConfig says how a Loader makes batches.
type LoaderConfig struct {
	Batch int
	// Workers decode and transform, a batch each at a time; 0 takes one for each processor. Their number
	// changes nothing but the time.
	Workers int
	// Ahead is how many batches may stand ready before they are asked for; 0 takes 2.
	Ahead int
	// Seed makes the order of each epoch (Order) and whatever is random in the transforms.
	Seed uint64
	// Shuffle takes the samples in the order that Order gives the epoch; otherwise they come as they stand.
	Shuffle bool
	// Sampler draws the samples of each epoch in place of that, Draws of them; 0 draws as many as there are.
	// Where a sample is drawn again in an epoch, what is random in its transforms is drawn anew.
	Sampler *Sampler
	Draws   int
	// DropLast leaves out the last batch of an epoch when it is smaller than the others.
	DropLast bool
	// Size is the height and width of the inputs; 0 takes the data set's. What the transforms leave
	// at another size is resized.
	Size [2]int
	// Transforms change each sample. What is random in them depends on seed, epoch and the sample's index
	// alone, and with a Sampler on how often the epoch has had the sample before.
	Transforms transforms.Compose
	// Soft makes targets of labels [N,classes] float32, one at the label, and Mix then
	// changes whole batches of them.
	Soft bool
	Mix  []transforms.BatchTransform
	// Rank of Ranks processes takes its Part of each batch, which is Batch images large; where that has none,
	// the batch's first image, so that there is one. Mix changes the whole batch, which is made in full for
	// it. Ranks 0: it takes all.
	Rank, Ranks int
}

// Part is the range [lo,hi) of n samples that one of several ranks has. Ranges differ by one sample at most;
// the longer ones are the first ranks'.
func Part(n, rank, ranks int) (lo, hi int) {
	each, more := n/ranks, n%ranks
	lo = rank*each + min(rank, more)
	return lo, lo + each + max(0, min(1, more-rank))
}

// taken is Part, or the first sample where the part is empty.
func (c LoaderConfig) taken(n int) (lo, hi int) {
	lo, hi = 0, n
	if c.Ranks > 1 {
		if lo, hi = Part(n, c.Rank, c.Ranks); lo == hi {
			return 0, 1
		}
	}
	return lo, hi
}

// Batch is what a training step takes. It belongs to the Loader, which fills it again once
// the next one is asked for.
type Batch struct {
	X       *onnxio.Tensor // [N,C,H,W] float32
	Target  *onnxio.Tensor // as NewBatch has it; [N,classes] float32 with soft targets
	Indices []int          // of the samples
	Step    int            // from 0 in the epoch
}

// Loader makes a data set's batches ahead of the steps that take them. It is safe for concurrent use; each
// Epoch has workers of its own.
type Loader struct {
	cfg LoaderConfig
	ds  Dataset
	src Source // nil when the data set gives no single samples
}

// NewLoader checks that the data set can be had as it is configured.
func NewLoader(ds Dataset, cfg LoaderConfig) (*Loader, error) {
	l := &Loader{cfg: cfg, ds: ds}
	if ds.Len() == 0 {
		return nil, errors.New("the data set has no images")
	}
	if cfg.Batch < 1 {
		return nil, fmt.Errorf("a batch of %d images", cfg.Batch)
	}
	if cfg.Workers < 0 || cfg.Ahead < 0 {
		return nil, fmt.Errorf("%d workers and %d batches ahead: neither can be negative", cfg.Workers,
			cfg.Ahead)
	}
	if cfg.Draws < 0 || cfg.Draws > 0 && cfg.Sampler == nil {
		return nil, fmt.Errorf("%d draws: a number that is not negative, and a sampler, are wanted",
			cfg.Draws)
	}
	if s := cfg.Sampler; s != nil && len(s.upTo) != ds.Len() {
		return nil, fmt.Errorf("a sampler of %d samples, and the data set has %d", len(s.upTo), ds.Len())
	}
	l.cfg.Batch = min(cfg.Batch, l.samples())
	if cfg.Workers == 0 {
		l.cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Ahead == 0 {
		l.cfg.Ahead = 2
	}
	shape := ds.Shape()
	if cfg.Size == [2]int{} {
		l.cfg.Size = [2]int{shape[1], shape[2]}
	}
	if h, w := l.cfg.Size[0], l.cfg.Size[1]; h < 1 || w < 1 || h > maxSide || w > maxSide {
		return nil, fmt.Errorf("inputs of %dx%d: 1 to %d are possible", h, w, maxSide)
	}
	if _, err := product(l.cfg.Batch, shape[0], l.cfg.Size[0], l.cfg.Size[1]); err != nil {
		return nil, fmt.Errorf("a batch of %d images of %dx%dx%d: %w", l.cfg.Batch, shape[0], l.cfg.Size[0],
			l.cfg.Size[1], err)
	}
	if _, err := transforms.Of(cfg.Transforms...); err != nil {
		return nil, err
	}
	src, err := SourceOf(ds)
	if err == nil {
		l.src = src
	} else if len(cfg.Transforms) > 0 || l.cfg.Size != [2]int{shape[1], shape[2]} || l.soft() {
		return nil, err
	}
	if l.soft() && src.Masked() {
		return nil, errors.New("soft targets are made of labels, and the data set has masks")
	}
	if l.soft() && src.Width() > 0 {
		return nil, errors.New("soft targets are made of labels, and the data set has numbers")
	}
	return l, nil
}

func (l *Loader) soft() bool { return l.cfg.Soft || len(l.cfg.Mix) > 0 }

// samples is how many an epoch has.
func (l *Loader) samples() int {
	if l.cfg.Draws > 0 {
		return l.cfg.Draws
	}
	return l.ds.Len()
}

// Steps is the number of batches in an epoch.
func (l *Loader) Steps() int {
	n := l.samples()
	if l.cfg.DropLast {
		return n / l.cfg.Batch
	}
	return (n + l.cfg.Batch - 1) / l.cfg.Batch
}

// Order is the order of the samples in an epoch.
func (l *Loader) Order(epoch int) []int {
	if l.cfg.Sampler != nil {
		return l.cfg.Sampler.Draw(l.samples(), l.cfg.Seed, epoch)
	}
	if l.cfg.Shuffle {
		return Order(l.ds.Len(), l.cfg.Seed, epoch)
	}
	return Sequence(l.ds.Len())
}

// Epoch gives the batches of an epoch from a step on (0 is the first), always the same ones in the same
// order. It ends after the last, or with an error, which names the sample, or with that of ctx. Whoever
// leaves the loop earlier leaves no worker behind.
func (l *Loader) Epoch(ctx context.Context, epoch, from int) iter.Seq2[*Batch, error] {
	from = max(from, 0)
	return func(yield func(*Batch, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		e := l.newEpoch(ctx, epoch, from)
		var workers sync.WaitGroup
		defer workers.Wait()
		defer cancel()
		for range min(l.cfg.Workers, max(l.Steps()-from, 0)) {
			workers.Go(e.work)
		}
		var last *buffer
		for step := from; step < l.Steps(); step++ {
			if last != nil {
				e.free <- last
			}
			var r result
			select {
			case <-ctx.Done():
			case r = <-e.ready[step%len(e.ready)]:
			}
			if err := context.Cause(ctx); err != nil {
				yield(nil, err)
				return
			}
			if r.err != nil {
				yield(nil, r.err)
				return
			}
			if last = r.b; !yield(&last.Batch, nil) {
				return
			}
		}
	}
}

// epoch is the state of one run through the data set.
//
// A worker first takes a free buffer and then the next step, so that the step that is waited for always has a
// buffer, and steps on their way are fewer than buffers: each has a place of its own in ready.
type epoch struct {
	l     *Loader
	ctx   context.Context
	epoch int
	order []int
	again []int // how often the epoch has had the sample of order before; nil without a Sampler
	next  atomic.Int64
	free  chan *buffer
	ready []chan result
}

type result struct {
	b   *buffer
	err error
}

// buffer is a Batch with its whole memory; the last batch of an epoch takes less of it.
type buffer struct {
	Batch
	x, target *onnxio.Tensor // of a full batch
	labels    *onnxio.Tensor // from which soft targets are made
}

func (l *Loader) newEpoch(ctx context.Context, number, from int) *epoch {
	n := l.cfg.Workers + l.cfg.Ahead + 1 // being made, standing ready, in use
	e := &epoch{l: l, ctx: ctx, epoch: number, order: l.Order(number), free: make(chan *buffer, n),
		ready: make([]chan result, n)}
	e.next.Store(int64(from))
	if l.cfg.Sampler != nil && len(l.cfg.Transforms) > 0 {
		e.again = make([]int, len(e.order))
		had := make([]int, l.ds.Len())
		for i, at := range e.order {
			e.again[i] = had[at]
			had[at]++
		}
	}
	for i := range e.ready {
		e.ready[i] = make(chan result, 1)
		e.free <- &buffer{} // its memory comes with its first use
	}
	return e
}

// sized is the view of the data set that has the loader's size.
type sized struct {
	Source
	shape [3]int
}

func (s sized) Shape() [3]int  { return s.shape }
func (s sized) Unwrap() Source { return s.Source }

func (l *Loader) view() Dataset {
	if l.src == nil {
		return l.ds
	}
	return sized{l.src, [3]int{l.ds.Shape()[0], l.cfg.Size[0], l.cfg.Size[1]}}
}

// fit makes the batch n images large.
func (b *buffer) fit(l *Loader, n int) {
	if b.x == nil {
		b.x, b.target = NewBatch(l.view(), l.cfg.Batch)
		if l.soft() {
			b.labels, b.target = b.target, onnxio.NewTensor(onnxio.Float, int64(l.cfg.Batch),
				int64(len(l.ds.Classes())))
		}
	}
	b.X, b.Target = first(b.x, n), first(b.target, n)
}

// first is the tensor of the first n rows, in the same memory.
func first(t *onnxio.Tensor, n int) *onnxio.Tensor {
	if t.Dims[0] == int64(n) {
		return t
	}
	part := &onnxio.Tensor{Type: t.Type, Dims: append([]int64{int64(n)}, t.Dims[1:]...)}
	part.Raw = t.Raw[:len(t.Raw)/int(t.Dims[0])*n]
	return part
}

// rows is the tensor of the rows [lo,hi), in the same memory.
func rows(t *onnxio.Tensor, lo, hi int) *onnxio.Tensor {
	if lo == 0 {
		return first(t, hi)
	}
	each := len(t.Raw) / int(t.Dims[0])
	return &onnxio.Tensor{Type: t.Type, Dims: append([]int64{int64(hi - lo)}, t.Dims[1:]...),
		Raw: t.Raw[lo*each : hi*each]}
}

// worker is what a worker uses again and again.
type worker struct {
	*epoch
	sample transforms.Sample
	pcg    rand.PCG
	rand   *rand.Rand
}

func (e *epoch) work() {
	w := &worker{epoch: e}
	w.rand = rand.New(&w.pcg)
	for {
		var b *buffer
		select {
		case <-e.ctx.Done():
			return
		case b = <-e.free:
		}
		step := int(e.next.Add(1)) - 1
		if step >= e.l.Steps() {
			return
		}
		err := w.fill(b, step)
		e.ready[step%len(e.ready)] <- result{b, err}
	}
}

// fill makes the batch of a step.
func (w *worker) fill(b *buffer, step int) (err error) {
	l := w.l
	at := -1
	defer func() { // a panic here would end the program
		if p := recover(); p != nil {
			err = fmt.Errorf("step %d: %v", step, p)
			if at >= 0 && l.src != nil {
				err = fmt.Errorf("%s: %v", l.src.Where(at), p)
			}
		}
	}()
	b.Indices = w.order[step*l.cfg.Batch : min((step+1)*l.cfg.Batch, len(w.order))]
	b.Step = step
	lo, hi := l.cfg.taken(len(b.Indices))
	if mixed := len(l.cfg.Mix) > 0; !mixed {
		b.Indices = b.Indices[lo:hi]
	} else {
		defer func() {
			b.Indices, b.X, b.Target = b.Indices[lo:hi], rows(b.X, lo, hi), rows(b.Target, lo, hi)
		}()
	}
	n := len(b.Indices)
	b.fit(l, n)
	if l.src == nil {
		return l.ds.Fill(b.X, b.Target, b.Indices)
	}
	target := b.Target
	if b.labels != nil {
		target = first(b.labels, n)
	}
	view, err := newBatchView(l.view().(Source), b.X, target, n)
	if err != nil {
		return err
	}
	for i, at1 := range b.Indices {
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		at = at1
		s, err := l.src.Sample(at)
		if err != nil {
			return err // which names it
		}
		if len(l.cfg.Transforms) > 0 {
			again := 0
			if w.again != nil {
				again = w.again[step*l.cfg.Batch+i]
			}
			if s, err = w.transform(s, at, again); err != nil {
				return fmt.Errorf("%s: %w", l.src.Where(at), err)
			}
		}
		if err := view.put(i, s, l.src.Norm()); err != nil {
			return fmt.Errorf("%s: %w", l.src.Where(at), err)
		}
	}
	at = -1
	return w.soften(b, target)
}

// transform applies the transforms to a sample that the epoch has had so many times before; the result
// lies in the worker's memory.
func (w *worker) transform(s Sample, index, again int) (Sample, error) {
	w.pcg.Seed(transforms.Seeds(w.l.cfg.Seed, w.epoch.epoch, index+again*w.l.ds.Len()))
	t := &w.sample
	t.Image, t.Mask, t.Label = transforms.Image{C: s.C, H: s.H, W: s.W, Pix: s.Pixels}, nil, s.Label
	t.Epoch, t.Key = w.epoch.epoch, transforms.Key(w.l.cfg.Seed, index)
	if s.Mask != nil {
		t.Mask = &transforms.Mask{H: s.H, W: s.W, Pix: s.Mask}
	}
	if err := w.l.cfg.Transforms.Apply(t, w.rand); err != nil {
		return s, err
	}
	s.C, s.H, s.W, s.Pixels, s.Label = t.Image.C, t.Image.H, t.Image.W, t.Image.Pix, t.Label
	if t.Mask != nil {
		s.Mask = t.Mask.Pix
	}
	return s, nil
}

// batchStream keeps the random numbers of batches apart from those of samples.
const batchStream = 0xb5297a4d3f84d5b5

// soften makes soft targets of labels and mixes the batch.
func (w *worker) soften(b *buffer, labels *onnxio.Tensor) error {
	if b.labels == nil {
		return nil
	}
	if err := transforms.OneHot(b.Target, labels); err != nil {
		return err
	}
	w.pcg.Seed(transforms.Seeds(w.l.cfg.Seed^batchStream, w.epoch.epoch, b.Step))
	for _, m := range w.l.cfg.Mix {
		if err := m.ApplyBatch(b.X, b.Target, w.rand); err != nil {
			return fmt.Errorf("step %d: %w", b.Step, err)
		}
	}
	return nil
}
