package convert_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	var sd convert.StateDict
	sd.Set("fc.weight", onnxio.Floats([]float32{1, 2, 3, 4, 5, 6}, 2, 3))
	sd.Set("fc.bias", onnxio.Floats([]float32{7, 8}))
	path := filepath.Join(dir, "fc.pt") // torch.load(path, weights_only=True) reads it
	if err := convert.Save(path, &sd); err != nil {
		fmt.Println(err)
		return
	}
	got, err := convert.Load(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range got.Entries() {
		fmt.Println(e.Name, e.Tensor.Dims, e.Tensor.Float32s())
	}
	// Output:
	// fc.weight [2 3] [1 2 3 4 5 6]
	// fc.bias [2] [7 8]
}

// A checkpoint that PyTorch saved gives a network of package builders its weights.
func ExampleApply() {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	weights, err := convert.Load("../testdata/convert/nets/lenet5-new.pth")
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := convert.Apply(m, weights, convert.ApplyOptions{Strict: true})
	fmt.Println(report, err)
	fmt.Printf("%.4f\n", m.Graph.Initializer("fc3.bias").Float32s()[:3])
	// Output:
	// 10 keys applied, 0 missing, 0 unexpected, 0 mismatched <nil>
	// [0.0184 -0.0346 0.0059]
}
