package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The fixtures in testdata/train were recorded by optimisers.py there.
const fixtures = "../testdata/train"

// uniform is optimisers.py's: hashed numbers in [-1, 1), exact in float32.
func uniform(n int, key uint64) []float32 {
	out := make([]float32, n)
	for i := range out {
		x := uint64(i)*2654435761 + key*40503 + 12345
		for range 2 {
			x &= 0xffffffff
			x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
		}
		x = (x ^ (x >> 16)) & 0xffffffff
		out[i] = float32(float64(x>>8)/(1<<23) - 1)
	}
	return out
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(fixtures, name))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The optimisers' 100 steps on the same gradients stay within 1e-5 of PyTorch's; those of Lion, LARS and
// LAMB, which it lacks, of their papers' rules in float64.
func TestOptimisersFollowPyTorch(t *testing.T) {
	var want map[string][][2]any
	readJSON(t, "optimisers.json", &want)
	for name, c := range map[string]Config{
		"sgd":           {Optimizer: "sgd", LR: 0.1},
		"sgd-decay":     {Optimizer: "sgd", LR: 0.1, WeightDecay: 0.01},
		"sgd-momentum":  {Optimizer: "sgd", LR: 0.05, Momentum: 0.9},
		"sgd-dampening": {Optimizer: "sgd", LR: 0.1, Momentum: 0.9, Dampening: 0.3, WeightDecay: 0.01},
		"sgd-nesterov":  {Optimizer: "sgd", LR: 0.05, Momentum: 0.9, Nesterov: true, WeightDecay: 0.01},
		"adam":          {Optimizer: "adam", LR: 0.01},
		"adam-decay": {Optimizer: "adam", LR: 0.01, Betas: [2]float64{0.8, 0.99}, Eps: 1e-6,
			WeightDecay: 0.1},
		"adamw":   {Optimizer: "adamw", LR: 0.01, WeightDecay: 0.1},
		"rmsprop": {Optimizer: "rmsprop", LR: 0.01},
		"rmsprop-all": {Optimizer: "rmsprop", LR: 0.01, Alpha: 0.9, Eps: 1e-4, WeightDecay: 0.01,
			Momentum: 0.5, Centered: true},
		"adagrad":     {Optimizer: "adagrad", LR: 0.1},
		"adagrad-all": {Optimizer: "adagrad", LR: 0.1, LRDecay: 0.01, WeightDecay: 0.01, Accumulator: 0.1},
		"lion":        {Optimizer: "lion", LR: 0.001},
		"lion-decay":  {Optimizer: "lion", LR: 0.001, Betas: [2]float64{0.95, 0.98}, WeightDecay: 1},
		"lars":        {Optimizer: "lars", LR: 1, Momentum: 0.9, WeightDecay: 0.01},
		"lamb":        {Optimizer: "lamb", LR: 0.01, WeightDecay: 0.1},
		"ema":         {Optimizer: "sgd", LR: 0.1, EMA: 0.95},
	} {
		t.Run(name, func(t *testing.T) {
			c.Epochs, c.Batch = 1, 1
			u, err := c.Rule()
			if err != nil {
				t.Fatal(err)
			}
			p, slots := uniform(64, 7), make([][]float32, u.Slots())
			for i := range slots {
				slots[i] = make([]float32, 64)
			}
			rows := want[name]
			for step := 1; step <= 100; step++ {
				g := uniform(64, uint64(100+step))
				for i := range g {
					g[i] += p[i] * 0.1
				}
				u.Begin(int64(step))
				u.Apply(p, g, slots)
				if len(rows) == 0 || int(rows[0][0].(float64)) != step {
					continue
				}
				got := p
				if c.EMA > 0 {
					got = slots[u.Slots()-1]
				}
				for i, w := range rows[0][1].([]any) {
					if d := math.Abs(float64(got[i]) - w.(float64)); !(d <= 1e-5) {
						t.Fatalf("step %d, element %d: %v, PyTorch has %v", step, i, got[i], w)
					}
				}
				rows = rows[1:]
			}
			if len(rows) > 0 || len(want[name]) == 0 {
				t.Error("not every recorded step was compared")
			}
		})
	}
}
