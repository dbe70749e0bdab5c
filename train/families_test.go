package train

import (
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
)

// All parameters of a network that was built are trained: tables of positions and scales too, which no
// operator takes as its weights. The class weights of a loss are not.
func TestParametersOfFamiliesAreTrained(t *testing.T) {
	if testing.Short() {
		t.Skip("networks of 28 million parameters: run without -short")
	}
	for _, name := range []string{"swin_v2_t"} {
		c, err := builders.Defaults(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Classes = 4
		m, err := builders.Build(name, c)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := NewTrainer(m, Config{Optimizer: "adam", LR: 1e-3,
			ClassWeights: ClassWeights{Each: []float64{1, 2, 3, 4}}})
		if err != nil {
			t.Fatal(err)
		}
		x, target := NewBatch(c.Input, 2)
		for i := range x.Float32s() {
			x.Float32s()[i] = float32(i%17)/8 - 1
		}
		for range 3 { // stochastic depth leaves blocks out
			if _, err := tr.Step(t.Context(), x, target); err != nil {
				t.Fatal(name, err)
			}
		}
		after, err := tr.Export()
		tr.Close()
		if err != nil {
			t.Fatal(err)
		}
		var still []string
		for _, p := range builders.ParameterNames(m) {
			if slices.Equal(m.Graph.Initializer(p).Float32s(), after.Graph.Initializer(p).Float32s()) {
				still = append(still, p)
			}
		}
		if len(still) > 0 {
			t.Errorf("%s: the steps leave %q as they were", name, still[:min(8, len(still))])
		}
		if slices.ContainsFunc(tr.Params(), func(p string) bool { return p == "loss/class_weights" }) ||
			after.Graph.Initializer("loss/class_weights") != nil {
			t.Errorf("%s: the weights of the classes are trained", name)
		}
	}
}
