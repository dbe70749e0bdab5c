package runtime_test

import (
	"context"
	"fmt"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// A session takes batches of any size; inputs and outputs go by name.
func Example() {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native), runtime.WithThreads(1))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for _, n := range []int64{1, 7} {
		x := onnxio.NewTensor(onnxio.Float, n, 1, 28, 28)
		out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.Engine(), out["output"].Dims)
	}
	// Output:
	// native [1 10]
	// native [7 10]
}
