package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
)

// Score is what a model reaches on a data set.
type Score struct {
	Images   int     `json:"images"`
	Loss     float64 `json:"loss"`     // mean over the images, and their pixels
	Accuracy float64 `json:"accuracy"` // share of images, or pixels, whose largest output is the label, 0..1

	Metrics   map[string]float64 `json:"metrics,omitempty"`   // those asked for; those that do not exist here are absent
	Confusion *Confusion         `json:"confusion,omitempty"` // when a metric asked for needs it
}

// Forward computes the first output of a model for a batch x [N,C,H,W].
type Forward = vision.Forward

// Evaluate scores any engine on a data set, batch images at a time. logs says that the outputs are log-probabilities;
// otherwise they are logits.
func Evaluate(ctx context.Context, forward Forward, ds data.Dataset, batch int, logs bool) (Score, error) {
	loss := LossCrossEntropy
	if logs {
		loss = LossNLL
	}
	return Measure(ctx, forward, ds, batch, loss, nil)
}

// Measure is Evaluate for any kind of target and with metrics of Metrics. loss says what the outputs and the targets are;
// the loss that is measured is the negative log-likelihood, or the binary cross-entropy where the targets are masks.
//
// precision, recall, f1, iou and dice are means over the classes that occur; with masks of one class those of the
// foreground, all pixels counted together. auc is that of the labels, each class against the others.
func Measure(ctx context.Context, forward Forward, ds data.Dataset, batch int, loss string, metrics []string) (Score, error) {
	n := ds.Len()
	if n == 0 {
		return Score{}, fmt.Errorf("the data set has no images")
	}
	m := newMeter(loss, ds.Classes(), metrics)
	m.maps = !m.masks && data.Masked(ds)
	for b, err := range batches(ctx, ds, batch, m.kind) {
		if err != nil {
			return Score{}, err
		}
		y, err := forward(ctx, b.X)
		if err != nil {
			return Score{}, err
		}
		if err := m.add(y, b.Target); err != nil {
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

// EvaluationBatch is how many images [C,H,W] are evaluated at a time: 500 of CIFAR-10's size, fewer of larger ones, whose
// maps would fill the memory.
func EvaluationBatch(shape [3]int) int {
	return min(500, max(8, 500*3*32*32/max(1, shape[0]*shape[1]*shape[2])))
}

// kind is how outputs and targets are to be read.
type kind struct {
	logs  bool // outputs are log-probabilities
	masks bool // targets are float32 masks of the output's shape
	maps  bool // targets are int64 [N,H,W]
	soft  bool // targets are probabilities, float32 [N,C]
}

func kindOf(loss string) kind {
	return kind{logs: slices.Contains([]string{LossNLL, LossSoftNLL, LossFocal + "/log"}, loss), masks: takesMasks(loss)}
}

// target is the tensor that takes the targets of as many images as labels has.
func (k kind) target(labels *onnxio.Tensor, shape [3]int) *onnxio.Tensor {
	n, h, w := labels.Dims[0], int64(shape[1]), int64(shape[2])
	switch {
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
	m := meter{kind: kind{logs: true}} // the loss is not wanted
	if err := m.add(y, target); err != nil {
		return 0, 0, err
	}
	return m.right, m.count, nil
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

// meter gathers what a score is made of.
type meter struct {
	kind
	want      []string
	classes   []string
	loss      float64
	count     int // of images, or pixels
	right     int
	tops      map[string]int // metric: right answers
	confusion *Confusion
	rows      []float64 // probabilities, for auc
	labels    []int
}

func newMeter(loss string, classes []string, metrics []string) *meter {
	m := &meter{kind: kindOf(loss), want: metrics, classes: classes, tops: map[string]int{}}
	for _, name := range metrics {
		if !slices.Contains([]string{"top3", "top5", "auc"}, name) && m.confusion == nil {
			m.confusion = NewConfusion(classes)
			if m.masks && len(classes) != 2 {
				m.confusion = NewConfusion([]string{"background", "foreground"})
			}
		}
	}
	return m
}

func (m *meter) wants(name string) bool { return slices.Contains(m.want, name) }

// add takes a batch.
func (m *meter) add(y, target *onnxio.Tensor) error {
	if m.masks {
		return m.addMasks(y, target)
	}
	labels := onnxio.Data[int64](target)
	fits := y.Type == onnxio.Float && len(y.Dims) >= 2 && len(target.Dims) == len(y.Dims)-1 && y.Dims[0] == target.Dims[0] &&
		slices.Equal(y.Dims[2:], target.Dims[1:])
	if !fits {
		return fmt.Errorf("the output is %v %v; a classifier gives float32 [%d,classes]", y.Type, y.Dims, len(labels))
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
		m.addRow(row, int(label), inner == 1)
	}
	return nil
}

func (m *meter) addRow(row []float32, label int, image bool) {
	m.count++
	best := argmax(row)
	if best == label {
		m.right++
	}
	m.loss -= float64(row[label])
	total := 0.0
	if !m.logs {
		total = logSumExp(row)
		m.loss += total
	}
	if m.confusion != nil && label < len(m.classes) && best < len(m.classes) {
		m.confusion.Counts[label][best]++
	}
	if len(m.want) == 0 {
		return
	}
	for name, k := range map[string]int{"top3": 3, "top5": 5} {
		if m.wants(name) && InTop(row, label, k) {
			m.tops[name]++
		}
	}
	if image && m.wants("auc") {
		m.labels = append(m.labels, label)
		for _, v := range row {
			m.rows = append(m.rows, math.Exp(float64(v)-total))
		}
	}
}

func (m *meter) addMasks(y, target *onnxio.Tensor) error {
	if y.Type != onnxio.Float || !slices.Equal(y.Dims, target.Dims) {
		return fmt.Errorf("the output is %v %v, the masks %v %v", y.Type, y.Dims, target.Type, target.Dims)
	}
	truth := target.Float32s()
	for i, v := range y.Float32s() {
		t, x := truth[i], float64(v)
		m.count++
		m.loss += max(x, 0) - x*float64(t) + math.Log1p(math.Exp(-math.Abs(x)))
		is, says := 0, 0
		if t > 0.5 {
			is = 1
		}
		if v > 0 {
			says = 1
		}
		if is == says {
			m.right++
		}
		if m.confusion != nil {
			m.confusion.Counts[is][says]++
		}
	}
	return nil
}

// score sums up.
func (m *meter) score(images int) Score {
	s := Score{Images: images, Loss: m.loss / float64(m.count), Accuracy: float64(m.right) / float64(m.count), Confusion: m.confusion}
	if len(m.want) == 0 {
		return s
	}
	s.Metrics = map[string]float64{}
	var mean ClassScore
	if m.confusion != nil {
		if mean = m.confusion.Macro(); m.masks {
			mean = m.confusion.PerClass()[1]
		}
	}
	for _, name := range m.want {
		switch name {
		case "top3", "top5":
			s.Metrics[name] = float64(m.tops[name]) / float64(m.count)
		case "precision":
			s.Metrics[name] = mean.Precision
		case "recall":
			s.Metrics[name] = mean.Recall
		case "f1", "dice":
			s.Metrics[name] = mean.F1
		case "iou":
			s.Metrics[name] = mean.IoU
		case "auc":
			if n := len(m.labels); n > 0 {
				if a := MacroAUC(m.rows, m.labels, len(m.rows)/n); !math.IsNaN(a) {
					s.Metrics[name] = a
				}
			}
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

// native is the Forward of the native engine: one plan for full batches and one for the last.
func native(m *onnxio.Model, pool *parallel.Pool) Forward {
	var weights engine.Weights
	plans := map[int64]*engine.Plan{}
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		in, out := m.Graph.Inputs[0].Name, m.Graph.Outputs[0].Name
		p := plans[x.Dims[0]]
		if p == nil {
			var err error
			if p, err = weights.Compile(m, engine.Options{Pool: pool, Shapes: map[string][]int64{in: x.Dims}}); err != nil {
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
