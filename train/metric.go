package train

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Metric is a figure that a recipe can ask for.
type Metric struct {
	Entry
	Falls bool // less is better
	// New begins a measurement.
	New func(Measured) (Meter, error)

	of func(*tally) float64 // of the package's own; NaN where it does not exist
}

// Meter gathers a figure over the batches of a data set.
type Meter interface {
	// Add takes a batch: the model's output [N,C,...] and the targets, int64 class numbers [N,...] or
	// float32 of the output's shape.
	Add(output, target *onnxio.Tensor) error
	// Value is the figure; ok is false where it does not exist.
	Value() (v float64, ok bool)
}

// Measured says what a Meter is to measure.
type Measured struct {
	Classes  []string       // names of the classes, or of the values
	Loss     string         // by its name
	Logs     bool           // outputs are log-probabilities
	Settings map[string]any // Config's
}

// RegisterMetric adds a metric, which recipes can name from then on.
func RegisterMetric(m Metric) error {
	if m.New == nil {
		return fmt.Errorf("metric %q has no New", m.Name)
	}
	m.of = nil
	return metrics.add(m)
}

// Metrics lists what Config.Metrics may ask for beside accuracy and loss, which are always measured.
func Metrics() []string { return metrics.names()[2:] }

// DescribeMetrics lists the metrics.
func DescribeMetrics() []Entry { return metrics.describe() }

func plain(name, doc string, of func(*tally) float64) Metric {
	return Metric{Entry: Entry{Name: name, Doc: doc}, of: of}
}

func falling(m Metric) Metric {
	m.Falls = true
	return m
}

// metrics is the table of metrics. Means over classes leave out those that occur neither as
// a target nor as an answer.
var metrics = newRegistry("metric",
	plain("accuracy", "share of right answers, of images, pixels or labels", nil),
	falling(plain("loss", "mean over images and pixels", nil)),
	plain("top3", "share of images whose class is among the 3 likeliest", (*tally).top3),
	plain("top5", "share of images whose class is among the 5 likeliest", (*tally).top5),
	plain("precision", "TP/(TP+FP), mean over the classes; of masks the foreground's",
		perClass(func(s ClassScore) float64 { return s.Precision })),
	plain("recall", "TP/(TP+FN), mean over the classes; of masks the foreground's",
		perClass(func(s ClassScore) float64 { return s.Recall })),
	plain("f1", "2TP/(2TP+FP+FN), mean over the classes; of masks the foreground's",
		perClass(func(s ClassScore) float64 { return s.F1 })),
	plain("iou", "TP/(TP+FP+FN), mean over the classes; of masks the foreground's",
		perClass(func(s ClassScore) float64 { return s.IoU })),
	plain("miou", "TP/(TP+FP+FN), mean over the classes, background included", (*tally).miou),
	plain("dice", "f1 by its other name", perClass(func(s ClassScore) float64 { return s.F1 })),
	plain("auc", "area under the ROC, mean over the classes", (*tally).auc),
	plain("map", "mean over the labels of the average precision, of several labels an image",
		(*tally).averagePrecision),
	falling(plain("mae", "mean of |y-t|, of values", (*tally).mae)),
	falling(plain("rmse", "square root of the mean of (y-t)^2, of values", (*tally).rmse)),
	plain("r2", "1 - squared error over variance, mean over the values", (*tally).r2),
	plain("confusion", "what each class was taken for, as a table and a picture", nil),
)

// tally is what the package's metrics are made of.
type tally struct {
	kind
	want      []string
	classes   []string
	loss      float64
	count     int // of images, or pixels, or labels
	right     int
	tops      map[int]int // of how many likeliest: right answers
	confusion *Confusion

	rows   []float64 // probabilities of the classes, or the numbers that the model gave
	labels []int
	truths []float64 // numbers, beside rows
	binary [][4]int  // of each label: TP, FP, FN, TN
}

func newTally(k kind, classes, want []string) *tally {
	t := &tally{kind: k, want: want, classes: classes, tops: map[int]int{}}
	for _, name := range want {
		if slices.Contains([]string{"precision", "recall", "f1", "iou", "miou", "dice", "confusion"}, name) &&
			!k.values && t.confusion == nil {
			t.confusion = NewConfusion(classes)
			if t.masks && len(classes) != 2 {
				t.confusion = NewConfusion([]string{"background", "foreground"})
			}
		}
	}
	return t
}

func (t *tally) wants(name string) bool { return slices.Contains(t.want, name) }

// share is a of b; NaN where b is nothing.
func share(a, b int) float64 {
	if b == 0 {
		return math.NaN()
	}
	return float64(a) / float64(b)
}

func (t *tally) top3() float64 { return t.top(3) }
func (t *tally) top5() float64 { return t.top(5) }

func (t *tally) top(k int) float64 {
	if t.masks || t.values {
		return math.NaN()
	}
	return share(t.tops[k], t.count)
}

// perClass is a score's mean over the classes, or that of the foreground.
func perClass(of func(ClassScore) float64) func(*tally) float64 {
	return func(t *tally) float64 {
		switch {
		case t.several:
			return meanOf(occurring(t.labelScores()), of)
		case t.confusion == nil:
			return math.NaN()
		case t.masks:
			return of(t.confusion.PerClass()[1])
		}
		return of(t.confusion.Macro())
	}
}

func (t *tally) miou() float64 {
	switch {
	case t.several:
		return meanOf(occurring(t.labelScores()), func(s ClassScore) float64 { return s.IoU })
	case t.confusion == nil:
		return math.NaN()
	}
	return t.confusion.Macro().IoU
}

// labelScores scores each of several labels.
func (t *tally) labelScores() []ClassScore {
	var out []ClassScore
	for i, b := range t.binary {
		out = append(out, classScore(t.classes[i], int64(b[0]), int64(b[0]+b[2]), int64(b[0]+b[1])))
	}
	return out
}

// occurring leaves out the classes that occur neither as a target nor as an answer.
func occurring(all []ClassScore) []ClassScore {
	return slices.DeleteFunc(all, func(s ClassScore) bool { return !s.Occurs() })
}

func meanOf[T any](all []T, of func(T) float64) float64 {
	sum, n := 0.0, 0
	for _, v := range all {
		if x := of(v); !math.IsNaN(x) {
			sum, n = sum+x, n+1
		}
	}
	return sum / float64(n) // NaN of none
}

// auc is the labels', each class against the others, or each of several labels by itself.
func (t *tally) auc() float64 {
	switch {
	case t.several:
		return meanOf(t.columns(), func(c column) float64 { return AUC(c.scores, c.positive) })
	case len(t.labels) == 0:
		return math.NaN()
	}
	return MacroAUC(t.rows, t.labels, len(t.rows)/len(t.labels))
}

func (t *tally) averagePrecision() float64 {
	if !t.several {
		return math.NaN()
	}
	return meanOf(t.columns(), func(c column) float64 { return AveragePrecision(c.scores, c.positive) })
}

// column is one label of all images.
type column struct {
	scores   []float64
	positive []bool
}

func (t *tally) columns() []column {
	k := len(t.binary)
	out := make([]column, k)
	for i := range out {
		for j := i; j < len(t.rows); j += k {
			out[i].scores = append(out[i].scores, t.rows[j])
			out[i].positive = append(out[i].positive, t.truths[j] > 0.5)
		}
	}
	return out
}

// errors calls f with each number that the model gave and what it should have been.
func (t *tally) errors(f func(y, truth float64)) bool {
	if !t.values || t.several || len(t.rows) == 0 {
		return false
	}
	for i, y := range t.rows {
		f(y, t.truths[i])
	}
	return true
}

func (t *tally) mae() float64 {
	sum := 0.0
	if !t.errors(func(y, truth float64) { sum += math.Abs(y - truth) }) {
		return math.NaN()
	}
	return sum / float64(len(t.rows))
}

func (t *tally) rmse() float64 {
	sum := 0.0
	if !t.errors(func(y, truth float64) { sum += (y - truth) * (y - truth) }) {
		return math.NaN()
	}
	return math.Sqrt(sum / float64(len(t.rows)))
}

// r2 is scikit-learn's r2_score: where all truths are the same, 1 for a model that meets them and else 0.
func (t *tally) r2() float64 {
	if !t.errors(func(_, _ float64) {}) {
		return math.NaN()
	}
	k := len(t.classes)
	sum := 0.0
	for i := range k {
		mean, n := 0.0, 0.0
		for j := i; j < len(t.truths); j += k {
			n++
			mean += (t.truths[j] - mean) / n
		}
		missed, varied := 0.0, 0.0
		for j := i; j < len(t.truths); j += k {
			missed += (t.rows[j] - t.truths[j]) * (t.rows[j] - t.truths[j])
			varied += (t.truths[j] - mean) * (t.truths[j] - mean)
		}
		switch {
		case varied > 0:
			sum += 1 - missed/varied
		case missed == 0:
			sum++
		}
	}
	return sum / float64(k)
}
