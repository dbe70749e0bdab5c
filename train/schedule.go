package train

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Schedule moves the learning rate, by the formulas of torch.optim.lr_scheduler. It counts
// epochs, or optimiser steps where By says so; one-cycle always counts steps. Zero values mean
// the default of the field's comment.
//
// A warm-up stands before any of them but one-cycle, which has its own: for the first Warmup epochs (or
// steps) the rate rises linearly from WarmupStart of its value (LinearLR), then the schedule begins at
// its own zero (SequentialLR).
type Schedule struct {
	// constant, step, multistep, exponential, polynomial, cosine, one-cycle, plateau
	Kind string `json:"kind,omitzero"`
	By   string `json:"by,omitzero"` // epoch, or step; one-cycle: step

	Warmup      int     `json:"warmup,omitzero"`
	WarmupStart float64 `json:"warmup_start,omitzero"` // 1/3

	Gamma      float64 `json:"gamma,omitzero"`      // step, multistep, exponential: 0.1
	StepSize   int     `json:"step_size,omitzero"`  // step
	Milestones []int   `json:"milestones,omitzero"` // multistep
	// cosine (T_max), polynomial (total_iters), one-cycle: the run's length
	Total int     `json:"total,omitzero"`
	Min   float64 `json:"min,omitzero"`   // cosine (eta_min), plateau (min_lr): the least rate
	Power float64 `json:"power,omitzero"` // polynomial: 1

	PctStart float64 `json:"pct_start,omitzero"` // one-cycle: the share that rises, 0.3
	// one-cycle: the peak over the first rate, 25
	DivFactor float64 `json:"div_factor,omitzero"`
	// one-cycle: the first rate over the last, 1e4
	FinalDivFactor float64 `json:"final_div_factor,omitzero"`
	Anneal         string  `json:"anneal,omitzero"`      // one-cycle: cos, or linear
	ThreePhase     bool    `json:"three_phase,omitzero"` // one-cycle
	// one-cycle: least and greatest, such as 0.85, 0.95 (PyTorch's default); absent: not moved
	Momentum [2]float64 `json:"momentum,omitzero"`

	Factor        float64 `json:"factor,omitzero"`         // plateau: 0.1
	Patience      int     `json:"patience,omitzero"`       // plateau: 10; negative: none
	Threshold     float64 `json:"threshold,omitzero"`      // plateau: 1e-4
	ThresholdMode string  `json:"threshold_mode,omitzero"` // plateau: rel, or abs
	Cooldown      int     `json:"cooldown,omitzero"`       // plateau
}

// The kinds of schedule.
const (
	Constant    = "constant"
	StepLR      = "step"
	MultiStep   = "multistep"
	Exponential = "exponential"
	Polynomial  = "polynomial"
	Cosine      = "cosine"
	OneCycle    = "one-cycle"
	OnPlateau   = "plateau"
)

var (
	warmup = Setting{"schedule.warmup", "epochs, or steps, in which the rate rises to its value", 0}
	by     = Setting{"schedule.by", "what is counted: epoch or step", "epoch"}
	factor = Setting{"schedule.gamma", "what the rate is multiplied by", 0.1}
)

// schedules is the table of schedules: torch.optim.lr_scheduler's.
var schedules = []Entry{
	{Constant, "the rate stays", []Setting{warmup}},
	{StepLR, "StepLR", []Setting{{"schedule.step_size", "epochs, or steps, between two changes", nil}, factor,
		by, warmup}},
	{MultiStep, "MultiStepLR", []Setting{{"schedule.milestones", "epochs, or steps, at which it changes",
		nil}, factor, by, warmup}},
	{Exponential, "ExponentialLR", []Setting{factor, by, warmup}},
	{Polynomial, "PolynomialLR", []Setting{{"schedule.power", "exponent", 1},
		{"schedule.total", "epochs, or steps, until it is 0; 0: the run's", 0}, by, warmup}},
	{Cosine, "CosineAnnealingLR", []Setting{{"schedule.min", "the least rate", 0},
		{"schedule.total", "epochs, or steps, until it is the least; 0: the run's", 0}, by, warmup}},
	{OneCycle, "OneCycleLR", []Setting{{"schedule.pct_start", "share of the run that rises", 0.3},
		{"schedule.div_factor", "the peak over the first rate", 25},
		{"schedule.final_div_factor", "the first rate over the last", 1e4}, {"schedule.anneal",
			"cos or linear", "cos"},
		{"schedule.three_phase", "down to the first rate before the last", false},
		{"schedule.momentum", "least and greatest momentum", nil}}},
	{OnPlateau, "ReduceLROnPlateau", []Setting{{"schedule.factor", "what the rate is multiplied by", 0.1},
		{"schedule.patience", "epochs without a better figure", 10},
		{"schedule.threshold", "how much better is better", 1e-4}, {"schedule.threshold_mode",
			"rel or abs", "rel"},
		{"schedule.cooldown", "epochs after a change that do not count", 0},
		{"schedule.min", "the least rate", 0}, warmup}},
}

// Schedules lists what Schedule.Kind may be.
func Schedules() []string {
	out := make([]string, len(schedules))
	for i, s := range schedules {
		out[i] = s.Name
	}
	return out
}

// DescribeSchedules lists the schedules with their settings.
func DescribeSchedules() []Entry { return slices.Clone(schedules) }

// filled puts the defaults where nothing was said; length is the run's, in what the schedule counts.
func (s Schedule) filled(length int) Schedule {
	def := func(to *float64, v float64) {
		if *to == 0 {
			*to = v
		}
	}
	word := func(to *string, v string) {
		if *to == "" {
			*to = v
		}
	}
	word(&s.Kind, Constant)
	word(&s.By, "epoch")
	if s.Kind == OneCycle {
		s.By = "step"
	}
	word(&s.Anneal, "cos")
	word(&s.ThresholdMode, "rel")
	def(&s.WarmupStart, 1./3)
	def(&s.Gamma, 0.1)
	def(&s.Power, 1)
	def(&s.PctStart, 0.3)
	def(&s.DivFactor, 25)
	def(&s.FinalDivFactor, 1e4)
	def(&s.Factor, 0.1)
	def(&s.Threshold, 1e-4)
	if s.Patience == 0 {
		s.Patience = 10
	}
	if s.Total == 0 {
		s.Total = max(1, length-s.Warmup)
	}
	return s
}

// ofLength says that the rates depend on the length of the run, where Total does not say it.
func (s Schedule) ofLength() bool {
	return s.Kind == Cosine || s.Kind == Polynomial || s.Kind == OneCycle
}

// validate names the first field that makes no sense.
func (s Schedule) validate() error {
	f := s.filled(2)
	bad := func(format string, args ...any) error {
		return fmt.Errorf("schedule "+f.Kind+": "+format, args...)
	}
	switch {
	case !slices.Contains(Schedules(), f.Kind):
		return fmt.Errorf("no schedule %q: known are %s", s.Kind, strings.Join(Schedules(), ", "))
	case f.By != "epoch" && f.By != "step":
		return bad("by is %q: epoch or step", f.By)
	case s.Kind == OneCycle && s.By == "epoch":
		return bad("it counts steps")
	case s.Kind == OnPlateau && s.By == "step":
		return bad("it counts epochs")
	case s.Warmup < 0 || s.Total < 0:
		return bad("warmup and total must not be negative")
	case s.Warmup > 0 && s.Kind == OneCycle:
		return bad("it has its own warm-up, pct_start of the run")
	case !(f.WarmupStart > 0 && f.WarmupStart <= 1):
		return bad("warmup_start is %v: it must be in (0,1]", f.WarmupStart)
	case s.Kind == StepLR && s.StepSize < 1:
		return bad("step_size is %d: at least 1", s.StepSize)
	case s.Kind == MultiStep && (len(s.Milestones) == 0 || !slices.IsSorted(s.Milestones) ||
		s.Milestones[0] < 0):
		return bad("milestones are %v: it wants increasing numbers", s.Milestones)
	case !(f.Gamma > 0), !(f.Power > 0):
		return bad("gamma and power must be positive")
	case !(f.Min >= 0):
		return bad("min is %v: it must not be negative", f.Min)
	case !(f.PctStart >= 0 && f.PctStart <= 1):
		return bad("pct_start is %v: it must be in [0,1]", f.PctStart)
	case !(f.DivFactor > 0) || !(f.FinalDivFactor > 0):
		return bad("div_factor and final_div_factor must be positive")
	case f.Anneal != "cos" && f.Anneal != "linear":
		return bad("anneal is %q: cos or linear", f.Anneal)
	case f.ThresholdMode != "rel" && f.ThresholdMode != "abs":
		return bad("threshold_mode is %q: rel or abs", f.ThresholdMode)
	case !(f.Factor > 0 && f.Factor < 1):
		return bad("factor is %v: it must be in (0,1)", f.Factor)
	case s.Momentum != [2]float64{} && !(s.Momentum[0] > 0 && s.Momentum[0] <= s.Momentum[1] &&
		s.Momentum[1] < 1):
		return bad("momentum is %v: two numbers in (0,1), the least first", s.Momentum)
	}
	return nil
}

// Rate is the learning rate at time t = 0, 1, ... of a run of the given length, both in what the
// schedule counts; lr is the configured rate, for one-cycle the peak. What plateau did is not known
// here: it is lr after the warm-up.
func (s Schedule) Rate(lr float64, t, length int) float64 {
	s = s.filled(length)
	if t < s.Warmup {
		return lr * (s.WarmupStart + (1-s.WarmupStart)*float64(t)/float64(s.Warmup))
	}
	t -= s.Warmup
	switch total := float64(s.Total); s.Kind {
	case StepLR:
		return lr * math.Pow(s.Gamma, float64(t/s.StepSize))
	case MultiStep:
		passed := 0
		for _, m := range s.Milestones {
			if m <= t {
				passed++
			}
		}
		return lr * math.Pow(s.Gamma, float64(passed))
	case Exponential:
		return lr * math.Pow(s.Gamma, float64(t))
	case Polynomial:
		return lr * math.Pow(1-min(float64(t), total)/total, s.Power)
	case Cosine:
		return s.Min + (lr-s.Min)*(1+math.Cos(math.Pi*float64(t)/total))/2
	case OneCycle:
		first := lr / s.DivFactor
		return s.cycle(t, first, lr, first/s.FinalDivFactor)
	}
	return lr
}

// momentum is one-cycle's, which moves against the rate; ok says whether there is one.
func (s Schedule) momentum(t, length int) (m float64, ok bool) {
	if s.Kind != OneCycle || s.Momentum == [2]float64{} {
		return 0, false
	}
	return s.filled(length).cycle(t, s.Momentum[1], s.Momentum[0], s.Momentum[1]), true
}

// cycle is OneCycleLR.get_lr: from first to peak and on to last.
func (s Schedule) cycle(t int, first, peak, last float64) float64 {
	total := float64(s.Total)
	type phase struct{ end, from, to float64 }
	phases := []phase{{s.PctStart*total - 1, first, peak}, {total - 1, peak, last}}
	if s.ThreePhase {
		phases = []phase{{s.PctStart*total - 1, first, peak}, {2*s.PctStart*total - 2, peak, first},
			{total - 1, first, last}}
	}
	start := 0.0
	for i, p := range phases {
		if now := min(float64(t), total-1); now <= p.end || i == len(phases)-1 {
			part := 1.0
			if p.end != start {
				part = (now - start) / (p.end - start)
			}
			if s.Anneal == "linear" {
				return (p.to-p.from)*part + p.from
			}
			return p.to + (p.from-p.to)/2*(1+math.Cos(math.Pi*part))
		}
		start = p.end
	}
	return last
}

// Plateau is the state of ReduceLROnPlateau.
type Plateau struct {
	LR       float64 `json:"lr"`
	Best     float64 `json:"best"`
	Seen     bool    `json:"seen"` // Best holds something
	Bad      int     `json:"bad"`
	Cooldown int     `json:"cooldown"`
}

// Step takes an epoch's figure, which is to rise or to fall, and lowers LR where it has not for too long.
func (p *Plateau) Step(s Schedule, figure float64, rises bool) {
	s = s.filled(1)
	margin, sign := s.Threshold, 1.0
	if rises {
		sign = -1
	}
	bar := p.Best - sign*margin
	if s.ThresholdMode == "rel" {
		bar = p.Best * (1 - sign*margin)
	}
	if !p.Seen || sign*figure < sign*bar {
		p.Best, p.Seen, p.Bad = figure, true, 0
	} else {
		p.Bad++
	}
	if p.Cooldown > 0 {
		p.Cooldown--
		p.Bad = 0
	}
	if p.Bad > max(0, s.Patience) {
		if lr := max(p.LR*s.Factor, s.Min); p.LR-lr > 1e-8 {
			p.LR = lr
		}
		p.Cooldown, p.Bad = s.Cooldown, 0
	}
}
