package train

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// tinyNet is averages.py's network of a convolution, BatchNormalization and a linear layer, with its weights.
func tinyNet(t testing.TB) *onnxio.Model {
	t.Helper()
	b := builders.New("tiny", 0, 0, 1, 6, 6)
	x := b.Conv2d("conv", b.Input(), 4, 3, builders.Pad(1), builders.NoBias())
	x = b.ReLU("relu", b.BatchNorm2d("bn", x))
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", b.GlobalAvgPool2d("pool", x)), 3))
	if err != nil {
		t.Fatal(err)
	}
	for key, name := range []string{"conv.weight", "fc.weight", "fc.bias"} {
		w := m.Graph.Initializer(name).Float32s()
		copy(w, uniform(len(w), uint64(key+1)))
	}
	return m
}

// tinySplits are averages.py's 12 images of 3 classes, to train on and to validate on.
func tinySplits(t testing.TB) data.Splits {
	t.Helper()
	pixels, labels := make([]uint8, 12*36), make([]uint8, 12)
	for i, v := range uniform(len(pixels), 9) {
		pixels[i] = uint8(int((v+1)*(1<<23)) >> 16)
	}
	for i := range labels {
		labels[i] = uint8(i % 3)
	}
	set, err := data.NewImages([3]int{1, 6, 6}, pixels, labels, []string{"a", "b", "c"}, []float32{0.5},
		[]float32{0.5})
	if err != nil {
		t.Fatal(err)
	}
	return data.Splits{Name: "tiny", Train: set, Validation: set, Mean: []float32{0.5}, Std: []float32{0.5}}
}

// Runs with SWA, and with EMA, follow torch.optim.swa_utils: the learning rates of every epoch, the
// validation loss of what is validated, and at the end every weight and running statistic, within 2e-5 of 1 +
// |w|. PyTorch computes in float64 here; 18 steps in float32 with momentum leave it by some 1e-6.
func TestAveragesFollowPyTorch(t *testing.T) {
	var cases []struct {
		Config        Config
		Rates, Losses []float64
		Tensors       map[string][]float64
	}
	readJSON(t, "averages.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			m := tinyNet(t)
			res, err := Run(t.Context(), m, tinySplits(t), c.Config, "", Observer{})
			if err != nil {
				t.Fatal(err)
			}
			near := func(what string, got, want float64) {
				if d := math.Abs(got - want); !(d <= 2e-5*(1+math.Abs(want))) {
					t.Errorf("%s is %v, PyTorch has %v", what, got, want)
				}
			}
			for e, h := range res.History {
				near(fmt.Sprintf("epoch %d: the learning rate", e+1), h.LR, c.Rates[e])
				near(fmt.Sprintf("epoch %d: the validation loss", e+1), h.ValidationLoss, c.Losses[e])
			}
			if len(c.Tensors) != 7 {
				t.Fatalf("%d tensors", len(c.Tensors))
			}
			for name, want := range c.Tensors {
				for j, w := range want {
					near(fmt.Sprintf("%s[%d]", name, j), float64(m.Graph.Initializer(name).Float32s()[j]), w)
				}
			}
		})
	}
}

func TestWrongAverages(t *testing.T) {
	for says, c := range map[string]Config{
		"choose one":     {EMA: 0.9, SWA: SWA{Start: 1}},
		"the run has 2":  {SWA: SWA{Start: 3}},
		"start is miss":  {SWA: SWA{LR: 0.1}},
		"lr is missing":  {SWA: SWA{Start: 1, Anneal: "cos"}},
		"cos or linear":  {SWA: SWA{Start: 1, LR: 0.1, Anneal: "poly"}},
		"be negative":    {SWA: SWA{Start: -1}},
		"not be negativ": {SWA: SWA{Start: 1, LR: -1}},
	} {
		c.Epochs, c.Batch, c.Optimizer, c.LR = 2, 1, "sgd", 0.1
		if _, err := c.Rule(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, which does not say %q", c.SWA, err, says)
		}
	}
}
