package train

import (
	"fmt"
	"math"
	"testing"
)

// Every schedule gives PyTorch's rates, to the rounding of float64: schedules.py wrote them down.
func TestSchedulesFollowPyTorch(t *testing.T) {
	var cases []struct {
		Schedule       Schedule
		LR             float64
		Length         int
		Rates, Momenta []float64
		Figures        []float64
		Rises          bool
	}
	readJSON(t, "schedules.json", &cases)
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(b)+1e-17 }
	seen := map[string]bool{}
	for i, c := range cases {
		seen[c.Schedule.Kind] = true
		t.Run(fmt.Sprint(i, c.Schedule.Kind), func(t *testing.T) {
			if err := c.Schedule.validate(); err != nil {
				t.Fatal(err)
			}
			plateau := Plateau{LR: c.LR}
			for at, want := range c.Rates {
				got := c.Schedule.Rate(c.LR, at, c.Length)
				if c.Figures != nil {
					got = plateau.LR
					plateau.Step(c.Schedule, c.Figures[at], c.Rises)
				}
				if !near(got, want) {
					t.Errorf("rate %d is %v, PyTorch has %v", at, got, want)
				}
				if m, ok := c.Schedule.momentum(at, c.Length); ok != (c.Momenta != nil) || ok &&
					!near(m, c.Momenta[at]) {
					t.Errorf("momentum %d is %v, PyTorch has %v", at, m, c.Momenta)
				}
			}
		})
	}
	for _, kind := range Schedules() {
		if !seen[kind] {
			t.Errorf("no case of %s", kind)
		}
	}
}

func TestScheduleMistakes(t *testing.T) {
	for _, s := range []Schedule{{Kind: "cosinus"}, {Kind: StepLR}, {Kind: MultiStep},
		{Kind: MultiStep, Milestones: []int{3, 2}},
		{Kind: OneCycle, Warmup: 1}, {Kind: OneCycle, By: "epoch"}, {Kind: OnPlateau, By: "step"},
		{Kind: OnPlateau, Factor: 2},
		{By: "week"}, {Warmup: -1}, {WarmupStart: 2}, {Kind: OneCycle, Anneal: "exp"}, {Min: math.NaN()},
		{Kind: OneCycle, Momentum: [2]float64{0.9, 0.8}}} {
		if s.validate() == nil {
			t.Errorf("%+v passes", s)
		}
	}
}
