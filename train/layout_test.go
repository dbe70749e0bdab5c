package train

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// channelsLast gives a model's input, and its output where that is a map, their channels last, as exporters
// from Keras do.
func channelsLast(m *onnxio.Model) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	moved := func(v *onnxio.ValueInfo) *onnxio.ValueInfo {
		s := v.Type.Shape
		return onnxio.TensorInfo(v.Name, onnxio.Float, s[0], s[2], s[3], s[1])
	}
	turn := func(from, to string, perm ...int64) *onnxio.Node {
		return &onnxio.Node{OpType: "Transpose", Inputs: []string{from}, Outputs: []string{to},
			Attrs: []*onnxio.Attribute{onnxio.IntsAttr("perm", perm...)}}
	}
	in, y := g.Inputs[0], g.Outputs[0]
	g.Inputs = []*onnxio.ValueInfo{moved(in)}
	g.Nodes = []*onnxio.Node{turn(in.Name, "first", 0, 3, 1, 2)}
	for _, n := range m.Graph.Nodes {
		c := *n
		c.Inputs, c.Outputs = append([]string{}, n.Inputs...), append([]string{}, n.Outputs...)
		for i := range c.Inputs {
			if c.Inputs[i] == in.Name {
				c.Inputs[i] = "first"
			}
		}
		for i := range c.Outputs {
			if len(y.Type.Shape) == 4 && c.Outputs[i] == y.Name {
				c.Outputs[i] = "last"
			}
		}
		g.Nodes = append(g.Nodes, &c)
	}
	if len(y.Type.Shape) == 4 {
		g.Outputs = []*onnxio.ValueInfo{moved(y)}
		g.Nodes = append(g.Nodes, turn("last", y.Name, 0, 2, 3, 1))
	}
	return &out
}

// A network that takes its channels last trains to the bit as the one that takes them first, also from cached
// features and with averages, and says afterwards how it takes them.
func TestChannelsLast(t *testing.T) {
	for name, c := range map[string]Config{
		"whole":  {EMA: 0.9},
		"cached": {Freeze: []string{"stem", "body"}, CacheFeatures: true},
		"swa":    {SWA: SWA{Start: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Epochs, c.Batch, c.Optimizer, c.LR, c.Threads = 2, 16, "adamw", 0.01, 1
			first, last := stacked(t), channelsLast(stacked(t))
			splits := small(t, 64, 32)
			var got [2]*Result
			for i, m := range []*onnxio.Model{first, last} {
				var err error
				if got[i], err = Run(context.Background(), m, splits, c, "", Observer{}); err != nil {
					t.Fatal(err)
				}
			}
			for i, e := range got[0].History {
				other := got[1].History[i]
				if e.TrainLoss != other.TrainLoss || e.ValidationLoss != other.ValidationLoss ||
					e.ValidationAccuracy != other.ValidationAccuracy {
					t.Errorf("epoch %d: %+v, with the channels last %+v", i+1, e, other)
				}
			}
			for _, w := range first.Graph.Initializers {
				if !bytes.Equal(w.Raw, last.Graph.Initializer(w.Name).Raw) {
					t.Errorf("%q differs", w.Name)
				}
			}
			s, err := spec.Get(last)
			if err != nil || s.Input.Layout != spec.NHWC || s.Input.Size != [2]int{28, 28} {
				t.Errorf("the model says %+v %v", s.Input, err)
			}
			score, err := Evaluate(context.Background(), native(last, nil), splits.Validation, 32, false)
			if want := got[1].History[1]; err != nil || score.Accuracy != want.ValidationAccuracy {
				t.Errorf("measured again: %v %v, in the run %v", score.Accuracy, err, want.ValidationAccuracy)
			}
		})
	}
}

// A network whose maps come out with their channels last trains as the one that gives them first, by the losses
// of one channel and of several. With several the gradient of the last bias is added up in another order, so the
// numbers are those of float32 after six steps of a rate of 0.1, and of 3,072 pixels three may change sides.
func TestChannelsLastOfMaps(t *testing.T) {
	near := func(a, b, by float64) bool { return math.Abs(a-b) <= by }
	for classes, channels := range map[int]int{2: 1, 3: 3} {
		cfg := Config{Epochs: 2, Batch: 4, LR: 0.1, Optimizer: "sgd", Threads: 1, Metrics: []string{"iou"}}
		first, last, splits := unet(t, channels), channelsLast(unet(t, channels)), blocks(t, 12, classes)
		var got [2]*Result
		for i, m := range []*onnxio.Model{first, last} {
			var err error
			if got[i], err = Run(context.Background(), m, splits, cfg, "", Observer{}); err != nil {
				t.Fatal(err)
			}
		}
		for i, a := range got[0].History {
			b := got[1].History[i]
			if !near(a.TrainLoss, b.TrainLoss, 1e-6) || !near(a.ValidationLoss, b.ValidationLoss, 1e-6) ||
				!near(a.TrainAccuracy, b.TrainAccuracy, 1e-3) || !near(a.Metrics["iou"], b.Metrics["iou"], 1e-3) {
				t.Errorf("%d classes, epoch %d: %+v, with the channels last %+v", classes, i+1, a, b)
			}
		}
		for _, w := range first.Graph.Initializers {
			for i, v := range last.Graph.Initializer(w.Name).Float32s() {
				if !near(float64(v), float64(w.Float32s()[i]), 1e-5) {
					t.Fatalf("%d classes: %q[%d] is %v, with the channels last %v", classes, w.Name, i,
						w.Float32s()[i], v)
				}
			}
		}
		if y := last.Graph.Outputs[0]; len(last.Graph.Outputs) != 1 || y.Type.Shape[3].Value != int64(channels) {
			t.Errorf("the output has become %+v", y)
		}
	}
}

// A Trainer takes the images as the model does, and the masks as the loss does.
func TestTrainerOfChannelsLast(t *testing.T) {
	splits := blocks(t, 4, 2)
	x, _ := NewBatch([3]int{1, 16, 16}, 4)
	target := onnxio.NewTensor(onnxio.Float, 4, 1, 16, 16)
	if err := splits.Train.Fill(x, target, data.Sequence(4)); err != nil {
		t.Fatal(err)
	}
	var loss [2]float64
	for i, m := range []*onnxio.Model{unet(t, 1), channelsLast(unet(t, 1))} {
		tr, err := NewTrainer(m, Config{LR: 0.1, Optimizer: "sgd", Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		in := x
		if i == 1 { // one channel lies alike in both
			in = &onnxio.Tensor{Type: x.Type, Dims: []int64{4, 16, 16, 1}, Raw: x.Raw}
		}
		if loss[i], err = tr.Step(context.Background(), in, target); err != nil {
			t.Fatal(err)
		}
	}
	if loss[0] != loss[1] {
		t.Errorf("loss %v, with the channels last %v", loss[0], loss[1])
	}
}
