package engine

// WithTwins runs BF16 by the kernels' twins where the processor cannot.
func (opt TrainOptions) WithTwins() TrainOptions {
	opt.BF16, opt.twins = true, true
	return opt
}

// InPortions asks for portions of so many images, see Options.portions.
func (opt Options) InPortions(images int) Options {
	opt.portions = images
	return opt
}
