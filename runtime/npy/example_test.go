package npy_test

import (
	"bytes"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// A tensor goes into a .npy file, and comes back.
func Example() {
	var file bytes.Buffer
	if err := npy.Encode(&file, onnxio.Floats([]float32{1, 2, 3, 4, 5, 6}, 2, 3)); err != nil {
		fmt.Println(err)
		return
	}
	t, err := npy.Decode(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Type, t.Dims, t.Float32s())
	// Output: float32 [2 3] [1 2 3 4 5 6]
}
