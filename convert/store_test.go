package convert

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// TestStore: a trained model in half the bytes computes nearly the same, and gives its
// weights back under their keys.
func TestStore(t *testing.T) {
	m, err := onnxio.Load("../models/lenet5-mnist/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	x := onnxio.NewTensor(onnxio.Float, 3, 1, 28, 28)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(math.Sin(float64(i * i)))
	}
	want := firstOutput(t, m, x)
	// 11 and 8 bits
	for typ, tol := range map[onnxio.DataType]float64{onnxio.Float16: 2e-3, onnxio.BFloat16: 2e-2} {
		s, err := Store(m, typ)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Model(s); err != nil {
			t.Fatal(err)
		}
		got, largest := firstOutput(t, s, x), 0.0
		for _, v := range want {
			largest = max(largest, math.Abs(float64(v)))
		}
		for i, v := range got {
			if d := math.Abs(float64(v-want[i])) / largest; !(d <= tol) {
				t.Errorf("%v: output %d is %v, want %v", typ, i, v, want[i])
			}
		}
		sd, err := FromModel(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, init := range m.Graph.Initializers {
			back := sd.Get(init.Name)
			if back == nil {
				t.Fatalf("%v: %s is gone", typ, init.Name)
			}
			if narrow := len(init.Dims) >= 2 && init.Type == onnxio.Float; narrow && back.Type != typ ||
				!narrow && back.Type != init.Type {
				t.Errorf("%v: %s %v is stored as %v", typ, init.Name, init.Dims, back.Type)
			}
		}
	}
	if m.Graph.Nodes[0].OpType == "Cast" {
		t.Error("the caller's model has changed")
	}
}

func firstOutput(t *testing.T, m *onnxio.Model, x *onnxio.Tensor) []float32 {
	t.Helper()
	in := m.Graph.Inputs[0].Name
	p, err := engine.Compile(m, engine.Options{Shapes: map[string][]int64{in: x.Dims}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), map[string]*onnxio.Tensor{in: x})
	if err != nil {
		t.Fatal(err)
	}
	return out[m.Graph.Outputs[0].Name].Float32s()
}

// TestStoreKeeps: what float16 cannot hold, and what others see the type of, stays float32.
func TestStoreKeeps(t *testing.T) {
	large := onnxio.Floats([]float32{1, 7e4}, 2, 1)
	large.Name = "large"
	small := onnxio.Floats([]float32{1, 2}, 2, 1)
	small.Name = "small"
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{
		Nodes: []*onnxio.Node{{OpType: "Add", Inputs: []string{"large", "small"},
			Outputs: []string{"y"}}},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float),
			onnxio.TensorInfo("small", onnxio.Float)},
		Initializers: []*onnxio.Tensor{large, small}}}
	s, err := Store(m, onnxio.Float16)
	if err != nil {
		t.Fatal(err)
	}
	for _, init := range s.Graph.Initializers {
		if init.Type != onnxio.Float {
			t.Errorf("%s is %v", init.Name, init.Type)
		}
	}
	if s, err = Store(m, onnxio.BFloat16); err != nil ||
		s.Graph.Initializer("large").Type != onnxio.BFloat16 {
		t.Errorf("bfloat16 holds 7e4: %v", err)
	}
	if _, err := Store(m, onnxio.Int8); err == nil {
		t.Error("int8 is no type to store floats in")
	}
	sd := &StateDict{}
	sd.Set("large", large)
	sd.Set("small", small)
	half, err := sd.Store(onnxio.Float16)
	if err != nil || half.Get("large").Type != onnxio.Float || half.Get("small").Type != onnxio.Float16 ||
		sd.Get("small").Type != onnxio.Float {
		t.Errorf("%v", err)
	}
}
