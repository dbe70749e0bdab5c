package onnxio

import (
	"bytes"
	"testing"
)

// Tensors that share memory keep to their own: an append moves away, and each has its elements.
func TestTensorsShareMemory(t *testing.T) {
	m := &Model{IRVersion: 8, Opsets: []Opset{{Version: 17}}, Graph: &Graph{Name: "g"}}
	sizes := []int64{1 << 10, 300, ownBytes/4 + 1, 257, 1 << 20, ownBytes / 4, 999}
	for i, n := range sizes {
		x := NewTensor(Float, n)
		x.Name = string(rune('a' + i))
		for k := range x.Float32s() {
			x.Float32s()[k] = float32(i + 1)
		}
		m.Graph.Initializers = append(m.Graph.Initializers, x)
	}
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(bytes.NewReader(b), int64(len(b)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range got.Graph.Initializers {
		if cap(x.Raw) != len(x.Raw) && len(x.Raw) >= cutBytes {
			t.Errorf("%s: capacity %d, length %d", x.Name, cap(x.Raw), len(x.Raw))
		}
	}
	for i, x := range got.Graph.Initializers {
		f := x.Float32s()
		if int64(len(f)) != sizes[i] || f[0] != float32(i+1) || f[len(f)-1] != float32(i+1) {
			t.Errorf("%s: %d elements, %g to %g", x.Name, len(f), f[0], f[len(f)-1])
		}
	}
}
