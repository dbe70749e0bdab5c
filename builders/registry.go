package builders

import "slices"

// network is what Build knows of a name.
type network struct {
	Info
	build func(b *Builder, cfg Config) Value
}

// networks are all families by name.
var networks = index(classics, cifar, airbenches, alexnets, vggs, resnets, squeezenets, mobilenets,
	efficientnets, shufflenets, mnasnets,
	densenets, inceptions, regnets, convnexts, transformers, swins, maxvits, segmentations, encoded,
	efficientNetLites, detections)

func index(families ...[]network) map[string]network {
	all := map[string]network{}
	for _, n := range slices.Concat(families...) {
		all[n.Name] = n
	}
	return all
}

// classifier is a network of torchvision's for ImageNet's classes, on square images.
func classifier(name, summary string, side int, build func(b *Builder, cfg Config) Value) network {
	return network{Info{name, summary, Config{Input: [3]int{3, side, side}, Classes: 1000}}, build}
}

// deep is a classifier whose StochasticDepth starts at drop.
func deep(name, summary string, side int, drop float64, build func(b *Builder, cfg Config) Value) network {
	n := classifier(name, summary, side, build)
	n.Defaults.StochasticDepth = drop
	return n
}
