package train

// Settings that several optimisers have.
var (
	momentum    = Setting{"momentum", "momentum", 0}
	weightDecay = Setting{"weight_decay", "weight decay", 0}
	betas       = Setting{"betas", "decay rates of the two moments", []float64{0.9, 0.999}}
	eps         = Setting{"eps", "added to the denominator", 1e-8}
)

func lr(v float64) Setting { return Setting{"lr", "learning rate", v} }

// optimizers is the table of optimisers.
var optimizers = newRegistry("optimizer",
	Optimizer{Entry: Entry{"sgd", "torch.optim.SGD", []Setting{lr(0.01), {"momentum", "momentum", 0.5},
		weightDecay,
		{"dampening", "dampening of the momentum", 0}, {"nesterov", "Nesterov's momentum", false}}},
		LR: 0.01, Momentum: 0.5, New: newSGD},
	Optimizer{Entry: Entry{"adam", "torch.optim.Adam", []Setting{lr(1e-3), betas, eps, weightDecay}},
		LR: 1e-3, New: newAdam(false)},
	Optimizer{Entry: Entry{"adamw", "torch.optim.AdamW", []Setting{lr(1e-3), betas, eps, weightDecay}},
		LR: 1e-3, New: newAdam(true)},
	Optimizer{Entry: Entry{"rmsprop", "torch.optim.RMSprop",
		[]Setting{lr(0.01), {"alpha", "how much of the mean square is kept", 0.99}, eps,
			weightDecay, momentum, {"centered", "subtract the mean's square", false}}},
		LR: 0.01, New: newRMSprop},
	Optimizer{Entry: Entry{"adagrad", "torch.optim.Adagrad",
		[]Setting{lr(0.01), {"eps", "added to the denominator", 1e-10}, weightDecay,
			{"lr_decay", "decay of the learning rate", 0},
			{"accumulator", "what the sum of squares starts from", 0}}},
		LR: 0.01, New: newAdagrad},
	Optimizer{Entry: Entry{"lion", "Lion, arXiv:2302.06675",
		[]Setting{lr(1e-4), {"betas", "decay rates", []float64{0.9, 0.99}}, weightDecay}},
		LR: 1e-4, New: newLion},
	Optimizer{Entry: Entry{"lars", "LARS, arXiv:1708.03888", []Setting{lr(1), {"momentum", "momentum", 0.9},
		weightDecay,
		{"trust", "trust coefficient", 0.001}}},
		LR: 1, Momentum: 0.9, Whole: true, New: newLARS},
	Optimizer{Entry: Entry{"lamb", "LAMB, arXiv:1904.00962", []Setting{lr(1e-3), betas,
		{"eps", "added to the denominator", 1e-6}, weightDecay}},
		LR: 1e-3, Whole: true, New: newLAMB},
	Optimizer{Entry: Entry{"muon",
		"torch.optim.Muon for matrices and filters; SGD with Nesterov's momentum for vectors",
		[]Setting{lr(1e-3),
			{"momentum", "momentum", 0.95}, weightDecay, {"ns_steps",
				"steps of Newton and Schulz's iteration", 5},
			{"unit_norm", "give each filter bank the norm of the square root of its filters before the step",
				false}}},
		LR: 1e-3, Momentum: 0.95, Whole: true, New: newMuon},
)

func newSGD(o Optimized) (Rule, error) {
	return &SGD{LR: o.LR, Momentum: o.Momentum, Dampening: o.Config.Dampening, WeightDecay: o.WeightDecay,
		Nesterov: o.Config.Nesterov && o.Momentum > 0}, nil
}

func newAdam(decoupled bool) func(Optimized) (Rule, error) {
	return func(o Optimized) (Rule, error) {
		return &Adam{LR: o.LR, Betas: o.betas(0.999), Eps: or(o.Config.Eps, 1e-8), WeightDecay: o.WeightDecay,
			Decoupled: decoupled}, nil
	}
}

func newRMSprop(o Optimized) (Rule, error) {
	return &RMSprop{LR: o.LR, Alpha: or(o.Config.Alpha, 0.99), Eps: or(o.Config.Eps, 1e-8),
		WeightDecay: o.WeightDecay, Momentum: o.Momentum,
		Centered: o.Config.Centered}, nil
}

func newAdagrad(o Optimized) (Rule, error) {
	c := o.Config
	return &Adagrad{LR: o.LR, LRDecay: c.LRDecay, WeightDecay: o.WeightDecay, Initial: c.Accumulator,
		Eps: or(c.Eps, 1e-10)}, nil
}

func newLion(o Optimized) (Rule, error) {
	return &Lion{LR: o.LR, Betas: o.betas(0.99), WeightDecay: o.WeightDecay}, nil
}

func newLARS(o Optimized) (Rule, error) {
	return &LARS{LR: o.LR, Momentum: o.Momentum, WeightDecay: o.WeightDecay, Trust: or(o.Config.Trust, 0.001),
		Plain: o.Plain}, nil
}

func newLAMB(o Optimized) (Rule, error) {
	return &LAMB{LR: o.LR, Betas: o.betas(0.999), Eps: or(o.Config.Eps, 1e-6), WeightDecay: o.WeightDecay,
		Plain: o.Plain}, nil
}

// betas are the recipe's; second is what the second is where it does not say them.
func (o Optimized) betas(second float64) [2]float64 {
	if o.Config.Betas == [2]float64{} {
		return [2]float64{0.9, second}
	}
	return o.Config.Betas
}
