package convert_test

import (
	"fmt"
	"os"
	"path/filepath"

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
