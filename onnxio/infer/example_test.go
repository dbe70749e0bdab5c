package infer_test

import (
	"fmt"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// Shapes keeps the batch size a symbol.
func Example() {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	shapes, err := infer.Shapes(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range m.Graph.Nodes {
		fmt.Print(n.Name)
		for _, d := range shapes.ValueInfo(n.Outputs[0]).Type.Shape {
			if d.Param != "" {
				fmt.Print(" ", d.Param)
			} else {
				fmt.Print(" ", d.Value)
			}
		}
		fmt.Println()
	}
	// Output:
	// conv1 N 6 28 28
	// relu1 N 6 28 28
	// pool1 N 6 14 14
	// conv2 N 16 10 10
	// relu2 N 16 10 10
	// pool2 N 16 5 5
	// flatten N 400
	// fc1 N 120
	// relu3 N 120
	// fc2 N 84
	// relu4 N 84
	// fc3 N 10
	// logsoftmax N 10
}
