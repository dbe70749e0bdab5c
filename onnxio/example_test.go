package onnxio_test

import (
	"bytes"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A model is built from plain values, written, and read back.
func Example() {
	m := &onnxio.Model{
		IRVersion:    8,
		Opsets:       []onnxio.Opset{{Version: 17}},
		ProducerName: "example",
		Graph: &onnxio.Graph{
			Name:         "scale",
			Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3)...)},
			Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 3)...)},
			Initializers: []*onnxio.Tensor{onnxio.Floats([]float32{1, 10, 100}, 3)},
			Nodes: []*onnxio.Node{{OpType: "Mul", Inputs: []string{"x", "scale"},
				Outputs: []string{"y"}}},
		},
	}
	m.Graph.Initializers[0].Name = "scale"
	b, err := onnxio.Encode(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := onnxio.Decode(bytes.NewReader(b), int64(len(b)), onnxio.DefaultLimits())
	if err != nil {
		fmt.Println(err)
		return
	}
	n := again.Graph.Nodes[0]
	fmt.Println(n.OpType, n.Inputs, n.Outputs, again.Graph.Initializer("scale").Float32s())

	_, err = onnxio.Decode(bytes.NewReader(b[:len(b)-3]), int64(len(b)-3), onnxio.DefaultLimits())
	fmt.Println(err)
	// Output:
	// Mul [x scale] [y] [1 10 100]
	// onnx: opset_import: length 4 where 1 bytes remain at byte 112
}
