package train

import (
	"context"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

func almost(a, b float64) bool { return math.Abs(a-b) <= 1e-12 }

// The figures of sklearn's classification_report for labels 0 1 2 2 2 1 0 2 and predictions 0 2 2 2 1 1 0 0;
// class 3 does not occur and is left out of the means, as sklearn leaves it out.
func TestClassScores(t *testing.T) {
	c := NewConfusion([]string{"a", "b", "c", "d"})
	for i, label := range []int{0, 1, 2, 2, 2, 1, 0, 2} {
		c.Counts[label][[]int{0, 2, 2, 2, 1, 1, 0, 0}[i]]++
	}
	want := []ClassScore{
		{"a", 2, 3, 2. / 3, 1, 0.8, 2. / 3},
		{"b", 2, 2, 0.5, 0.5, 0.5, 1. / 3},
		{"c", 4, 3, 2. / 3, 0.5, 4. / 7, 0.4},
		{"d", 0, 0, 0, 0, 0, 0},
	}
	same := func(got, want ClassScore) {
		if got.Class != want.Class || got.Samples != want.Samples || got.Answers != want.Answers ||
			!almost(got.Precision, want.Precision) ||
			!almost(got.Recall, want.Recall) || !almost(got.F1, want.F1) || !almost(got.IoU, want.IoU) {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
	for i, got := range c.PerClass() {
		same(got, want[i])
	}
	same(c.Macro(), ClassScore{"mean", 8, 8, (4./3 + 0.5) / 3, 2. / 3, (0.8 + 0.5 + 4./7) / 3,
		(2./3 + 1./3 + 0.4) / 3})
	if c.Accuracy() != 5./8 {
		t.Errorf("accuracy %v", c.Accuracy())
	}
	if m := NewConfusion([]string{"a"}); m.Accuracy() != 0 || m.Macro().F1 != 0 {
		t.Error("an empty matrix has scores")
	}
	path := filepath.Join(t.TempDir(), "c.png")
	if err := c.Plot(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
}

// sklearn.metrics.roc_auc_score's own example gives 0.75; ties count half.
func TestAUC(t *testing.T) {
	for _, c := range []struct {
		scores   []float64
		positive []bool
		want     float64
	}{
		{[]float64{0.1, 0.4, 0.35, 0.8}, []bool{false, false, true, true}, 0.75},
		{[]float64{1, 2, 3, 4}, []bool{false, false, true, true}, 1},
		{[]float64{4, 3, 2, 1}, []bool{false, false, true, true}, 0},
		{[]float64{1, 1, 1, 1}, []bool{false, true, true, false}, 0.5},
		{[]float64{1, 2, 2, 3}, []bool{false, true, false, true}, 0.875},
		{[]float64{1, 2}, []bool{true, true}, math.NaN()},
		{nil, nil, math.NaN()},
	} {
		if got := AUC(c.scores, c.positive); !(almost(got, c.want) || math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v %v: %v, not %v", c.scores, c.positive, got, c.want)
		}
	}
	// roc_auc_score([0, 1, 2, 1], rows, multi_class='ovr'): classes 0 and 2 are told
	// apart wholly, class 1 at 0.75.
	rows := []float64{0.7, 0.2, 0.1, 0.1, 0.5, 0.4, 0.2, 0.3, 0.5, 0.3, 0.3, 0.4}
	labels := []int{0, 1, 2, 1}
	if got := MacroAUC(rows, labels, 3); !almost(got, (1+0.875+1)/3) {
		t.Errorf("macro %v", got)
	}
}

func TestInTop(t *testing.T) {
	row := []float32{1, 5, 5, 3}
	for label, first := range []int{4, 1, 2, 3} {
		for k := range 5 {
			if InTop(row, label, k) != (k >= first) {
				t.Errorf("label %d is %vin the top %d", label, InTop(row, label, k), k)
			}
		}
	}
}

// fixed is a data set of one batch.
type fixed struct {
	data.Dataset
	classes []string
	labels  []int64
	masks   []float32
}

func (d fixed) Len() int          { return 2 }
func (d fixed) Shape() [3]int     { return [3]int{1, 1, 2} }
func (d fixed) Classes() []string { return d.classes }
func (d fixed) Fill(_, target *onnxio.Tensor, _ []int) error {
	if target.Type == onnxio.Int64 {
		copy(onnxio.Data[int64](target), d.labels)
	} else {
		copy(target.Float32s(), d.masks)
	}
	return nil
}

func TestMeasure(t *testing.T) {
	give := func(dims []int64, v ...float32) Forward {
		return func(context.Context, *onnxio.Tensor) (*onnxio.Tensor, error) {
			y := onnxio.NewTensor(onnxio.Float, dims...)
			copy(y.Float32s(), v)
			return y, nil
		}
	}
	all := shippedMetrics
	s, err := Measure(t.Context(), give([]int64{2, 4}, 0, 3, 2, 1, 9, 0, 0, 0),
		fixed{classes: []string{"a", "b", "c", "d"}, labels: []int64{3, 0}}, 10, LossCrossEntropy, all)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accuracy != 0.5 || s.Metrics["top3"] != 1 || s.Metrics["top5"] != 1 ||
		s.Confusion.Counts[3][1] != 1 || s.Metrics["recall"] != 1./3 {
		t.Errorf("%+v", s)
	}
	s, err = Measure(t.Context(), give([]int64{2, 1, 1, 2}, 1, -1, 1, 0),
		fixed{classes: []string{"no", "yes"}, masks: []float32{1, 0, 0, 1}}, 10, LossDice, all)
	if err != nil {
		t.Fatal(err)
	}
	bce := (2*math.Log1p(math.Exp(-1)) + math.Log1p(math.E) + math.Ln2) / 4
	if s.Accuracy != 0.5 || !almost(s.Metrics["iou"], 1./3) || !almost(s.Metrics["dice"], 0.5) ||
		!almost(s.Loss, bce) {
		t.Errorf("%+v, loss %v wanted", s, bce)
	}
	if _, ok := s.Metrics["auc"]; ok {
		t.Error("masks have an auc")
	}
}

// scikit-learn's figures of the same outputs: testdata/train/metrics.py.
func TestMetricsFollowScikitLearn(t *testing.T) {
	var want struct {
		N, K            int
		Labels          []int64
		Several, Values []float32
		OfLabels        map[string]float64 `json:"of_labels"`
		OfSeveral       map[string]float64 `json:"of_several"`
		OfValues        map[string]float64 `json:"of_values"`
	}
	readJSON(t, "metrics.json", &want)
	y := onnxio.NewTensor(onnxio.Float, int64(want.N), int64(want.K))
	for i, v := range uniform(want.N*want.K, 11) {
		y.Float32s()[i] = 4 * v
	}
	labels := onnxio.NewTensor(onnxio.Int64, int64(want.N))
	copy(onnxio.Data[int64](labels), want.Labels)
	numbers := func(v []float32) *onnxio.Tensor {
		out := onnxio.NewTensor(onnxio.Float, y.Dims...)
		copy(out.Float32s(), v)
		return out
	}
	classes := []string{"a", "b", "c", "d", "e"}
	for name, c := range map[string]struct {
		kind   kind
		target *onnxio.Tensor
		want   map[string]float64
	}{
		"labels":  {kind{}, labels, want.OfLabels},
		"several": {kind{values: true, several: true}, numbers(want.Several), want.OfSeveral},
		"values":  {kind{values: true}, numbers(want.Values), want.OfValues},
	} {
		m := &meters{tally: newTally(c.kind, classes, shippedMetrics)}
		if err := m.add(t.Context(), y, c.target); err != nil {
			t.Fatal(err)
		}
		s := m.score(want.N)
		s.Metrics["accuracy"] = s.Accuracy
		for metric, v := range c.want {
			if got, ok := s.Metrics[metric]; !ok || !(math.Abs(got-v) <= 1e-6) {
				t.Errorf("%s of %s is %v, scikit-learn's %v", metric, name, got, v)
			}
		}
	}
}
