package train_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist" // the program has MNIST
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// A part of MNIST, two epochs: enough to beat guessing by far.
func Example() {
	splits, err := data.Open("mnist")
	if err != nil {
		fmt.Println(err)
		return
	}
	splits.Train = data.Subset{Dataset: splits.Train, Indices: data.Sequence(2000)}
	splits.Validation = data.Subset{Dataset: splits.Validation, Indices: data.Sequence(500)}
	m, err := builders.Build("lenet5", builders.Config{Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := train.Defaults("lenet5")
	cfg.Epochs, cfg.LR, cfg.Momentum = 2, 0.05, 0.9
	result, err := train.Run(context.Background(), m, splits, cfg, "", train.Observer{})
	if err != nil {
		fmt.Println(err)
		return
	}
	last := result.History[len(result.History)-1]
	fmt.Println(last.Epoch, "epochs, accuracy above 75%:", last.ValidationAccuracy > 0.75)
	// Output: 2 epochs, accuracy above 75%: true
}

// Invert is a transform of one's own.
type Invert struct{}

// Apply implements transforms.Transform: every second image in the mean becomes its negative.
func (Invert) Apply(s *transforms.Sample, r *rand.Rand) error {
	if r.IntN(2) == 0 {
		for i, p := range s.Image.Pix {
			s.Image.Pix[i] = 255 - p
		}
	}
	return nil
}

// Images in a slice, a transform and a loss of one's own, and a callback that ends the run.
func Example_own() {
	pixels, labels := squares(64)
	images, err := data.NewImages([3]int{1, 28, 28}, pixels, labels, []string{"dark", "bright"},
		[]float32{0.5}, []float32{0.5})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, _ := builders.Build("lenet5", builders.Config{Classes: 2})
	cfg := train.Config{Epochs: 50, Batch: 16, Loss: "hard", Optimizer: "adam", LR: 1e-3,
		Augment: transforms.Compose{Invert{}}}
	stop := func(m train.Moment) error {
		if m.Loss < 0.5 {
			return train.ErrStop
		}
		return nil
	}
	splits := data.Splits{Name: "squares", Train: images, Validation: images}
	result, err := train.Run(context.Background(), m, splits, cfg, "", train.Observer{OnStep: stop})
	fmt.Println(result.Stopped, len(result.History) < 50, err)
	// Output: true true <nil>
}

// squares are n images [1,28,28], dark and bright in turn, and their labels.
func squares(n int) (pixels, labels []uint8) {
	for i := range n {
		labels = append(labels, uint8(i%2))
		for p := range 28 * 28 {
			pixels = append(pixels, uint8(i%2*180+p%40))
		}
	}
	return pixels, labels
}

// hard is a loss of one's own, a batch's worst negative log-likelihood, in operators of ONNX.
func hard(l *train.LossGraph) (string, error) {
	all := l.Node("NegativeLogLikelihoodLoss", "all", []string{l.Y, l.Target},
		onnxio.StringAttr("reduction", "none"))
	return l.Node("ReduceMax", "worst", []string{all}, onnxio.IntAttr("keepdims", 0)), nil
}

func init() {
	err := train.RegisterLoss(train.Loss{Entry: train.Entry{Name: "hard"}, Targets: train.Labels, Emit: hard})
	if err != nil {
		panic(err)
	}
}

// A loop of one's own: batches from anywhere, gradients at hand.
func ExampleTrainer() {
	m, _ := builders.Build("lenet5", builders.Config{})
	t, err := train.NewTrainer(m, train.Config{Optimizer: "sgd", LR: 0.1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	x, target := train.NewBatch([3]int{1, 28, 28}, 4) // of zeros
	first, _ := t.Step(context.Background(), x, target)
	t.SetRate(0.05)
	second, _ := t.Step(context.Background(), x, target)
	trained, err := t.Export()
	fmt.Println(second < first, t.Gradients()["conv1.bias"].Dims, trained.Graph.Name == m.Graph.Name, err)
	// Output: true [6] true <nil>
}
