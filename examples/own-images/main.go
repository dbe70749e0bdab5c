// Command own-images trains a small ResNet on a folder of images, a folder in it for each
// class, and leaves model.onnx:
//
//	go run ./examples/own-images photos run
package main

import (
	"context"
	"log"
	"os"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: own-images DIR OUT")
	}
	splits, err := data.OpenWith("images:"+os.Args[1], data.Options{Size: [2]int{32, 32}})
	if err != nil {
		log.Fatal(err)
	}
	m, err := builders.Build("resnet", builders.Config{Classes: len(splits.Train.Classes()),
		Blocks: []int{1, 1, 1}})
	if err != nil {
		log.Fatal(err)
	}
	cfg := train.Defaults("resnet")
	cfg.Epochs, cfg.Batch = 5, 16
	cfg.Augment = transforms.Compose{transforms.RandomHorizontalFlip{P: 0.5}}
	told := train.Observer{Epoch: func(e train.Epoch) {
		log.Printf("epoch %d: validation loss %.4f, accuracy %.1f%%", e.Epoch, e.ValidationLoss,
			100*e.ValidationAccuracy)
	}}
	if _, err := train.Run(context.Background(), m, splits, cfg, os.Args[2], told); err != nil {
		log.Fatal(err)
	}
}
