package data_test

import (
	"context"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist" // the program has MNIST
	"github.com/cnnkit/cnnkit/train/data/transforms"
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

// An augmented epoch of 160 images, each digit with its share, from its second step on.
func ExampleLoader() {
	s, err := data.Open("mnist")
	if err != nil {
		fmt.Println(err)
		return
	}
	few, err := data.Take(s.Train, 160, 0, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	augment, err := transforms.Of(transforms.RandomCrop{Size: transforms.Ints{28},
		Padding: transforms.Ints{2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := data.NewLoader(few, data.LoaderConfig{Batch: 60, Shuffle: true, Seed: 1, Transforms: augment})
	if err != nil {
		fmt.Println(err)
		return
	}
	for b, err := range l.Epoch(context.Background(), 1, 1) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(b.Step, b.X.Dims, b.Target.Dims)
	}
	// Output:
	// 1 [60 1 28 28] [60]
	// 2 [40 1 28 28] [40]
}
