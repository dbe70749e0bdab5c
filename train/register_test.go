package train_test

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	_ "github.com/cnnkit/cnnkit/examples/parts"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

// A loss, a metric, an optimiser, a transform and a data set of a user's own are named
// in a recipe, one line each.
func TestRegistered(t *testing.T) {
	fields, err := train.ReadFields(strings.NewReader(`{"data": "stripes", "loss": "twice", "metrics": ["sureness"], "optimizer": "plain",
		"augment": [{"name": "Darken", "by": 9}], "settings": {"times": 3, "friction": 0.5}, "epochs": 2, "batch": 8}`))
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := fields.Recipe("lenet5")
	if err != nil {
		t.Fatal(err)
	}
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	splits, err := recipe.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got, err := recipe.Run(t.Context(), m, splits, dir, train.Observer{})
	if err != nil {
		t.Fatal(err)
	}
	last := got.History[1]
	if got.Loss != "twice" || last.LR != 0.05 || !(last.Metrics["sureness"] < 0) ||
		!(last.ValidationLoss > 0) {
		t.Errorf("loss %s, %+v", got.Loss, last)
	}
	again, err := os.ReadFile(filepath.Join(dir, train.RecipeFile))
	if err != nil || !strings.Contains(string(again), `"name": "Darken"`) && !strings.Contains(string(again),
		`"name":"Darken"`) {
		t.Errorf("%s, %v", again, err)
	}
	for _, wrong := range []string{`{"loss": "thrice"}`, `{"loss": "twice", "settings": {"tims": 3}}`,
		`{"augment": [{"name": "Darken", "by": 300}]}`} {
		if fields, err = train.ReadFields(strings.NewReader(wrong)); err == nil {
			_, err = fields.Recipe("lenet5")
		}
		if err == nil {
			t.Errorf("%s passes", wrong)
		}
	}
}

// stripes is the data set of package parts.
func stripes(t *testing.T) data.Splits {
	t.Helper()
	s, err := data.Open("stripes")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tableOf writes images whose shade says their target, and a table of them.
func tableOf(t *testing.T, head string, row func(shade int) string) string {
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString(head + "\n")
	for i := range 48 {
		img := image.NewGray(image.Rect(0, 0, 28, 28))
		shade := i * 5
		for y := range 28 {
			for x := range 28 {
				img.SetGray(x, y, color.Gray{Y: uint8(shade + (x+y)%3)})
			}
		}
		name := fmt.Sprintf("%02d.png", i)
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		f.Close()
		fmt.Fprintf(&b, "%s,%s,%s\n", name, row(shade), map[bool]string{true: "validation",
			false: "train"}[i%4 == 3])
	}
	path := filepath.Join(dir, "table.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func runTable(t *testing.T, text string, classes int) (*train.Result, *onnxio.Model) {
	t.Helper()
	fields, err := train.ReadFields(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := fields.Recipe("")
	if err != nil {
		t.Fatal(err)
	}
	m, err := builders.Build("resnet18", builders.Config{Input: [3]int{1, 28, 28}, Classes: classes,
		Blocks: []int{1, 1, 1, 1}, Width: 8})
	if err != nil {
		t.Fatal(err)
	}
	splits, err := recipe.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := recipe.Run(t.Context(), m, splits, t.TempDir(), train.Observer{})
	if err != nil {
		t.Fatal(err)
	}
	return got, m
}

// A table of numbers trains a regression, whose best epoch is that of the least loss; no accuracy is claimed.
func TestRegression(t *testing.T) {
	path := tableOf(t, "path,shade,split", func(shade int) string { return fmt.Sprint(float64(shade) / 240) })
	for _, loss := range []string{"mse", "l1", "huber"} {
		got, m := runTable(t, fmt.Sprintf(`{"data": "csv:%s", "task": "regression", "loss": %q, "metrics": ["mae", "r2", "f1"], "optimizer": "adam", "epochs": 12,
			"batch": 12}`, filepath.ToSlash(path), loss), 1)
		first, best := got.History[0], got.History[got.Best]
		if !math.IsNaN(best.ValidationAccuracy) || !(best.ValidationLoss < first.ValidationLoss) ||
			!(best.Metrics["mae"] < 0.3) {
			t.Errorf("%s: from %+v to %+v", loss, first, best)
		}
		if _, ok := best.Metrics["f1"]; ok {
			t.Errorf("%s: values have an f1", loss)
		}
		if s, err := spec.Get(m); err != nil || s.Output.Task != spec.Number || len(s.Labels) != 1 ||
			s.Labels[0] != "shade" {
			t.Errorf("%s: the model says %+v, %v", loss, s, err)
		}
	}
}

// A table of several labels trains with binary cross-entropy.
func TestMultiLabel(t *testing.T) {
	path := tableOf(t, "path,labels,split", func(shade int) string {
		var labels []string
		if shade > 120 {
			labels = append(labels, "bright")
		}
		if shade < 180 {
			labels = append(labels, "dim")
		}
		return strings.Join(labels, "|")
	})
	got, m := runTable(t, fmt.Sprintf(`{"data": "csv:%s", "task": "multi-label", "loss": "bce-with-logits", "metrics": ["map", "f1", "auc"], "optimizer": "adam",
		"epochs": 12, "batch": 12}`, filepath.ToSlash(path)), 2)
	if best := got.History[got.Best]; best.ValidationAccuracy < 0.8 || best.Metrics["map"] < 0.8 {
		t.Errorf("%+v", best)
	}
	if s, err := spec.Get(m); err != nil || s.Output.Task != spec.MultiLabel ||
		s.Output.Scale != spec.Logits {
		t.Errorf("the model says %+v, %v", s, err)
	}
}

// A loss from a file gives the same run as the loss of the same formula.
func TestLossFile(t *testing.T) {
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 13}}, Graph: &onnxio.Graph{Name: "loss",
		Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 10)...),
			onnxio.TensorInfo("t", onnxio.Int64, onnxio.Shape("N")...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("l", onnxio.Float)},
		Nodes: []*onnxio.Node{
			{OpType: "SoftmaxCrossEntropyLoss", Name: "ce", Inputs: []string{"y", "t"},
				Outputs: []string{"ce"}, Attrs: []*onnxio.Attribute{onnxio.StringAttr("reduction", "mean")}},
			{OpType: "Mul", Name: "l", Inputs: []string{"ce", "factor"}, Outputs: []string{"l"}}},
		Initializers: []*onnxio.Tensor{onnxio.Scalar(onnxio.Float, float32(1))}}}
	m.Graph.Initializers[0].Name = "factor"
	path := filepath.Join(t.TempDir(), "own.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	losses := map[string]float64{}
	for _, loss := range []string{path, "cross-entropy"} {
		net, err := builders.Build("resnet18", builders.Config{Input: [3]int{1, 28, 28},
			Blocks: []int{1, 1, 1, 1}, Width: 8})
		if err != nil {
			t.Fatal(err)
		}
		got, err := train.Run(t.Context(), net, stripes(t), train.Config{Epochs: 2, Batch: 8,
			Optimizer: "sgd", LR: 0.01, Loss: loss}, "", train.Observer{})
		if err != nil {
			t.Fatal(err)
		}
		losses[loss] = got.History[1].ValidationLoss
	}
	if a, b := losses[path], losses["cross-entropy"]; !(math.Abs(a-b) <= 1e-6*b) {
		t.Errorf("the file's loss is %v, the package's %v", a, b)
	}
}

// The loss that examples/own-loss/structure.py exports is what PyTorch says, by this script beside it:
//
//	i = torch.arange(2*1*24*20)
//	x = ((i*7919 % 1009).float()/252 - 2).view(2, 1, 24, 20)
//	m = (i//3*31 % 97 < 40).float().view(2, 1, 24, 20)
//	print(Structure()(x.double(), m.double()))
func TestLossFromPyTorch(t *testing.T) {
	const want = 1.4773491051103547
	x := onnxio.NewTensor(onnxio.Float, 2, 1, 24, 20)
	mask := onnxio.NewTensor(onnxio.Float, 2, 1, 24, 20)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i*7919%1009)/252 - 2
		if i/3*31%97 < 40 {
			mask.Float32s()[i] = 1
		}
	}
	one := onnxio.Floats([]float32{1}, 1, 1, 1, 1)
	one.Name = "weight"
	same := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "same",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 1, 24, 20)...)},
		Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 1, 24, 20)...)},
		Initializers: []*onnxio.Tensor{one},
		Nodes: []*onnxio.Node{{OpType: "Conv", Name: "conv", Inputs: []string{"x", "weight"},
			Outputs: []string{"y"}}}}}
	tr, err := train.NewTrainer(same, train.Config{Loss: "../examples/own-loss/structure.onnx", Optimizer: "sgd",
		LR: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if got, err := tr.Step(t.Context(), x, mask); err != nil || !(math.Abs(got-want) < 1e-5) {
		t.Errorf("%v, want %v; %v", got, want, err)
	}
}

// A loss that does not depend on the model's output is refused by name.
func TestLossOfNothing(t *testing.T) {
	mask := onnxio.TensorInfo("mask", onnxio.Float, onnxio.Shape("N", 10)...)
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "loss",
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 10)...), mask},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("l", onnxio.Float)},
		Nodes: []*onnxio.Node{{OpType: "ReduceMean", Name: "l", Inputs: []string{"mask"}, Outputs: []string{"l"},
			Attrs: []*onnxio.Attribute{onnxio.IntAttr("keepdims", 0)}}}}}
	path := filepath.Join(t.TempDir(), "own.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	net, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = train.TrainingGraph(net, path); err == nil || !strings.Contains(err.Error(), `"y"`) {
		t.Errorf("%v", err)
	}
}
