package train_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/train"
)

// The loss of a network with auxiliary heads is that of its output and theirs times their weights, as in
// torchvision's training of GoogLeNet (0.3 each), Inception v3 (0.4) and FCN and DeepLab (0.5): all of one
// run, since Dropout draws.
func TestAuxiliaryHeads(t *testing.T) {
	for name, c := range map[string]struct {
		side    int
		weights []float64
	}{"googlenet": {64, []float64{0.3, 0.3}}, "inception_v3": {107, []float64{0.4}},
		"deeplabv3_mobilenet_v3_large": {33, []float64{0.5}}} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "googlenet" {
				t.Skip("takes seconds: run without -short")
			}
			const classes, batch = 5, 2
			m, err := builders.Build(name, builders.Config{Input: [3]int{3, c.side, c.side},
				Classes: classes})
			if err != nil {
				t.Fatal(err)
			}
			graph, _, err := train.TrainingGraph(m, train.LossAuto)
			if err != nil {
				t.Fatal(err)
			}
			weights, values := []float64{1}, []string{"output"}
			for _, h := range builders.Heads(m) {
				weights, values = append(weights, h.Weight), append(values, h.Value)
				at := slices.IndexFunc(m.Graph.Values, func(v *onnxio.ValueInfo) bool {
					return v.Name == h.Value
				})
				graph.Graph.Outputs = append(graph.Graph.Outputs, m.Graph.Values[at])
			}
			if !slices.Equal(weights[1:], c.weights) {
				t.Errorf("weights %v, want %v", weights[1:], c.weights)
			}
			s, err := runtime.OpenModel(graph, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			x := onnxio.NewTensor(onnxio.Float, batch, 3, int64(c.side), int64(c.side))
			for i := range x.Float32s() {
				x.Float32s()[i] = float32(math.Sin(float64(i)))
			}
			dims := []int64{batch}
			if name[0] == 'd' {
				dims = []int64{batch, int64(c.side), int64(c.side)}
			}
			target := onnxio.NewTensor(onnxio.Int64, dims...)
			for i := range onnxio.Data[int64](target) {
				onnxio.Data[int64](target)[i] = int64(i % classes)
			}
			out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x,
				train.TargetName: target})
			if err != nil {
				t.Fatal(err)
			}
			want := 0.
			for i, v := range values {
				want += weights[i] * crossEntropy(out[v], onnxio.Data[int64](target))
			}
			if got := float64(out[train.LossName].Float32s()[0]); !(math.Abs(got-want) < 1e-5*want) {
				t.Errorf("loss %v, want %v", got, want)
			}
		})
	}
}

// crossEntropy is the mean over the places of logits [N,C,...].
func crossEntropy(y *onnxio.Tensor, target []int64) float64 {
	classes, inner := int(y.Dims[1]), 1
	for _, d := range y.Dims[2:] {
		inner *= int(d)
	}
	total := 0.
	for i, label := range target {
		n, at := i/inner, i%inner
		sum := 0.
		logit := func(c int) float64 { return float64(y.Float32s()[(n*classes+c)*inner+at]) }
		for c := range classes {
			sum += math.Exp(logit(c))
		}
		total += math.Log(sum) - logit(int(label))
	}
	return total / float64(len(target))
}

// A step trains the auxiliary heads too.
func TestAuxiliaryHeadsTrain(t *testing.T) {
	m, err := builders.Build("googlenet", builders.Config{Input: [3]int{3, 64, 64}, Classes: 5})
	if err != nil {
		t.Fatal(err)
	}
	trainer, err := train.NewTrainer(m, train.Config{Loss: train.LossAuto, Optimizer: "sgd", LR: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	x, target := onnxio.NewTensor(onnxio.Float, 2, 3, 64, 64), onnxio.Int64s([]int64{1, 3})
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(math.Sin(float64(i)))
	}
	if _, err := trainer.Step(context.Background(), x, target); err != nil {
		t.Fatal(err)
	}
	trained, err := trainer.Export()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"aux1.fc2.weight", "aux2.conv.conv.weight", "fc.weight",
		"conv1.conv.weight"} {
		if slices.Equal(m.Graph.Initializer(key).Raw, trained.Graph.Initializer(key).Raw) {
			t.Errorf("%s did not change", key)
		}
	}
}

// A loss of a head has names of its own, whichever loss it is: a graph gives each value once.
func TestAuxiliaryHeadsOfEveryLoss(t *testing.T) {
	m, err := builders.Build("deeplabv3_mobilenet_v3_large", builders.Config{Input: [3]int{3, 33, 33},
		Classes: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, loss := range []string{train.LossCrossEntropy, train.LossFocal, train.LossLovasz} {
		graph, _, err := train.TrainingGraph(m, loss)
		if err == nil {
			err = check.Model(graph)
		}
		if err != nil {
			t.Errorf("%s: %v", loss, err)
		}
	}
}
