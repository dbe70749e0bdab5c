package train

import (
	"fmt"
	"math"
	"strings"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/kernels"
)

// rule is an optimiser whose learning rate a schedule moves.
type rule interface {
	engine.Update
	setRate(lr float64)
}

// pushed is a rule with a momentum that one-cycle moves: momentum proper, or the first beta.
type pushed interface{ setMomentum(m float64) }

var (
	_ rule   = (*SGD)(nil)
	_ rule   = (*Adam)(nil)
	_ rule   = (*RMSprop)(nil)
	_ rule   = (*Adagrad)(nil)
	_ rule   = (*Lion)(nil)
	_ rule   = (*LARS)(nil)
	_ rule   = (*LAMB)(nil)
	_ rule   = (*averaged)(nil)
	_ pushed = (*SGD)(nil)
	_ pushed = (*Adam)(nil)
	_ pushed = (*averaged)(nil)
)

// Update makes the optimiser.
func (c Config) Update() (engine.Update, error) {
	u, err := c.rule(Group{})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// rule makes the optimiser of a group of parameters.
func (c Config) rule(g Group) (rule, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	lr, decay := c.LR*or(g.LRScale, 1), c.WeightDecay
	plain := g.WeightDecay != nil && *g.WeightDecay == 0
	if g.WeightDecay != nil {
		decay = *g.WeightDecay
	}
	betas, eps := c.rates()
	var u rule
	switch c.Optimizer {
	case "sgd":
		u = &SGD{LR: lr, Momentum: c.Momentum, Dampening: c.Dampening, WeightDecay: decay, Nesterov: c.Nesterov}
	case "adam", "adamw":
		u = &Adam{LR: lr, Betas: betas, Eps: eps, WeightDecay: decay, Decoupled: c.Optimizer == "adamw"}
	case "rmsprop":
		u = &RMSprop{LR: lr, Alpha: or(c.Alpha, 0.99), Eps: eps, WeightDecay: decay, Momentum: c.Momentum, Centered: c.Centered}
	case "adagrad":
		u = &Adagrad{LR: lr, LRDecay: c.LRDecay, WeightDecay: decay, Initial: c.Accumulator, Eps: eps}
	case "lion":
		u = &Lion{LR: lr, Betas: betas, WeightDecay: decay}
	case "lars":
		u = &LARS{LR: lr, Momentum: c.Momentum, WeightDecay: decay, Trust: or(c.Trust, 0.001), Plain: plain}
	case "lamb":
		u = &LAMB{LR: lr, Betas: betas, Eps: eps, WeightDecay: decay, Plain: plain}
	default:
		return nil, fmt.Errorf("no optimizer %q: known are %s", c.Optimizer, strings.Join(Optimizers(), ", "))
	}
	if c.Schedule.Momentum != [2]float64{} {
		p, ok := u.(pushed)
		if !ok || c.Optimizer == "sgd" && c.Momentum == 0 {
			return nil, fmt.Errorf("schedule one-cycle: it moves momentum, and %s has none", c.Optimizer)
		}
		p.setMomentum(c.Schedule.Momentum[1])
	}
	if c.EMA > 0 {
		u = &averaged{rule: u, decay: c.EMA}
	}
	return u, nil
}

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

func (u *SGD) setRate(lr float64)    { u.LR = lr }
func (u *SGD) setMomentum(m float64) { u.Momentum = m }

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

func (u *Adam) setRate(lr float64)    { u.LR = lr }
func (u *Adam) setMomentum(m float64) { u.Betas[0] = m }

// averaged keeps the moving average of the parameters in a slot behind the rule's own, as torch.optim.swa_utils'
// AveragedModel with get_ema_multi_avg_fn does, but for the decay, which has to rise: see emaDecay. The first step copies.
type averaged struct {
	rule
	decay float64
	keep  float32 // share of the new parameters at this step
}

// emaDecay is the decay of the t-th update, from 1: min(decay, (1+t)/(10+t)), as TensorFlow's ExponentialMovingAverage and
// timm's ModelEma with a warm-up have it. The average of few steps is not yet one with the initial weights then.
func emaDecay(decay float64, t int64) float64 {
	if t <= 1 {
		return 0
	}
	return min(decay, float64(1+t)/float64(10+t))
}

// Slots is one more than the rule's.
func (u *averaged) Slots() int { return u.rule.Slots() + 1 }

// Begin implements engine.Update.
func (u *averaged) Begin(step int64) {
	u.keep = float32(1 - emaDecay(u.decay, step))
	u.rule.Begin(step)
}

// Apply implements engine.Update.
func (u *averaged) Apply(p, g []float32, slots [][]float32) {
	n := len(slots) - 1
	u.rule.Apply(p, g, slots[:n])
	mean := slots[n]
	if u.keep == 1 { // the slot is 0, or what an earlier run has left
		copy(mean, p)
		return
	}
	for i, x := range p {
		mean[i] += (x - mean[i]) * u.keep
	}
}

func (u *averaged) setMomentum(m float64) {
	if p, ok := u.rule.(pushed); ok {
		p.setMomentum(m)
	}
}
