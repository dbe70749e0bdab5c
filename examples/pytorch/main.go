// Command pytorch takes weights to PyTorch and back: it writes a ResNet-20's state dict, which torch.load
// reads, and fills another network from it.
//
//	go run ./examples/pytorch resnet20.pth
//	python -c 'import torch; print(torch.load("resnet20.pth", weights_only=True)["linear.weight"].shape)'
package main

import (
	"bytes"
	"log"
	"os"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: pytorch FILE.pth")
	}
	from, err := builders.Build("resnet20", builders.Config{Seed: 1})
	if err != nil {
		log.Fatal(err)
	}
	weights, err := convert.FromModel(from)
	if err != nil {
		log.Fatal(err)
	}
	if err := convert.Save(os.Args[1], weights); err != nil {
		log.Fatal(err)
	}
	back, err := convert.Load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	to, err := builders.Build("resnet20", builders.Config{Seed: 2})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := convert.Apply(to, back, convert.ApplyOptions{Strict: true}); err != nil {
		log.Fatal(err)
	}
	for _, t := range from.Graph.Initializers {
		if !bytes.Equal(t.Raw, to.Graph.Initializer(t.Name).Raw) {
			log.Fatalf("%s came back changed", t.Name)
		}
	}
	log.Printf("%d tensors went to %s and came back, bit by bit", len(back.Entries()), os.Args[1])
}
