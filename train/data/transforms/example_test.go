package transforms_test

import (
	"encoding/json"
	"fmt"

	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// The usual augmentation of CIFAR-10, from a recipe.
func Example() {
	list, err := transforms.Parse([]byte(`[
		{"name": "RandomCrop", "size": 32, "padding": 4},
		{"name": "RandomHorizontalFlip"}
	]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	norm, err := transforms.Normalize([]float32{0.4914, 0.4822, 0.4465}, []float32{0.2470, 0.2435, 0.2616})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := transforms.Sample{Image: transforms.NewImage(3, 32, 32), Label: 7}
	if err := list.Apply(&s, transforms.NewRand(0, 1, 4711)); err != nil {
		fmt.Println(err)
		return
	}
	x := make([]float32, 3*32*32)
	if err := norm.Into(x, s.Image); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d %d %d %.3f\n", s.Image.C, s.Image.H, s.Image.W, x[0])
	// Output: 3 32 32 -1.989
}

// The same list in Go, and as a recipe holds it.
func ExampleOf() {
	list, err := transforms.Of(
		transforms.RandomCrop{Size: transforms.Ints{32}, Padding: transforms.Ints{4}},
		transforms.RandomHorizontalFlip{P: 0.5},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := json.Marshal(list)
	fmt.Println(string(b), err)
	// Output: [{"name":"RandomCrop","size":32,"padding":4},{"name":"RandomHorizontalFlip","p":0.5}] <nil>
}

func ExampleParse_errors() {
	for _, list := range []string{
		`[{"name": "RandomCrop", "size": 32, "paddings": 4}]`,
		`[{"name": "RandomHorizontalFlip", "p": 1.5}]`,
		`[{"name": "Resize", "size": 32}, {"name": "RandomFlip"}]`,
	} {
		_, err := transforms.Parse([]byte(list))
		fmt.Printf("%.90s\n", err)
	}
	// Output:
	// transform 0, RandomCrop: no setting "paddings" is known; there are size, padding, pad_if_n
	// transform 0, RandomHorizontalFlip: p 1.5: a probability from 0 to 1 is wanted
	// transform 1: no "RandomFlip" is known; there are AlternatingFlip, AutoAugment, CenterCrop,
}
