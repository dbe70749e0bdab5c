package data_test

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// The second batch of four of an epoch's shuffled order.
func Example() {
	s, err := data.Open("mnist")
	if err != nil {
		fmt.Println(err)
		return
	}
	order := data.Order(s.Train.Len(), 0, 1)
	x, target := onnxio.NewTensor(onnxio.Float, 4, 1, 28, 28), onnxio.NewTensor(onnxio.Int64, 4)
	if err := s.Train.Fill(x, target, order[4:8]); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Train.Len(), s.Validation.Len(), x.Dims, target.Dims)
	// Output: 60000 10000 [4 1 28 28] [4]
}
