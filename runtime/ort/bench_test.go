//go:build cgo && (linux || darwin || windows)

package ort

import (
	"context"
	"fmt"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

func reluModel() *onnxio.Model {
	return graph([]*onnxio.ValueInfo{onnxio.TensorInfo("input", onnxio.Float,
		onnxio.Shape("N", 3, 32, 32)...)},
		[]*onnxio.ValueInfo{onnxio.TensorInfo("output", onnxio.Float, onnxio.Shape("N", 3, 32, 32)...)},
		node("Relu", []string{"input"}, "output"))
}

// BenchmarkRun is what a call costs. The first model does next to nothing, so that the rest of its time is
// what this package and the bindings add; testdata/infer/ort_overhead.sh compares the others with ONNX
// Runtime's Python package.
func BenchmarkRun(b *testing.B) {
	type subject struct {
		name  string
		m     *onnxio.Model
		shape []int64
	}
	subjects := []subject{{"relu/1", reluModel(), []int64{1, 3, 32, 32}},
		{"relu/64", reluModel(), []int64{64, 3, 32, 32}}}
	for _, name := range []string{"minivgg", "resnet"} {
		m, err := builders.Build(name, builders.Config{})
		if err != nil {
			b.Fatal(err)
		}
		dims := m.Graph.Inputs[0].Type.Shape
		for _, batch := range []int64{1, 32} {
			subjects = append(subjects, subject{fmt.Sprintf("%s/%d", name, batch), m,
				[]int64{batch, dims[1].Value, dims[2].Value, dims[3].Value}})
		}
	}
	for _, s := range subjects {
		b.Run(s.name, func(b *testing.B) {
			backend := opened(b, s.m)
			in := map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Float, s.shape...)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := backend.Run(context.Background(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
