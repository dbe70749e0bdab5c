package vision_test

import (
	"fmt"
	"image"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// An image becomes an input, and an output a ranking.
func Example() {
	p := builders.Preprocessing{Size: [2]int{28, 28}, Channels: 1, Mean: []float32{0.1307},
		Std: []float32{0.3081}}
	x := vision.Input(image.NewGray(image.Rect(0, 0, 200, 100)), p)
	fmt.Println(x.Dims)

	logits := onnxio.Floats([]float32{0, 2, 1}, 1, 3)
	top, err := vision.Top(logits, vision.Logits, 2, []string{"cat", "dog", "horse"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, g := range top[0] {
		fmt.Printf("%s %.2f\n", g.Label, g.Probability)
	}
	// Output:
	// [1 1 28 28]
	// dog 0.67
	// horse 0.24
}
