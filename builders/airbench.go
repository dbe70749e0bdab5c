package builders

import (
	"fmt"
	"math/rand/v2"
)

// airbenches are networks of the CIFAR-10 speed runs.
var airbenches = []network{
	{Info{"airbench", "network of the CIFAR-10 speed runs (Jordan 2024): frozen 2x2 whitening, three blocks of two 3x3 convolutions, GELU",
		Config{Input: [3]int{3, 32, 32}, Classes: 10, Width: 64, Opset: 20}}, airbench},
}

// airbench is the network of Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv:2404.00498, as
// its later runs with Muon have it. A convolution 2x2 has two filters for each number of a patch, a direction
// and its opposite, which the recipe's whiten computes from the data. Three blocks of Width, 4 and 4 times
// Width channels follow. The logits are scaled by 1/9. Any height and width from 26 on fits: the last pool
// takes all that is left, 3x3 of CIFAR's 32x32.
func airbench(b *Builder, cfg Config) Value {
	x := b.Conv2d("whiten", b.Input(), 8*cfg.Input[0], 2, BiasInit(Zeros))
	x = b.GELU("layers.0", x)
	for i, channels := range []int{cfg.Width, 4 * cfg.Width, 4 * cfg.Width} {
		x = b.Scope(fmt.Sprintf("layers.%d", i+1)).airbenchBlock(x, channels)
	}
	x = b.Flatten("flatten", b.GlobalMaxPool2d("layers.4", x))
	return b.Scale("logits", b.Linear("head", x, cfg.Classes, NoBias()), 1.0/9)
}

// airbenchBlock is two convolutions that begin as identities of their first channels,
// and a pool between them.
func (b *Builder) airbenchBlock(x Value, channels int) Value {
	norm := []Option{NoScale(), Eps(1e-12), Momentum(0.4)}
	conv := []Option{Pad(1), NoBias(), WeightInit(PartialDirac)}
	x = b.MaxPool2d("pool", b.Conv2d("conv1", x, channels, 3, conv...), 2)
	x = b.GELU("activ1", b.BatchNorm2d("norm1", x, norm...))
	x = b.BatchNorm2d("norm2", b.Conv2d("conv2", x, channels, 3, conv...), norm...)
	return b.GELU("activ2", x)
}

// PartialDirac is dirac_ of as many filters as there are inputs, and PyTorch's default for the others: the
// first outputs of the convolution are its inputs.
func PartialDirac(r *rand.Rand, shape []int64, data []float32) {
	uniform(fanIn(shape))(r, shape, data)
	n := min(shape[0], shape[1])
	Dirac(r, append([]int64{n}, shape[1:]...), data[:n*elements(shape[1:])])
}

// Dirac is dirac_ without groups: filter i [C,H,W] has a one in the middle of channel i, and zeros.
func Dirac(_ *rand.Rand, shape []int64, data []float32) {
	clear(data)
	per, middle := elements(shape[2:]), int64(0)
	for _, d := range shape[2:] {
		middle = middle*d + d/2
	}
	for i := range min(shape[0], shape[1]) {
		data[(i*shape[1]+i)*per+middle] = 1
	}
}
