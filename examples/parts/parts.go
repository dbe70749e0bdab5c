// Package parts adds one of each kind of thing that a recipe can name: the loss twice, the metric sureness,
// the optimizer plain, the transform Darken and the data set stripes. A program that imports it has them in
// its recipes, and a build of cmd/cnnkit that imports it in its flags:
//
//	cnnkit train lenet5 --data stripes --loss twice --metrics sureness --optimizer plain --augment Darken --out run
package parts

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

func init() {
	for _, err := range []error{train.RegisterLoss(twice), train.RegisterMetric(sureness),
		train.RegisterOptimizer(plain),
		transforms.Register(Darken{By: 3}), data.Register("stripes", stripes)} {
		if err != nil {
			panic(err)
		}
	}
}

// twice is cross-entropy times a factor, in ONNX operators.
var twice = train.Loss{
	Entry: train.Entry{Name: "twice", Doc: "cross-entropy, times a factor",
		Settings: []train.Setting{{Name: "times", Doc: "factor", Default: 2}}},
	Targets: train.Labels, Scales: []spec.Scale{spec.Logits, spec.LogProbabilities},
	Emit: func(l *train.LossGraph) (string, error) {
		times, err := l.Setting("times", 2)
		mean := onnxio.StringAttr("reduction", "mean")
		one := l.Node("SoftmaxCrossEntropyLoss", "one", []string{l.Y, l.Target}, mean)
		factor := l.Constant("factor", onnxio.Scalar(onnxio.Float, float32(times)))
		return l.Node("Mul", "times", []string{one, factor}), err
	},
}

var sureness = train.Metric{
	Entry: train.Entry{Name: "sureness", Doc: "mean of the largest output"},
	New:   func(train.Measured) (train.Meter, error) { return &meter{}, nil },
}

// meter is the mean of the largest output.
type meter struct{ sum, n float64 }

// Add implements train.Meter.
func (m *meter) Add(y, _ *onnxio.Tensor) error {
	k := int(y.Dims[1])
	for i := 0; i < len(y.Float32s()); i += k {
		top := math.Inf(-1)
		for _, v := range y.Float32s()[i : i+k] {
			top = max(top, float64(v))
		}
		m.sum, m.n = m.sum+top, m.n+1
	}
	return nil
}

// Value implements train.Meter.
func (m *meter) Value() (float64, bool) { return m.sum / m.n, m.n > 0 }

var plain = train.Optimizer{
	Entry: train.Entry{Name: "plain", Doc: "gradient descent",
		Settings: []train.Setting{{Name: "friction", Doc: "factor of each step", Default: 1}}},
	LR: 0.05,
	New: func(o train.Optimized) (train.Rule, error) {
		friction, said := o.Config.Settings["friction"].(float64)
		if !said {
			friction = 1
		}
		return &rule{lr: o.LR, friction: friction}, nil
	},
}

// rule subtracts the gradient.
type rule struct{ lr, friction float64 }

// Slots implements train.Rule: there is no state.
func (r *rule) Slots() int { return 0 }

// Begin implements train.Rule.
func (r *rule) Begin(int64) {}

// SetRate implements train.Rule.
func (r *rule) SetRate(lr float64) { r.lr = lr }

// Apply implements train.Rule.
func (r *rule) Apply(p, g []float32, _ [][]float32) {
	for i := range p {
		p[i] -= float32(r.lr * r.friction * float64(g[i]))
	}
}

// Darken takes By from each pixel.
type Darken struct {
	By int `json:"by"`
}

// Apply implements transforms.Transform.
func (d Darken) Apply(s *transforms.Sample, _ *rand.Rand) error {
	for i, p := range s.Image.Pix {
		s.Image.Pix[i] = uint8(max(0, int(p)-d.By))
	}
	return nil
}

// Check implements transforms.Checker.
func (d Darken) Check() error {
	if d.By < 0 || d.By > 255 {
		return fmt.Errorf("by is %d: 0 to 255 is wanted", d.By)
	}
	return nil
}

// stripes are 28x28 images of two classes: upright stripes and level ones.
func stripes(string, data.Options) (data.Splits, error) {
	const n, side = 32, 28
	pixels, labels := make([]uint8, n*side*side), make([]uint8, n)
	for i := range n {
		labels[i] = uint8(i % 2)
		for y := range side {
			for x := range side {
				if at := []int{x, y}[i%2]; at/2%2 == 0 {
					pixels[(i*side+y)*side+x] = 200
				}
			}
		}
	}
	mean, std := []float32{0.1307}, []float32{0.3081}
	d, err := data.NewImages([3]int{1, side, side}, pixels, labels, []string{"upright", "level"}, mean, std)
	return data.Splits{Name: "stripes", Train: d, Validation: d, Mean: mean, Std: std}, err
}
