package train

import (
	"cmp"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Rule is an optimiser's rule for some parameters, whose learning rate a schedule moves.
type Rule interface {
	// Slots is the number of state values the rule keeps for each element of a parameter.
	Slots() int
	// Begin announces update number step = 1, 2, ...
	Begin(step int64)
	// Apply updates p by its gradient g. It is called concurrently on disjoint ranges of one or several
	// parameters, or, where Optimizer.Whole says so, on whole parameters by a Rule of their own each.
	Apply(p, g []float32, slots [][]float32)
	// SetRate changes the learning rate.
	SetRate(lr float64)
}

// MomentumRule is a Rule with a momentum that one-cycle moves: momentum proper, or the first beta.
type MomentumRule interface {
	Rule
	SetMomentum(m float64)
}

var (
	_ MomentumRule = (*SGD)(nil)
	_ MomentumRule = (*Adam)(nil)
	_ MomentumRule = (*Muon)(nil)
	_ MomentumRule = (*averaged)(nil)
	_ Rule         = (*RMSprop)(nil)
	_ Rule         = (*Adagrad)(nil)
	_ Rule         = (*Lion)(nil)
	_ Rule         = (*LARS)(nil)
	_ Rule         = (*LAMB)(nil)
)

// Optimizer is an optimiser that a recipe can name.
type Optimizer struct {
	Entry
	LR, Momentum float64 // where a recipe does not say them
	// Whole says that the rule wants whole parameters, a Rule for each.
	Whole bool
	// New makes the rule of some parameters.
	New func(Optimized) (Rule, error)
}

// Optimized are the parameters that a Rule is for: a group's, or a single one's.
type Optimized struct {
	LR, Momentum, WeightDecay float64 // the group's
	Config                    Config  // the run's
	Plain                     bool    // the group says that its parameters have no weight decay
	Dims                      []int64 // of the parameter, where Optimizer.Whole says that it is one
}

// RegisterOptimizer adds an optimiser, which recipes can name from then on. Its settings are
// read from Config.Settings.
func RegisterOptimizer(o Optimizer) error {
	if o.New == nil || !(o.LR > 0) {
		return fmt.Errorf("optimizer %q: it wants New, and a learning rate above 0", o.Name)
	}
	return optimizers.add(o)
}

// Optimizers lists what Config.Optimizer may be.
func Optimizers() []string { return optimizers.names() }

// DescribeOptimizers lists the optimisers with their settings.
func DescribeOptimizers() []Entry { return optimizers.describe() }

// Rule checks the settings and makes the rule of the parameters that no group has.
func (c Config) Rule() (Rule, error) { return c.rule(Group{}, nil) }

// optimizer is the optimiser of a group of parameters.
func (c Config) optimizer(g Group) (Optimizer, error) {
	return optimizers.find(cmp.Or(g.Optimizer, c.Optimizer))
}

// rule makes the rule of a group of parameters, or of a single one of dims.
func (c Config) rule(g Group, dims []int64) (Rule, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	o, err := c.optimizer(g)
	if err != nil {
		return nil, err
	}
	u, err := o.New(Optimized{LR: c.LR * value(g.LRScale, 1), Momentum: value(g.Momentum, c.Momentum),
		WeightDecay: value(g.WeightDecay, c.WeightDecay),
		Config:      c, Plain: g.WeightDecay != nil && *g.WeightDecay == 0, Dims: dims})
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", o.Name, err)
	}
	if c.Schedule.Momentum != [2]float64{} {
		p, ok := u.(MomentumRule)
		if !ok || o.Name == "sgd" && value(g.Momentum, c.Momentum) == 0 {
			return nil, fmt.Errorf("schedule one-cycle: it moves momentum, and %s has none", o.Name)
		}
		p.SetMomentum(c.Schedule.Momentum[1])
	}
	if l := c.Lookahead; l.Steps > 0 {
		u = &lookahead{Rule: u, steps: int64(l.Steps), alpha: float32(or(l.Alpha, 0.5))}
	}
	if c.EMA > 0 {
		u = &averaged{Rule: u, decay: c.EMA}
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

// Begin implements Rule.
func (u *SGD) Begin(step int64) { u.first = step == 1 }

// Apply implements Rule.
func (u *SGD) Apply(p, g []float32, slots [][]float32) {
	var buf []float32
	if len(slots) > 0 {
		buf = slots[0]
	}
	kernels.SGD(p, g, buf, kernels.SGDParams{LR: u.LR, Momentum: u.Momentum, Dampening: u.Dampening,
		WeightDecay: u.WeightDecay, Nesterov: u.Nesterov, First: u.first})
}

// SetRate implements Rule.
func (u *SGD) SetRate(lr float64) { u.LR = lr }

// SetMomentum implements MomentumRule.
func (u *SGD) SetMomentum(m float64) { u.Momentum = m }

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

// Begin implements Rule.
func (u *Adam) Begin(step int64) {
	u.correction1 = 1 - math.Pow(u.Betas[0], float64(step))
	u.correction2 = math.Sqrt(1 - math.Pow(u.Betas[1], float64(step)))
}

// Apply implements Rule.
func (u *Adam) Apply(p, g []float32, slots [][]float32) {
	kernels.Adam(p, g, slots[0], slots[1], kernels.AdamParams{LR: u.LR, Beta1: u.Betas[0], Beta2: u.Betas[1],
		Eps:         u.Eps,
		WeightDecay: u.WeightDecay, Correction1: u.correction1, Correction2: u.correction2,
		Decoupled: u.Decoupled})
}

// SetRate implements Rule.
func (u *Adam) SetRate(lr float64) { u.LR = lr }

// SetMomentum implements MomentumRule: of the first beta.
func (u *Adam) SetMomentum(m float64) { u.Betas[0] = m }

// averaged keeps the moving average of the parameters in a slot behind the rule's own, as
// torch.optim.swa_utils' AveragedModel with get_ema_multi_avg_fn does, but for the decay, which has to rise:
// see emaDecay. The first step copies.
type averaged struct {
	Rule
	decay float64
	keep  float32 // share of the new parameters at this step
}

// emaDecay is the decay of the t-th update, from 1: min(decay, (1+t)/(10+t)), as TensorFlow's
// ExponentialMovingAverage and timm's ModelEma with a warm-up have it. The average of few steps is not yet
// one with the initial weights then.
func emaDecay(decay float64, t int64) float64 {
	if t <= 1 {
		return 0
	}
	return min(decay, float64(1+t)/float64(10+t))
}

// Slots is one more than the rule's.
func (u *averaged) Slots() int { return u.Rule.Slots() + 1 }

// Begin implements Rule.
func (u *averaged) Begin(step int64) {
	u.keep = float32(1 - emaDecay(u.decay, step))
	u.Rule.Begin(step)
}

// Apply implements Rule.
func (u *averaged) Apply(p, g []float32, slots [][]float32) {
	n := len(slots) - 1
	u.Rule.Apply(p, g, slots[:n])
	mean := slots[n]
	if u.keep == 1 { // the slot is 0, or what an earlier run has left
		copy(mean, p)
		return
	}
	for i, x := range p {
		mean[i] += (x - mean[i]) * u.keep
	}
}

// SetMomentum implements MomentumRule.
func (u *averaged) SetMomentum(m float64) {
	if p, ok := u.Rule.(MomentumRule); ok {
		p.SetMomentum(m)
	}
}
