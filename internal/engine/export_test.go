package engine

// WithTwins runs BF16 by the kernels' twins where the processor cannot.
func (opt TrainOptions) WithTwins() TrainOptions {
	opt.BF16, opt.twins = true, true
	return opt
}
