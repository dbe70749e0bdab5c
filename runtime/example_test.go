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

// A model from a file; its answers go into a tensor that every call fills again.
func ExampleSession_RunInto() {
	s, err := runtime.Open("../testdata/train/tasks/regression-trained.onnx",
		runtime.WithEngine(runtime.Native))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	x, y := onnxio.NewTensor(onnxio.Float, 4, 3, 16, 16), onnxio.NewTensor(onnxio.Float, 4, 2)
	in, out := map[string]*onnxio.Tensor{"input": x}, map[string]*onnxio.Tensor{"output": y}
	ctx := context.Background()
	// now the first call is as fast as the next
	fmt.Println(s.Prepare(ctx, map[string][]int64{"input": x.Dims}))
	all, err := s.Run(ctx, in)
	fmt.Printf("%.3f %v\n", all["output"].Float32s()[:2], err)
	err = s.RunInto(ctx, in, out)
	fmt.Printf("%.3f %v\n", y.Float32s()[:2], err)
	// Output:
	// <nil>
	// [0.379 0.335] <nil>
	// [0.379 0.335] <nil>
}
