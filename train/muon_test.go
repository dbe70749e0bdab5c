package train

import (
	"fmt"
	"math"
	"testing"
)

// Muon makes torch.optim.Muon's steps: testdata/train/muon.py wrote them down in float64, to whose rounding
// in float32 they are the same, and as PyTorch makes them in bfloat16.
func TestMuonFollowsPyTorch(t *testing.T) {
	var cases []struct {
		Shape   []int64
		Options struct {
			LR          float64 `json:"lr"`
			WeightDecay float64 `json:"weight_decay"`
			Momentum    float64
			Steps       int `json:"ns_steps"`
		}
		PyTorch, Float64 []float64
	}
	readJSON(t, "muon.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i, c.Shape), func(t *testing.T) {
			o := c.Options
			rule, err := newMuon(Optimized{LR: o.LR, WeightDecay: o.WeightDecay,
				Momentum: or(o.Momentum, 0.95), Dims: c.Shape, Config: Config{NSSteps: o.Steps}})
			if err != nil {
				t.Fatal(err)
			}
			n := int(c.Shape[0] * c.Shape[1])
			p, slots := uniform(n, 21), [][]float32{make([]float32, n)}
			for step := range 6 {
				rule.Begin(int64(step + 1))
				rule.Apply(p, uniform(n, uint64(30+step)), slots)
			}
			for j, v := range p {
				if d := math.Abs(float64(v) - c.Float64[j]); !(d <= 2e-5) {
					t.Fatalf("weight %d is %v, not %v", j, v, c.Float64[j])
				}
				if d := math.Abs(float64(v) - c.PyTorch[j]); !(d <= 3e-3) {
					t.Fatalf("weight %d is %v, PyTorch has %v", j, v, c.PyTorch[j])
				}
			}
		})
	}
}

// With alpha 1 the slow weights are the fast ones; with alpha 0.5 they are half way every second step.
func TestLookahead(t *testing.T) {
	steps := func(l Lookahead, n int) float64 {
		c := Config{Epochs: 1, Batch: 1, Optimizer: "sgd", LR: 1, Lookahead: l}
		rule, err := c.rule(Group{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		slots := make([][]float32, rule.Slots())
		for i := range slots {
			slots[i] = make([]float32, 1)
		}
		p := []float32{10}
		for i := range n {
			rule.Begin(int64(i + 1))
			rule.Apply(p, []float32{1}, slots)
		}
		return float64(p[0])
	}
	for _, c := range []struct {
		l    Lookahead
		n    int
		want float64
	}{{Lookahead{}, 4, 6}, {Lookahead{Steps: 2, Alpha: 1}, 4, 6}, {Lookahead{Steps: 2}, 1, 9},
		{Lookahead{Steps: 2}, 2, 9}, {Lookahead{Steps: 2}, 4, 8}} {
		if got := steps(c.l, c.n); got != c.want {
			t.Errorf("%+v: %v after %d steps, not %v", c.l, got, c.n, c.want)
		}
	}
}
