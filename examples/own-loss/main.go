// Command own-loss trains LeNet-5 on a part of MNIST with a loss of its own, made of ONNX operators:
// cross-entropy in which what the network is least sure of counts most. Package examples/parts adds a metric,
// an optimizer, a transform and a data set.
//
//	go run ./examples/own-loss
package main

import (
	"context"
	"log"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist" // the program has MNIST
)

// hard is the mean of the squares of the log-likelihoods.
var hard = train.Loss{
	Entry:   train.Entry{Name: "hard", Doc: "mean of (-log p)^2"},
	Targets: train.Labels,
	Emit: func(l *train.LossGraph) (string, error) {
		each := l.Node("NegativeLogLikelihoodLoss", "each", []string{l.Y, l.Target},
			onnxio.StringAttr("reduction", "none"))
		return l.Node("ReduceMean", "mean", []string{l.Node("Mul", "square", []string{each, each})},
			onnxio.IntAttr("keepdims", 0)), nil
	},
}

func main() {
	if err := train.RegisterLoss(hard); err != nil {
		log.Fatal(err)
	}
	splits, err := data.Open("mnist")
	if err != nil {
		log.Fatal(err)
	}
	if splits.Train, err = data.Take(splits.Train, 2000, 0, true); err != nil {
		log.Fatal(err)
	}
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		log.Fatal(err)
	}
	cfg := train.Defaults("lenet5")
	cfg.Loss, cfg.Epochs, cfg.LR, cfg.Momentum = "hard", 3, 0.005, 0.9
	result, err := train.Run(context.Background(), m, splits, cfg, "", train.Observer{})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("accuracy %.2f%%", 100*result.History[result.Best].ValidationAccuracy)
}
