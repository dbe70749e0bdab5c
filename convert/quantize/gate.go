package quantize

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Report is what the gate measured, on this machine.
type Report struct {
	Layers     []Layer       `json:"layers"`
	Float32    time.Duration `json:"float32_ns"` // of the whole model, for a batch of one
	Int8       time.Duration `json:"int8_ns"`
	FloatScore float64       `json:"float32_score"`
	Score      float64       `json:"int8_score"`
}

// costly is the reason of layers that add too much error.
const costly = "costs too much"

// Layer is a convolution or matrix product in the report.
type Layer struct {
	Name    string        `json:"name"`
	Op      string        `json:"op"`
	Float32 time.Duration `json:"float32_ns"` // for a batch of one
	Int8    time.Duration `json:"int8_ns"`
	// of the squared error that all layers add to the output, each quantized alone
	Share  float64 `json:"error_share"`
	Type   string  `json:"type"` // int8 or float32
	Reason string  `json:"reason,omitempty"`
}

// gate measures what each layer gains and costs, and leaves in float32 what does not pay.
func (q *quantizer) gate(ctx context.Context, data Data, opt Options, float map[string]bool) (*onnxio.Model,
	*Report, error) {
	t := &trial{quantizer: q, ctx: ctx, data: data, pool: parallel.New(opt.Threads), maxLoss: 0.005,
		reasons: map[string]string{}}
	defer t.pool.Close()
	if opt.MaxLoss != nil {
		t.maxLoss = *opt.MaxLoss
	}
	if t.measure = opt.measure; t.measure == nil {
		t.measure = t.timings
	}
	for name := range float {
		t.reasons[name] = "excluded"
	}
	m, err := t.run(float)
	if err != nil {
		return nil, t.report, err
	}
	return m, t.report, nil
}

// trial is a gate at work.
type trial struct {
	*quantizer
	ctx     context.Context
	data    Data
	pool    *parallel.Pool
	maxLoss float64
	measure func(float, int8 *onnxio.Model) ([2]timing, error)
	report  *Report
	reasons map[string]string // of the layers in float32
	answers [][]float32       // of the float32 model, for the first batches
}

func (t *trial) run(float map[string]bool) (*onnxio.Model, error) {
	m, err := t.model(float)
	if err != nil {
		return nil, err
	}
	if err := t.layerTable(m, float); err != nil {
		return nil, err
	}
	if m, err = t.dropSlow(m, float); err != nil {
		return nil, err
	}
	if m, err = t.dropHarmful(m, float); err != nil {
		return nil, err
	}
	left, worse := 0, false
	for i := range t.report.Layers {
		l := &t.report.Layers[i]
		if l.Type = "int8"; float[l.Name] {
			l.Type, l.Reason = "float32", t.reasons[l.Name]
			worse = worse || l.Reason == costly
			continue
		}
		left++
	}
	if left == 0 && worse || t.report.Score < t.report.FloatScore-t.maxLoss {
		return nil, ErrWorse
	}
	if left == 0 || t.report.Int8 >= t.report.Float32 {
		return nil, ErrSlower
	}
	return m, nil
}

// layerTable fills in what each layer takes in both models, and what it costs alone.
func (t *trial) layerTable(m *onnxio.Model, float map[string]bool) error {
	t.report = &Report{}
	fast, err := t.measure(t.g.m, m)
	if err != nil {
		return err
	}
	shares, err := t.shares(float)
	if err != nil {
		return err
	}
	for _, n := range t.g.layers() {
		t.report.Layers = append(t.report.Layers, Layer{Name: n.Name, Op: n.OpType,
			Float32: fast[0].layers[n.Name],
			Int8:    fast[1].layers[n.Name], Share: shares[n.Name]})
	}
	t.note(fast)
	return nil
}

// note keeps the times of whole models.
func (t *trial) note(times [2]timing) {
	t.report.Float32, t.report.Int8 = times[0].total, times[1].total
}

// dropSlow leaves layers in float32 that are faster so, where the model is faster for it.
func (t *trial) dropSlow(m *onnxio.Model, float map[string]bool) (*onnxio.Model, error) {
	var slow []string
	for _, l := range t.report.Layers {
		if !float[l.Name] && l.Int8 >= l.Float32 {
			slow = append(slow, l.Name)
		}
	}
	if len(slow) == 0 {
		return m, nil
	}
	for _, name := range slow {
		float[name], t.reasons[name] = true, "slower"
	}
	other, err := t.model(float)
	if err != nil {
		return nil, err
	}
	before := t.report.Int8
	times, err := t.measure(t.g.m, other)
	if err != nil {
		return nil, err
	}
	// what it takes to change the type costs more than is won
	if times[1].total >= before && before < times[0].total {
		for _, name := range slow {
			delete(float, name)
		}
		return m, nil
	}
	t.note(times)
	return other, nil
}

// dropHarmful leaves the layers in float32 that add the most error, until little enough is lost.
func (t *trial) dropHarmful(m *onnxio.Model, float map[string]bool) (*onnxio.Model, error) {
	var err error
	if t.report.FloatScore, err = t.score(t.g.m); err != nil {
		return nil, err
	}
	if t.report.Score, err = t.score(m); err != nil {
		return nil, err
	}
	order := slices.Clone(t.report.Layers)
	slices.SortStableFunc(order, func(a, b Layer) int { return int(math.Copysign(1, b.Share-a.Share)) })
	changed := false
	for _, l := range order {
		if t.report.Score >= t.report.FloatScore-t.maxLoss {
			break
		}
		if float[l.Name] || l.Share == 0 {
			continue
		}
		float[l.Name], t.reasons[l.Name], changed = true, costly, true
		if m, err = t.model(float); err != nil {
			return nil, err
		}
		if t.report.Score, err = t.score(m); err != nil {
			return nil, err
		}
	}
	if !changed {
		return m, nil
	}
	times, err := t.measure(t.g.m, m)
	if err != nil {
		return nil, err
	}
	t.note(times)
	return m, nil
}

// score is how good a model is: as the caller says, else how often its answers are those of float32.
func (t *trial) score(m *onnxio.Model) (float64, error) {
	if t.data.Score != nil {
		return t.data.Score(t.ctx, m)
	}
	if m == t.g.m {
		return 1, nil
	}
	same, all := 0, 0
	for i, x := range t.data.Batches {
		want, err := t.answer(i)
		if err != nil {
			return 0, err
		}
		got, err := t.outputOf(m, x)
		if err != nil {
			return 0, err
		}
		rows := int(x.Dims[0])
		each := len(want) / max(rows, 1)
		for r := range rows {
			all++
			if largest(want[r*each:][:each]) == largest(got[r*each:][:each]) {
				same++
			}
		}
	}
	return float64(same) / float64(max(all, 1)), nil
}

// answer is the first output of the float32 model for batch i.
func (t *trial) answer(i int) ([]float32, error) {
	for len(t.answers) <= i {
		y, err := t.outputOf(t.g.m, t.data.Batches[len(t.answers)])
		if err != nil {
			return nil, err
		}
		t.answers = append(t.answers, y)
	}
	return t.answers[i], nil
}

func largest(x []float32) int {
	at := 0
	for i, v := range x {
		if v > x[at] {
			at = i
		}
	}
	return at
}

// outputOf is the first output of a model.
func (t *trial) outputOf(m *onnxio.Model, x *onnxio.Tensor) ([]float32, error) {
	p, err := engine.Compile(m, engine.Options{Pool: t.pool, Shapes: map[string][]int64{t.g.input: x.Dims}})
	if err != nil {
		return nil, err
	}
	out, err := p.Run(t.ctx, map[string]*onnxio.Tensor{t.g.input: x})
	if err != nil {
		return nil, err
	}
	y := out[m.Graph.Outputs[0].Name]
	if y.Type != onnxio.Float {
		return nil, &onnxio.UnsupportedError{Op: "quantize", Reason: "the first output is no float32"}
	}
	return y.Float32s(), nil
}

// shares are the squared errors that layers add to the output of the first batch, each quantized
// alone, in parts of their sum.
func (t *trial) shares(float map[string]bool) (map[string]float64, error) {
	want, err := t.answer(0)
	if err != nil {
		return nil, err
	}
	out, total := map[string]float64{}, 0.0
	layers := t.g.layers()
	for _, n := range layers {
		if float[n.Name] {
			continue
		}
		others := map[string]bool{}
		for _, o := range layers {
			others[o.Name] = o != n
		}
		m, err := t.model(others)
		if err != nil {
			return nil, err
		}
		got, err := t.outputOf(m, t.data.Batches[0])
		if err != nil {
			return nil, err
		}
		for i, v := range got {
			d := float64(v - want[i])
			out[n.Name] += d * d
		}
		total += out[n.Name]
	}
	for name := range out {
		if total > 0 {
			out[name] /= total
		}
	}
	return out, nil
}

// timing is what a model takes for a batch of one, and its layers.
type timing struct {
	total  time.Duration
	layers map[string]time.Duration
}

// The models run in turns, in windows of about this length; the least of each counts.
const (
	windows      = 9
	windowLength = 20 * time.Millisecond
)

// timings measures two models.
func (t *trial) timings(float, int8 *onnxio.Model) (out [2]timing, err error) {
	x := t.data.Batches[0]
	one := &onnxio.Tensor{Type: x.Type, Dims: append([]int64{1}, x.Dims[1:]...)}
	one.Raw = x.Raw[:len(x.Raw)/int(x.Dims[0])]
	if len(t.g.m.Graph.Inputs[0].Type.Shape) > 0 && t.g.m.Graph.Inputs[0].Type.Shape[0].Known() {
		one = x // a fixed batch
	}
	in := map[string]*onnxio.Tensor{t.g.input: one}
	var plans [2]*engine.Plan
	for i, m := range []*onnxio.Model{float, int8} {
		if plans[i], err = engine.Compile(m, engine.Options{Pool: t.pool,
			Shapes: map[string][]int64{t.g.input: one.Dims}}); err != nil {
			return out, err
		}
		out[i].layers = map[string]time.Duration{}
		if _, err := plans[i].Run(t.ctx, in); err != nil {
			return out, err
		}
	}
	for range windows {
		for i, p := range plans {
			if err := out[i].window(t.ctx, p, in); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// window runs a plan for a while and keeps the least times.
func (w *timing) window(ctx context.Context, p *engine.Plan, in map[string]*onnxio.Tensor) error {
	p.Profile(true)
	start := time.Now()
	for n := 0; n < 3 || time.Since(start) < windowLength; n++ {
		if _, err := p.Run(ctx, in); err != nil {
			return err
		}
	}
	sums, total := map[string]time.Duration{}, time.Duration(0)
	for _, s := range p.Steps() {
		sums[s.Name] += s.Time
		total += s.Time
	}
	if w.total == 0 || total < w.total {
		w.total = total
	}
	for name, d := range sums {
		if old, ok := w.layers[name]; !ok || d < old {
			w.layers[name] = d
		}
	}
	return nil
}
