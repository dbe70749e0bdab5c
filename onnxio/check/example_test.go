package check_test

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// Everything that is wrong is reported at once.
func Example() {
	w := onnxio.NewTensor(onnxio.Float, 8, 3, 3, 3)
	w.Name = "conv.weight"
	m := &onnxio.Model{
		IRVersion: 8,
		Opsets:    []onnxio.Opset{{Version: 17}},
		Graph: &onnxio.Graph{
			Name: "net",
			Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("input", onnxio.Float,
				onnxio.Shape("N", 4, 32, 32)...)},
			Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("output", onnxio.Float,
				onnxio.Shape("N", 8, 16, 16)...)},
			Initializers: []*onnxio.Tensor{w},
			Nodes: []*onnxio.Node{
				{Name: "conv", OpType: "Conv", Inputs: []string{"input", "conv.weight"},
					Outputs: []string{"a"},
					Attrs:   []*onnxio.Attribute{onnxio.IntsAttr("strides", 0, 2)}},
				{Name: "relu", OpType: "Relu", Inputs: []string{"b"}, Outputs: []string{"output"}},
			},
		},
	}
	fmt.Println(check.Model(m))
	// Output:
	// onnx: Conv "conv": strides [0 2]: each must be from 1 to 1073741824
	// onnx: Conv "conv": input [-1 4 32 32] does not fit weights [8 3 3 3] in 1 groups
	// onnx: Relu "relu": reads "b", which nothing makes
}
