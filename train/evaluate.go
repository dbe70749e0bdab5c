package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
)

// Score is what a model reaches on a data set.
type Score struct {
	Images int
	Loss   float64 // mean over the images, and their pixels
	// share of right answers, of images, pixels or labels, 0..1; NaN where values are to be predicted
	Accuracy float64

	Metrics    map[string]float64 // those asked for; those that do not exist here are absent
	Confusion  *Confusion         // when a metric asked for needs it
	Classes    []ClassScore       // of several labels, and where there is a Confusion
	Thresholds []float64          // by which several labels were told, one for each; nil: 0.5
}

// Forward computes the first output of a model for a batch x [N,C,H,W].
type Forward = vision.Forward

// Evaluate scores any engine on a data set, batch images at a time. logs says that the outputs are
// log-probabilities; otherwise they are logits.
func Evaluate(ctx context.Context, forward Forward, ds data.Dataset, batch int, logs bool) (Score, error) {
	loss := LossCrossEntropy
	if logs {
		loss = LossNLL
	}
	return Measure(ctx, forward, ds, batch, loss, nil)
}

// Measure is Evaluate for any kind of target and with metrics of Metrics. loss says what the
// outputs and the targets are.
//
// The loss that is measured is the negative log-likelihood of labels and the binary cross-entropy of masks
// and of several labels; that of values, and a loss of RegisterLoss or of a file, is measured as it is.
func Measure(ctx context.Context, forward Forward, ds data.Dataset, batch int, loss string,
	metrics []string) (Score, error) {
	return Config{Loss: loss, Metrics: metrics}.Measure(ctx, forward, ds, batch)
}

// Measure is the function of the same name by Loss, Metrics, Thresholds and the loss's Settings.
func (c Config) Measure(ctx context.Context, forward Forward, ds data.Dataset, batch int) (Score, error) {
	return c.measure(ctx, forward, ds, batch, c.Loss == LossNLL || c.Loss == LossSoftNLL)
}

// measure scores by the settings of a run. logs says that the outputs are log-probabilities.
func (c Config) measure(ctx context.Context, forward Forward, ds data.Dataset, batch int,
	logs bool) (Score, error) {
	n := ds.Len()
	if n == 0 {
		return Score{}, fmt.Errorf("the data set has no images")
	}
	loss, err := findLoss(c.Loss)
	if err != nil {
		return Score{}, err
	}
	m, err := c.newMeters(loss, ds, logs)
	if err != nil {
		return Score{}, err
	}
	for b, err := range batches(ctx, ds, batch, m.kind) {
		if err != nil {
			return Score{}, err
		}
		y, err := forward(ctx, b.X)
		if err != nil {
			return Score{}, err
		}
		if err := m.add(ctx, y, b.Target); err != nil {
			return Score{}, err
		}
	}
	return m.score(n), nil
}

// NewBatch allocates input [n,C,H,W] and target [n].
func NewBatch(shape [3]int, n int) (x, target *onnxio.Tensor) {
	x = onnxio.NewTensor(onnxio.Float, int64(n), int64(shape[0]), int64(shape[1]), int64(shape[2]))
	return x, onnxio.NewTensor(onnxio.Int64, int64(n))
}

// EvaluationBatch is how many images [C,H,W] are evaluated at a time: 500 of CIFAR-10's size, fewer of larger
// ones, whose maps would fill the memory.
func EvaluationBatch(shape [3]int) int {
	return min(500, max(8, 500*3*32*32/max(1, shape[0]*shape[1]*shape[2])))
}

// kind is how outputs and targets are to be read.
type kind struct {
	logs    bool // outputs are log-probabilities
	masks   bool // targets are float32 masks of the output's shape
	maps    bool // targets are int64 [N,H,W]
	soft    bool // targets are probabilities, float32 [N,C]
	values  bool // targets are numbers, float32 [N,K]
	several bool // they are 0 and 1 of several labels, and outputs logits

	thresholds Thresholds // of several labels
}

// kind says how a loss's outputs and targets are to be read. maps says that there is an answer for each
// pixel, numbers that the targets are numbers of the whole image, logs that outputs are log-probabilities.
func (l Loss) kind(maps, numbers, logs bool) kind {
	dense := l.Targets == Binary || l.Targets == Numbers
	return kind{logs: logs, soft: l.Targets == Soft, maps: maps && l.Targets == Labels,
		masks:  dense && !numbers,
		values: dense && numbers, several: numbers && l.Targets == Binary}
}

// target is the tensor that takes the targets of as many images as labels has.
func (k kind) target(labels *onnxio.Tensor, shape [3]int, width int) *onnxio.Tensor {
	n, h, w := labels.Dims[0], int64(shape[1]), int64(shape[2])
	switch {
	case k.values:
		return onnxio.NewTensor(onnxio.Float, n, int64(width))
	case k.masks:
		return onnxio.NewTensor(onnxio.Float, n, 1, h, w)
	case k.maps:
		return onnxio.NewTensor(onnxio.Int64, n, h, w)
	}
	return labels
}

// right counts the right answers of a batch, and how many there were: images, or pixels.
func (k kind) right(y, target *onnxio.Tensor) (right, counted int, err error) {
	if k.masks {
		if !slices.Equal(y.Dims, target.Dims) {
			return 0, 0, fmt.Errorf("the output is %v, the masks %v", y.Dims, target.Dims)
		}
		truth := target.Float32s()
		for i, v := range y.Float32s() {
			if (v > 0) == (truth[i] > 0.5) {
				right++
			}
		}
		return right, len(truth), nil
	}
	if k.soft {
		return softRight(y, target)
	}
	k.logs = true // the loss is not wanted
	t := tally{kind: k}
	if err := t.add(y, target); err != nil {
		return 0, 0, err
	}
	return t.right, t.count, nil
}

// softRight counts the rows whose largest output is at the largest target.
func softRight(y, target *onnxio.Tensor) (right, counted int, err error) {
	if len(y.Dims) != 2 || !slices.Equal(y.Dims, target.Dims) {
		return 0, 0, fmt.Errorf("the output is %v, the soft targets %v", y.Dims, target.Dims)
	}
	n, cols := int(y.Dims[0]), int(y.Dims[1])
	for i := range n {
		if argmax(y.Float32s()[i*cols:(i+1)*cols]) == argmax(target.Float32s()[i*cols:(i+1)*cols]) {
			right++
		}
	}
	return right, n, nil
}

// meters gather what a score is made of.
type meters struct {
	*tally
	lossOf func(ctx context.Context, y, target *onnxio.Tensor) (float64, error) // nil: the tally's
	// of losses, weighted by images
	sum    float64
	images int
	own    map[string]Meter // of RegisterMetric
}

func (c Config) newMeters(loss Loss, ds data.Dataset, logs bool) (*meters, error) {
	m := &meters{tally: newTally(loss.kind(data.Masked(ds), data.Width(ds) > 0, logs), ds.Classes(),
		c.Metrics), own: map[string]Meter{}}
	if err := c.Thresholds.check(m.several, data.Width(ds)); err != nil {
		return nil, err
	}
	m.thresholds = c.Thresholds
	if !loss.builtin {
		m.lossOf = c.lossOf(loss, logs)
	}
	for _, name := range c.Metrics {
		metric, err := metrics.find(name)
		if err != nil {
			return nil, err
		}
		if metric.New == nil {
			continue
		}
		if m.own[name], err = metric.New(Measured{Classes: ds.Classes(), Loss: loss.Name, Logs: logs,
			Settings: c.Settings}); err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return m, nil
}

// add takes a batch.
func (m *meters) add(ctx context.Context, y, target *onnxio.Tensor) error {
	if err := m.tally.add(y, target); err != nil {
		return err
	}
	if m.lossOf != nil {
		v, err := m.lossOf(ctx, y, target)
		if err != nil {
			return err
		}
		n := int(y.Dims[0])
		m.sum, m.images = m.sum+v*float64(n), m.images+n
	}
	for name, meter := range m.own {
		if err := meter.Add(y, target); err != nil {
			return fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return nil
}

// lossOf computes a loss by its own graph.
func (c Config) lossOf(loss Loss, logs bool) func(ctx context.Context, y, target *onnxio.Tensor) (float64,
	error) {
	plans := map[int64]*engine.Plan{}
	return func(ctx context.Context, y, target *onnxio.Tensor) (float64, error) {
		p := plans[y.Dims[0]]
		if p == nil {
			m, err := c.lossModel(loss, y, logs)
			if err != nil {
				return 0, err
			}
			shapes := map[string][]int64{outputName: y.Dims, TargetName: target.Dims}
			if p, err = engine.Compile(m, engine.Options{Shapes: shapes}); err != nil {
				return 0, fmt.Errorf("loss %s: %w", loss.Name, err)
			}
			plans[y.Dims[0]] = p
		}
		out, err := p.Run(ctx, map[string]*onnxio.Tensor{outputName: y, TargetName: target})
		if err != nil {
			return 0, fmt.Errorf("loss %s: %w", loss.Name, err)
		}
		return float64(out[LossName].Float32s()[0]), nil
	}
}

// outputName is the model's output in a graph of the loss alone.
const outputName = "output"

// lossModel is the loss alone, of outputs of y's shape whatever their number. All images weigh the same.
func (c Config) lossModel(loss Loss, y *onnxio.Tensor, logs bool) (*onnxio.Model, error) {
	c.SampleWeights = false
	var shape []onnxio.Dim
	for _, d := range y.Dims {
		shape = append(shape, onnxio.Dim{Value: d})
	}
	scale := spec.Logits
	if logs {
		scale = spec.LogProbabilities
	}
	info := onnxio.TensorInfo(outputName, onnxio.Float, shape...)
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, ProducerName: "cnnkit",
		Graph: &onnxio.Graph{Name: "loss", Inputs: []*onnxio.ValueInfo{info}}}
	if err := c.emit(m, loss, info, scale); err != nil {
		return nil, err
	}
	return m, nil
}

// add takes a batch.
func (t *tally) add(y, target *onnxio.Tensor) error {
	switch {
	case t.masks:
		return t.addMasks(y, target)
	case t.values:
		return t.addValues(y, target)
	}
	labels := onnxio.Data[int64](target)
	fits := y.Type == onnxio.Float && len(y.Dims) >= 2 && len(target.Dims) == len(y.Dims)-1 &&
		y.Dims[0] == target.Dims[0] &&
		slices.Equal(y.Dims[2:], target.Dims[1:])
	if !fits {
		return fmt.Errorf("the output is %v %v; a classifier gives float32 [%d,classes]", y.Type, y.Dims,
			len(labels))
	}
	values, cols, inner := y.Float32s(), int(y.Dims[1]), 1
	for _, d := range y.Dims[2:] {
		inner *= int(d)
	}
	row := make([]float32, cols)
	for i, label := range labels {
		if label == data.Void && cols <= data.Void && len(target.Dims) > 1 {
			continue
		}
		if int(label) >= cols || label < 0 {
			return fmt.Errorf("label %d, but the model has %d outputs", label, cols)
		}
		if inner == 1 {
			row = values[i*cols : (i+1)*cols]
		} else {
			base := i/inner*cols*inner + i%inner
			for c := range row {
				row[c] = values[base+c*inner]
			}
		}
		t.addRow(row, int(label), inner == 1)
	}
	return nil
}

func (t *tally) addRow(row []float32, label int, image bool) {
	t.count++
	best := argmax(row)
	if best == label {
		t.right++
	}
	t.loss -= float64(row[label])
	total := 0.0
	if !t.logs {
		total = logSumExp(row)
		t.loss += total
	}
	if t.confusion != nil && label < len(t.classes) && best < len(t.classes) {
		t.confusion.Counts[label][best]++
	}
	if len(t.want) == 0 {
		return
	}
	for name, k := range map[string]int{"top3": 3, "top5": 5} {
		if t.wants(name) && InTop(row, label, k) {
			t.tops[k]++
		}
	}
	if image && t.wants("auc") {
		t.labels = append(t.labels, label)
		for _, v := range row {
			t.rows = append(t.rows, math.Exp(float64(v)-total))
		}
	}
}

func (t *tally) addMasks(y, target *onnxio.Tensor) error {
	if y.Type != onnxio.Float || !slices.Equal(y.Dims, target.Dims) {
		return fmt.Errorf("the output is %v %v, the masks %v %v", y.Type, y.Dims, target.Type, target.Dims)
	}
	truth := target.Float32s()
	for i, v := range y.Float32s() {
		is, says := t.addBinary(v, truth[i], v > 0)
		if t.confusion != nil {
			t.confusion.Counts[is][says]++
		}
	}
	return nil
}

// addBinary takes a logit, its truth, 0 or 1, and whether the logit stands for 1, and
// gives the two as numbers.
func (t *tally) addBinary(v, truth float32, one bool) (is, says int) {
	x := float64(v)
	t.count++
	t.loss += max(x, 0) - x*float64(truth) + math.Log1p(math.Exp(-math.Abs(x)))
	if truth > 0.5 {
		is = 1
	}
	if one {
		says = 1
	}
	if is == says {
		t.right++
	}
	return is, says
}

// outcome is the index in tally.binary by truth and answer.
var outcome = [2][2]int{{3, 1}, {2, 0}}

// addValues takes numbers.
func (t *tally) addValues(y, target *onnxio.Tensor) error {
	if y.Type != onnxio.Float || !slices.Equal(y.Dims, target.Dims) || len(y.Dims) != 2 {
		return fmt.Errorf("the output is %v %v, the targets are %v %v: the model is to give a number for each", y.Type, y.Dims, target.Type, target.Dims)
	}
	k, truth := int(y.Dims[1]), target.Float32s()
	if t.several && t.binary == nil {
		t.binary = make([][4]int, k)
	}
	for i, v := range y.Float32s() {
		if t.several {
			is, says := t.addBinary(v, truth[i], t.thresholds.above(float64(v), i%k))
			t.binary[i%k][outcome[is][says]]++
		}
		if len(t.want) > 0 || t.thresholds.Best {
			t.rows, t.truths = append(t.rows, float64(v)), append(t.truths, float64(truth[i]))
		}
	}
	return nil
}

// score sums up.
func (m *meters) score(images int) Score {
	if m.thresholds.Best {
		m.settleThresholds()
	}
	s := Score{Images: images, Loss: m.loss / float64(m.count), Accuracy: share(m.right, m.count),
		Confusion: m.confusion}
	if m.lossOf != nil {
		s.Loss = m.sum / float64(m.images)
	}
	switch {
	case m.several:
		s.Classes = m.labelScores()
	case m.confusion != nil:
		s.Classes = m.confusion.PerClass()
	}
	if m.several && !m.thresholds.IsZero() {
		for i := range m.binary {
			s.Thresholds = append(s.Thresholds, m.thresholds.of(i))
		}
	}
	if len(m.want) == 0 {
		return s
	}
	s.Metrics = map[string]float64{}
	for _, name := range m.want {
		v := math.NaN()
		if own := m.own[name]; own != nil {
			if x, ok := own.Value(); ok {
				v = x
			}
		} else if metric, err := metrics.find(name); err == nil && metric.of != nil {
			v = metric.of(m.tally)
		}
		if !math.IsNaN(v) {
			s.Metrics[name] = v
		}
	}
	return s
}

// argmax is the index of the first largest value.
func argmax(row []float32) int {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}

func logSumExp(row []float32) float64 {
	top := float64(row[argmax(row)])
	sum := 0.0
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// native is the Forward of the native engine for images in the layout of data sets.
func native(m *onnxio.Model, pool *parallel.Pool) Forward {
	return vision.Adapt(formOf(m), planned(m, pool))
}

// planned has one plan for full batches and one for the last.
func planned(m *onnxio.Model, pool *parallel.Pool) Forward {
	var weights engine.Weights
	plans := map[int64]*engine.Plan{}
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		in, out := m.Graph.Inputs[0].Name, m.Graph.Outputs[0].Name
		p := plans[x.Dims[0]]
		if p == nil {
			var err error
			if p, err = weights.Compile(m,
				engine.Options{Pool: pool, Shapes: map[string][]int64{in: x.Dims}}); err != nil {
				return nil, err
			}
			plans[x.Dims[0]] = p
		}
		res, err := p.Run(ctx, map[string]*onnxio.Tensor{in: x})
		if err != nil {
			return nil, err
		}
		return res[out], nil
	}
}
