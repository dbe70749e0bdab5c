package engine

import (
	"github.com/cnnkit/cnnkit/internal/ops"
)

// The rows of elementwise operators, of rows and of what only moves numbers.
func init() {
	same := func(*op) bool { return true }
	for _, name := range []string{"LeakyRelu", "ThresholdedRelu", "Shrink", "Sigmoid", "HardSigmoid", "Tanh", "Swish", "HardSwish", "Gelu",
		"Mish", "Elu", "Selu", "Celu", "Softplus", "Softsign"} {
		paths[[2]string{"", name}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame, lower: (*lowering).elementwise}
		paths[[2]string{ops.GradDomain, name + "Grad"}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame,
			lower: (*lowering).elementwiseGrad}
	}
	for _, name := range []string{"Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round"} {
		paths[[2]string{"", name}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame, lower: (*lowering).elementwise}
	}
	for _, name := range []string{"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"} {
		paths[[2]string{"", name}] = &path{accepts: combinesMaps, maps: combinedMaps, narrow: same, halo: haloCombined,
			lower: (*lowering).combine}
	}
	paths[[2]string{"", "Add"}].stage = func(*op) stages { return stageResidual }
}
