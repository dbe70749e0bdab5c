package train

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/kernels"
)

var (
	_ engine.Update = (*SGD)(nil)
	_ engine.Update = (*Adam)(nil)
)

// SGD is torch.optim.SGD.
type SGD struct {
	LR, Momentum, Dampening, WeightDecay float64
	Nesterov                             bool

	first bool
}

// Slots is 1 with momentum, else 0.
func (u *SGD) Slots() int {
	if u.Momentum != 0 {
		return 1
	}
	return 0
}

// Begin implements engine.Update.
func (u *SGD) Begin(step int64) { u.first = step == 1 }

// Apply implements engine.Update.
func (u *SGD) Apply(p, g []float32, slots [][]float32) {
	var buf []float32
	if len(slots) > 0 {
		buf = slots[0]
	}
	kernels.SGD(p, g, buf, kernels.SGDParams{LR: u.LR, Momentum: u.Momentum, Dampening: u.Dampening,
		WeightDecay: u.WeightDecay, Nesterov: u.Nesterov, First: u.first})
}

// Adam is torch.optim.Adam, or with Decoupled torch.optim.AdamW.
type Adam struct {
	LR          float64
	Betas       [2]float64
	Eps         float64
	WeightDecay float64
	Decoupled   bool

	correction1, correction2 float64
}

// Slots is 2: the moments.
func (u *Adam) Slots() int { return 2 }

// Begin implements engine.Update.
func (u *Adam) Begin(step int64) {
	u.correction1 = 1 - math.Pow(u.Betas[0], float64(step))
	u.correction2 = math.Sqrt(1 - math.Pow(u.Betas[1], float64(step)))
}

// Apply implements engine.Update.
func (u *Adam) Apply(p, g []float32, slots [][]float32) {
	kernels.Adam(p, g, slots[0], slots[1], kernels.AdamParams{LR: u.LR, Beta1: u.Betas[0], Beta2: u.Betas[1], Eps: u.Eps,
		WeightDecay: u.WeightDecay, Correction1: u.correction1, Correction2: u.correction2, Decoupled: u.Decoupled})
}
