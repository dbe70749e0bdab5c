// Command fine-tuning gives torchvision's ResNet-18 the weights of a .pth file and a new head,
// and trains the head alone:
//
//	go run ./examples/fine-tuning resnet18.pth photos run
package main

import (
	"context"
	"log"
	"os"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: fine-tuning WEIGHTS DIR OUT")
	}
	splits, err := data.OpenWith("images:"+os.Args[2], data.Options{Size: [2]int{64, 64}})
	if err != nil {
		log.Fatal(err)
	}
	m, err := builders.Build("resnet18", builders.Config{Input: [3]int{3, 64, 64},
		Classes: len(splits.Train.Classes())})
	if err != nil {
		log.Fatal(err)
	}
	weights, err := convert.Load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	report, err := convert.Apply(m, weights,
		convert.ApplyOptions{Replaceable: []string{"fc.weight", "fc.bias"}})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d tensors are the file's, %d are new", len(report.Applied), len(report.Replaced))
	cfg := train.Config{Epochs: 3, Batch: 8, Optimizer: "adam", LR: 1e-3, Freeze: []string{"conv1", "bn1",
		"layer?.*"}, CacheFeatures: true}
	result, err := train.Run(context.Background(), m, splits, cfg, os.Args[3], train.Observer{})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("validation loss %.4f", result.History[result.Best].ValidationLoss)
}
