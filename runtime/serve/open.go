package serve

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// open loads a version of a model, warms it up and lets its workers run. The configuration may be nil.
func (r *repository) open(ctx context.Context, s source, f versionFile, given *oip.ModelConfig) (*model,
	error) {
	file, err := onnxio.Load(f.path)
	if err != nil {
		return nil, err
	}
	if err := carried(file.Graph); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	config := &oip.ModelConfig{}
	proto.Merge(config, given) // each version completes its own
	m := &model{name: s.name, version: f.version, config: config, metrics: r.metrics, log: r.log}
	instances := instancesOf(config, r.opt)
	opts := slices.Clone(r.opt.Session)
	if instances > 1 {
		opts = append(opts, runtime.WithStreams(instances))
	}
	if m.session, err = runtime.OpenModel(file, opts...); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	if err := r.settle(ctx, m, file, s.dir, given != nil); err != nil {
		m.session.Close()
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	m.start(instances)
	r.log.Info("model ready", "model", m.id(), "engine", m.session.Engine(), "why", m.session.Reason(),
		"max_batch", m.queue.most, "instances", instances)
	return m, nil
}

// settle decides how requests share runs, and warms the model up.
func (r *repository) settle(ctx context.Context, m *model, file *onnxio.Model, dir string,
	configured bool) error {
	for _, t := range file.Graph.Initializers {
		m.weights += int64(len(t.Raw))
	}
	if s, err := spec.Get(file); err == nil {
		m.meaning = &s
	} else {
		m.foreign = err.Error()
	}
	c := m.config
	if !configured && r.opt.MaxBatch > 1 {
		if why := unbatchable(m.session.Inputs(), m.session.Outputs()); why != "" {
			r.log.Info("requests run one by one", "model", m.id(), "why", why)
		} else {
			c.MaxBatchSize = int32(min(r.opt.MaxBatch, math.MaxInt32))
			c.DynamicBatching = &oip.ModelDynamicBatching{MaxQueueDelayMicroseconds: uint64(
				r.opt.MaxDelay.Microseconds())}
		}
	}
	if err := complete(c, m.name, m.session, r.opt); err != nil {
		return err
	}
	m.queue = queueOf(c, r.opt)
	m.levels = min(c.GetDynamicBatching().GetPriorityLevels(), maxLevels)
	if p := c.GetDynamicBatching().GetDefaultQueuePolicy(); p.GetDefaultTimeoutMicroseconds() > 0 {
		m.timeout = time.Duration(min(p.GetDefaultTimeoutMicroseconds(),
			uint64(maxTimeout/time.Microsecond))) * time.Microsecond
		m.extend = p.GetAllowTimeoutOverride()
	}
	if err := m.warm(ctx); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return m.warmAsConfigured(ctx, dir)
}

// maxLevels bounds a model's priorities.
const maxLevels = 1 << 10

// maxInstances bounds the runs of a model that go on at once.
const maxInstances = 256

func instancesOf(c *oip.ModelConfig, opt *Options) int {
	n := 0
	for _, g := range c.InstanceGroup {
		n += max(int(g.Count), 1)
	}
	if n == 0 {
		n = max(opt.Instances, 1)
	}
	return min(n, maxInstances)
}

// queueOf is the queue that a configuration asks for. Without dynamic_batching a request is a run.
func queueOf(c *oip.ModelConfig, opt *Options) *queue {
	most, batching := int64(c.MaxBatchSize), c.DynamicBatching
	limit := opt.MaxQueue
	if n := batching.GetDefaultQueuePolicy().GetMaxQueueSize(); n > 0 {
		limit = int(n)
	}
	q := newQueue(limit, most, nil, 0)
	if batching != nil {
		q.share = true
		q.sizes = runSizes(most)
		for _, n := range batching.PreferredBatchSize {
			q.sizes = append(q.sizes, int64(n))
		}
		q.delay = time.Duration(min(batching.MaxQueueDelayMicroseconds,
			uint64(time.Minute/time.Microsecond))) * time.Microsecond
	}
	return q
}

// warmRuns is how often each batch is run before a model is ready: the first compiles, the
// second finds warm memory.
const warmRuns = 2

// warm runs the model at the batches that it will see, and checks that a batch's rows do not depend on each
// other: where they do, or where the model cannot be tried, requests must not share runs.
func (m *model) warm(ctx context.Context) error {
	sizes := m.queue.sizes
	if !m.queue.share {
		sizes = []int64{1}
	}
	why, err := m.tried(ctx, sizes)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		why = "on noise the model says: " + err.Error()
	}
	if why != "" && m.queue.share {
		m.queue.share = false
		m.log.Warn("requests run one by one", "model", m.id(), "why", why)
	} else if why != "" {
		m.log.Info("no warm-up", "model", m.id(), "why", why)
	}
	return nil
}

// tried runs batches of noise; why says what speaks against sharing runs.
func (m *model) tried(ctx context.Context, sizes []int64) (why string, err error) {
	for _, v := range m.session.Inputs() {
		if elemOf(v) == onnxio.String || dimsOf(v) == nil {
			return fmt.Sprintf("input %q cannot be tried without data", v.Name), nil
		}
	}
	for _, n := range sizes {
		in, err := m.example(n)
		if err != nil {
			return "", err
		}
		for range warmRuns {
			if _, err := m.session.Run(ctx, in); err != nil {
				return "", err
			}
		}
	}
	if !m.queue.share {
		return "", nil
	}
	return m.entangled(ctx)
}

// example is a batch of n rows of noise.
func (m *model) example(n int64) (map[string]*onnxio.Tensor, error) {
	source := rand.New(rand.NewPCG(1, uint64(n)))
	in := map[string]*onnxio.Tensor{}
	for _, v := range m.session.Inputs() {
		dims := dimsOf(v)
		for i := range dims {
			switch {
			case dims[i] < 0 && i == 0:
				dims[i] = n
			case dims[i] < 0:
				dims[i] = freeSide
			}
		}
		if b, err := onnxio.CheckedBytes(elemOf(v), dims); err != nil || b > maxExample {
			return nil, fmt.Errorf("input %q is too large to be tried", v.Name)
		}
		in[v.Name] = noise(source, elemOf(v), dims)
	}
	return in, nil
}

const (
	freeSide   = 64      // of a dimension of any size, in noise
	maxExample = 1 << 30 // bytes of noise
)

// noise is numbers from 0 to 1 of a float type, 0 and 1 of another.
func noise(source *rand.Rand, typ onnxio.DataType, dims []int64) *onnxio.Tensor {
	t := onnxio.NewTensor(typ, dims...)
	switch typ {
	case onnxio.Float:
		for i := range t.Float32s() {
			t.Float32s()[i] = source.Float32()
		}
	case onnxio.Double:
		for i := range onnxio.Data[float64](t) {
			onnxio.Data[float64](t)[i] = source.Float64()
		}
	case onnxio.Float16, onnxio.BFloat16:
		one := map[onnxio.DataType]uint16{onnxio.Float16: 0x3c00, onnxio.BFloat16: 0x3f80}[typ]
		for i := range onnxio.Data[uint16](t) {
			onnxio.Data[uint16](t)[i] = one * uint16(source.IntN(2))
		}
	default:
		width := max(typ.Bits()/8, 1)
		for i := 0; i < len(t.Raw); i += width {
			t.Raw[i] = uint8(source.IntN(2))
		}
	}
	return t
}

// rowTolerance is the largest difference, as a share of an output's largest number, between a row that was
// computed alone and in a batch: batches of other sizes sum in another order, and bfloat16 has 8 bits. What a
// row takes over from the other is more than that, since the other is outlier times as large.
const rowTolerance = 1e-2

// outlier is by how much the second row of the trial is larger: rows that share no more than a scale of
// quantization differ only where one of them is far larger.
const outlier = 64

// entangled says which output of a batch of two is not the two rows' own.
func (m *model) entangled(ctx context.Context) (string, error) {
	if m.queue.most < 2 {
		return "", nil
	}
	both, err := m.example(2)
	if err != nil {
		return "", err
	}
	for _, t := range both {
		enlarge(part(t, 1, 1))
	}
	together, err := m.session.Run(ctx, both)
	if err != nil {
		return "", err
	}
	for row := range int64(2) {
		in := map[string]*onnxio.Tensor{}
		for name, t := range both {
			p := part(t, row, 1)
			in[name] = p.Clone() // at an address of its own
		}
		alone, err := m.session.Run(ctx, in)
		if err != nil {
			return "", err
		}
		for name, want := range alone {
			t := together[name]
			if len(t.Dims) == 0 || t.Dims[0] != 2 || len(want.Dims) == 0 || want.Dims[0] != 1 ||
				!near(part(t, row, 1), want) {
				return fmt.Sprintf("rows of a batch depend on each other in output %q", name), nil
			}
		}
	}
	return "", nil
}

// enlarge makes floats larger by outlier; integers may be places in a table.
func enlarge(t *onnxio.Tensor) {
	switch t.Type {
	case onnxio.Float:
		for i := range t.Float32s() {
			t.Float32s()[i] *= outlier
		}
	case onnxio.Double:
		for i := range onnxio.Data[float64](t) {
			onnxio.Data[float64](t)[i] *= outlier
		}
	}
}

// near compares floats to rowTolerance, other elements by the share of those that differ.
func near(got, want *onnxio.Tensor) bool {
	if !slices.Equal(got.Dims, want.Dims) {
		return false
	}
	switch want.Type {
	case onnxio.Float:
		return nearly(got.Float32s(), want.Float32s())
	case onnxio.Double:
		return nearly(onnxio.Data[float64](got), onnxio.Data[float64](want))
	}
	n := 0
	for i, s := range want.Strings {
		if !bytes.Equal(got.Strings[i], s) {
			n++
		}
	}
	width := max(want.Type.Bits()/8, 1)
	for i := 0; i < len(want.Raw); i += width {
		if !bytes.Equal(got.Raw[i:i+width], want.Raw[i:i+width]) {
			n++
		}
	}
	return 20*n <= len(want.Strings)+len(want.Raw)/width
}

func nearly[T float32 | float64](got, want []T) bool {
	scale, worst := 0.0, 0.0
	for i, w := range want {
		if g := got[i]; g != w && (g == g || w == w) { // equal infinities and NaN are no difference
			worst = max(worst, math.Abs(float64(w)-float64(g)))
		}
		if !math.IsInf(float64(w), 0) && w == w {
			scale = max(scale, math.Abs(float64(w)))
		}
	}
	return worst <= rowTolerance*scale
}
