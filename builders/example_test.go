package builders_test

import (
	"fmt"

	"github.com/cnnkit/cnnkit/builders"
)

// A network of one's own reads like its PyTorch module.
func Example() {
	b := builders.New("small", 17, 0, 1, 28, 28)
	x := b.ReLU("relu1", b.Conv2d("conv1", b.Input(), 8, 3, builders.Pad(1)))
	x = b.MaxPool2d("pool1", x, 2)
	layer := b.Scope("layer1.0")
	x = layer.ReLU("relu", layer.BatchNorm2d("bn1", layer.Conv2d("conv1", x, 16, 3, builders.NoBias())))
	x = b.Flatten("flatten", b.GlobalAvgPool2d("pool2", x))
	m, err := b.Model(b.LogSoftmax("logsoftmax", b.Linear("fc", x, 10)))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range m.Graph.Initializers {
		fmt.Println(t.Name, t.Dims)
	}
	// Output:
	// conv1.weight [8 1 3 3]
	// conv1.bias [8]
	// layer1.0.conv1.weight [16 8 3 3]
	// layer1.0.bn1.weight [16]
	// layer1.0.bn1.bias [16]
	// layer1.0.bn1.running_mean [16]
	// layer1.0.bn1.running_var [16]
	// fc.weight [10 16]
	// fc.bias [10]
}
