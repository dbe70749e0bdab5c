package train_test

import (
	"context"
	"fmt"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

// A part of MNIST, two epochs: enough to beat guessing by far.
func Example() {
	splits, err := data.Open("mnist")
	if err != nil {
		fmt.Println(err)
		return
	}
	splits.Train = data.Subset{Dataset: splits.Train, Indices: data.Sequence(2000)}
	splits.Validation = data.Subset{Dataset: splits.Validation, Indices: data.Sequence(500)}
	m, err := builders.Build("lenet5", builders.Config{Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := train.Defaults("lenet5")
	cfg.Epochs, cfg.LR, cfg.Momentum = 2, 0.05, 0.9
	result, err := train.Run(context.Background(), m, splits, cfg, "", train.Observer{})
	if err != nil {
		fmt.Println(err)
		return
	}
	last := result.History[len(result.History)-1]
	fmt.Println(last.Epoch, "epochs, accuracy above 75%:", last.ValidationAccuracy > 0.75)
	// Output: 2 epochs, accuracy above 75%: true
}
