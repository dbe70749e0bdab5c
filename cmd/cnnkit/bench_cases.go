package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// benchCase is a network with the batch and optimiser it is trained with.
type benchCase struct {
	name      string
	network   string
	input     [3]int
	batch     int
	classes   int // what targets are drawn from; 0: a mask
	optimizer string
	model     *onnxio.Model // of a file, instead of network
}

var benchCases = []benchCase{
	{name: "lenet5-28", network: "lenet5", input: [3]int{1, 28, 28}, batch: 64, classes: 10,
		optimizer: "sgd"},
	{name: "lenet5-32", network: "lenet5", input: [3]int{3, 32, 32}, batch: 100, classes: 10,
		optimizer: "sgd"},
	{name: "minivgg-28", network: "minivgg", input: [3]int{1, 28, 28}, batch: 64, classes: 10,
		optimizer: "sgd"},
	{name: "minivgg-32", network: "minivgg", input: [3]int{3, 32, 32}, batch: 100, classes: 10,
		optimizer: "sgd"},
	{name: "resnet-cifar", network: "resnet", input: [3]int{3, 32, 32}, batch: 100, classes: 10,
		optimizer: "adam"},
	{name: "unet-128", network: "unet", input: [3]int{3, 128, 128}, batch: 4, classes: 0, optimizer: "adam"},
	{name: "resnet18-224", network: "resnet18", input: [3]int{3, 224, 224}, batch: 8, classes: 1000,
		optimizer: "sgd"},
	{name: "vgg16-224", network: "vgg16", input: [3]int{3, 224, 224}, batch: 4, classes: 1000,
		optimizer: "sgd"},
}

func caseNames() []string {
	var out []string
	for _, b := range benchCases {
		out = append(out, b.name)
	}
	return out
}

// build makes the case's network.
func (b benchCase) build() (*onnxio.Model, error) {
	if !slices.Contains(builders.Names(), b.network) {
		return nil, usageError(
			"case %s needs the network %s, which this cnnkit does not build (it builds %s)",
			b.name, b.network, strings.Join(builders.Names(), ", "))
	}
	return builders.Build(b.network, builders.Config{Input: b.input, Classes: b.classes})
}

// chosenCases parses --cases, and checks the flags that both kinds of measurement share.
func chosenCases(c *cli.Context) ([]benchCase, error) {
	if err := none(c); err != nil {
		return nil, err
	}
	if c.Int("windows") < 1 || !(c.Float64("seconds") > 0) {
		return nil, usageError("--windows and --seconds must be positive")
	}
	var out []benchCase
	for _, name := range strings.Split(c.String("cases"), ",") {
		i := slices.IndexFunc(benchCases, func(b benchCase) bool { return b.name == name })
		if i < 0 {
			return nil, usageError("no case %q%s", name, didYouMean(name, caseNames()))
		}
		out = append(out, benchCases[i])
	}
	return out, nil
}
