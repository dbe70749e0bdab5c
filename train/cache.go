package train

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
)

// cache keeps the features of the samples of a data set, and their targets, so that the frozen layers see
// each sample once in a run.
type cache struct {
	have  []bool
	count int
	rows  map[string]*table
}

// table holds a row for each sample.
type table struct {
	like *onnxio.Tensor // a batch's type and dims
	row  int            // bytes
	raw  []byte
}

func newCache(samples int) *cache {
	return &cache{have: make([]bool, samples), rows: map[string]*table{}}
}

// full says that every sample is there.
func (c *cache) full() bool { return c != nil && c.count == len(c.have) }

// has says that these samples are there.
func (c *cache) has(indices []int) bool {
	return c != nil && !slices.ContainsFunc(indices, func(i int) bool { return !c.have[i] })
}

// get assembles a batch.
func (c *cache) get(indices []int) map[string]*onnxio.Tensor {
	out := map[string]*onnxio.Tensor{}
	for name, t := range c.rows {
		dims := slices.Clone(t.like.Dims)
		dims[0] = int64(len(indices))
		b := onnxio.NewTensor(t.like.Type, dims...)
		for i, s := range indices {
			copy(b.Raw[i*t.row:(i+1)*t.row], t.raw[s*t.row:])
		}
		out[name] = b
	}
	return out
}

// put takes a batch's inputs of the head. The first call allocates; limit bounds the bytes of samples in all.
func (c *cache) put(in map[string]*onnxio.Tensor, indices []int, samples int, limit int64) error {
	if len(c.rows) == 0 {
		if err := c.allocate(in, len(indices), samples, limit); err != nil {
			return err
		}
	}
	for name, t := range c.rows {
		x := in[name]
		if x == nil || len(x.Raw) != t.row*len(indices) {
			return fmt.Errorf("cache_features: %q has another size for other images: leave it out", name)
		}
		for i, s := range indices {
			copy(t.raw[s*t.row:(s+1)*t.row], x.Raw[i*t.row:])
		}
	}
	for _, s := range indices {
		if !c.have[s] {
			c.have[s] = true
			c.count++
		}
	}
	return nil
}

func (c *cache) allocate(in map[string]*onnxio.Tensor, n, samples int, limit int64) error {
	total := int64(0)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		x := in[name]
		if len(x.Dims) == 0 || x.Dims[0] != int64(n) {
			return fmt.Errorf("cache_features: %q is %v for %d images, not one row for each: leave it out",
				name, x.Dims, n)
		}
		total += int64(len(x.Raw)/n) * int64(samples)
	}
	if total > limit {
		return fmt.Errorf("cache_features: the features of %d images take %s, and %s may be taken: freeze more layers, so that they are smaller, "+
			"take a subset or smaller images, raise cache_mib, or leave out cache_features", samples,
			bytesText(total), bytesText(limit))
	}
	for name, x := range in {
		row := len(x.Raw) / n
		c.rows[name] = &table{like: &onnxio.Tensor{Type: x.Type, Dims: x.Dims}, row: row,
			raw: make([]byte, row*len(c.have))}
	}
	return nil
}

func bytesText(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// cacheLimit bounds both caches together: cache_mib, or half of what the engine may take.
func (r *run) cacheLimit() int64 {
	if r.cfg.CacheMiB > 0 {
		return int64(r.cfg.CacheMiB) << 20
	}
	return engine.DefaultBytes() / 2
}

// makeCaches makes the caches of a stage, empty.
func (r *run) makeCaches() error {
	r.cached, r.validated = nil, nil
	switch {
	case !r.cfg.CacheFeatures:
	case r.trunk == nil && len(r.cfg.Unfreeze) == 0:
		return fmt.Errorf("cache_features: no frozen layer comes before the first trained one: freeze the first layers")
	case r.trunk != nil:
		r.cached, r.validated = newCache(r.splits.Train.Len()), newCache(r.splits.Validation.Len())
	}
	return nil
}

// keepFeatures puts a batch into a cache.
func (r *run) keepFeatures(c *cache, in map[string]*onnxio.Tensor, indices []int) error {
	return c.put(in, indices, r.splits.Train.Len()+r.splits.Validation.Len(), r.cacheLimit())
}

// measureCached is Config.measure where the frozen layers see the images of the validation once.
func (r *run) measureCached(ctx context.Context, c Config, ds data.Dataset) (Score, error) {
	loss, err := findLoss(c.Loss)
	if err != nil {
		return Score{}, err
	}
	m, err := c.newMeters(loss, ds, r.kind.logs)
	if err != nil {
		return Score{}, err
	}
	forward := r.headForward()
	for in, err := range r.validationFeatures(ctx, ds, m.kind) {
		if err != nil {
			return Score{}, err
		}
		target := in[TargetName]
		delete(in, TargetName)
		y, err := forward(ctx, in)
		if err != nil {
			return Score{}, err
		}
		if err := m.add(ctx, y, target); err != nil {
			return Score{}, err
		}
	}
	return m.score(ds.Len()), nil
}

// validationFeatures gives the batches of the validation, each as the head's inputs and the target.
func (r *run) validationFeatures(ctx context.Context, ds data.Dataset,
	k kind) iter.Seq2[map[string]*onnxio.Tensor, error] {
	batch := EvaluationBatch(ds.Shape())
	return func(yield func(map[string]*onnxio.Tensor, error) bool) {
		if r.validated.full() {
			for part := range slices.Chunk(data.Sequence(ds.Len()), batch) {
				if !yield(r.validated.get(part), nil) {
					return
				}
			}
			return
		}
		for b, err := range batches(ctx, ds, batch, k) {
			var in map[string]*onnxio.Tensor
			if err == nil {
				in, err = r.inputs(ctx, vision.Fed(r.takes, b.X), b.Target)
			}
			if err == nil {
				err = r.keepFeatures(r.validated, in, b.Indices)
			}
			if !yield(in, err) || err != nil {
				return
			}
		}
	}
}

// headForward computes the model's output from the features, with the weights of this moment.
func (r *run) headForward() func(context.Context, map[string]*onnxio.Tensor) (*onnxio.Tensor, error) {
	var weights engine.Weights
	plans, head := map[string]*engine.Plan{}, r.trunk.head(r.channelsFirst(r.result.Model))
	return func(ctx context.Context, in map[string]*onnxio.Tensor) (*onnxio.Tensor, error) {
		shapes := map[string][]int64{}
		for name, x := range in {
			shapes[name] = x.Dims
		}
		key := fmt.Sprint(shapes)
		p := plans[key]
		if p == nil {
			var err error
			if p, err = weights.Compile(head, engine.Options{Pool: r.pool, Shapes: shapes}); err != nil {
				return nil, err
			}
			plans[key] = p
		}
		out, err := p.Run(ctx, in)
		if err != nil {
			return nil, err
		}
		return out[r.output], nil
	}
}
