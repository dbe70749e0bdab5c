package train

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// ClassWeights weigh the classes in the loss, as the weight of torch.nn.CrossEntropyLoss does: each has
// a number, in the order of the classes, or they are data.ClassWeights of the images to train on. In
// JSON a list, or "balanced".
type ClassWeights struct {
	Balanced bool
	Each     []float64
}

// IsZero reports whether all classes weigh the same.
func (w ClassWeights) IsZero() bool { return !w.Balanced && len(w.Each) == 0 }

// UnmarshalJSON takes a list of numbers, or "balanced".
func (w *ClassWeights) UnmarshalJSON(b []byte) error {
	*w = ClassWeights{}
	if string(b) == `"balanced"` {
		w.Balanced = true
		return nil
	}
	if err := json.Unmarshal(b, &w.Each); err != nil {
		return fmt.Errorf(`class_weights is %s: it wants a number for each class, or "balanced"`, b)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (w ClassWeights) MarshalJSON() ([]byte, error) {
	if w.Balanced {
		return []byte(`"balanced"`), nil
	}
	return json.Marshal(w.Each)
}

func (w ClassWeights) validate() error {
	for i, v := range w.Each {
		if !(v >= 0) || math.IsInf(v, 1) {
			return fmt.Errorf("class_weights has %v for class %d: it wants numbers that are not negative",
				v, i)
		}
	}
	if len(w.Each) > 0 && slices.Max(w.Each) == 0 {
		return fmt.Errorf("class_weights are all 0: nothing would be learnt")
	}
	return nil
}

// of is w with numbers, where a data set says them.
func (w ClassWeights) of(ds data.Dataset) (ClassWeights, error) {
	if !w.Balanced {
		return w, nil
	}
	each, err := data.ClassWeights(ds)
	if err != nil {
		return w, err
	}
	w = ClassWeights{}
	for _, v := range each {
		w.Each = append(w.Each, float64(v))
	}
	return w, nil
}

// fit compares w with the classes of a model's output y.
func (w ClassWeights) fit(y *onnxio.ValueInfo) error {
	if w.Balanced {
		return fmt.Errorf("balanced class_weights come from a data set, and there is none")
	}
	n, err := classes(y)
	if err != nil {
		return fmt.Errorf("class_weights: %w", err)
	}
	if n != len(w.Each) {
		return fmt.Errorf("class_weights has %d numbers; the model's output %q has %d classes",
			len(w.Each), y.Name, n)
	}
	return nil
}

// add appends the weights as an initializer [C], or [C,1,...] of the given rank.
func (w ClassWeights) add(l *LossGraph, name string, rank int) string {
	shape := make([]int64, rank)
	for i := range shape {
		shape[i] = 1
	}
	shape[0] = int64(len(w.Each))
	t := onnxio.NewTensor(onnxio.Float, shape...)
	for i, v := range w.Each {
		t.Float32s()[i] = float32(v)
	}
	return l.Constant(name, t)
}

// classes is how many classes a model's output [N,C,...] has.
func classes(y *onnxio.ValueInfo) (int, error) {
	if y.Type == nil || !y.Type.HasShape || len(y.Type.Shape) < 2 || !y.Type.Shape[1].Known() {
		return 0, fmt.Errorf("the model does not say how many classes its output %q has", y.Name)
	}
	return int(y.Type.Shape[1].Value), nil
}
