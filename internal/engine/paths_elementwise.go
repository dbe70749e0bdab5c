package engine

import (
	"github.com/cnnkit/cnnkit/internal/ops"
)

// The rows of elementwise operators, of rows and of what only moves numbers.
func init() {
	same := func(*op) bool { return true }
	stage := func(o *op) stages {
		if _, ok := mapOf(o); ok && isFloat(o.in[0]) {
			return stageMap
		}
		return 0
	}
	for _, name := range []string{"LeakyRelu", "ThresholdedRelu", "Shrink", "Sigmoid", "HardSigmoid", "Tanh", "Swish",
		"HardSwish", "Gelu", "Mish", "Elu", "Selu", "Celu", "Softplus", "Softsign"} {
		paths[[2]string{"", name}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame, stage: stage,
			bytes: pointwise, lower: (*lowering).elementwise}
		paths[[2]string{ops.GradDomain, name + "Grad"}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame,
			lower: (*lowering).elementwiseGrad}
	}
	for _, name := range []string{"Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Floor", "Ceil",
		"Round"} {
		paths[[2]string{"", name}] = &path{accepts: isMap, maps: everyMap, narrow: same, halo: haloSame, stage: stage,
			bytes: pointwise, lower: (*lowering).elementwise}
	}
	for _, name := range []string{"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"} {
		paths[[2]string{"", name}] = &path{accepts: combinesMaps, maps: combinedMaps, narrow: same, halo: haloCombined,
			lower: (*lowering).combine}
	}
	first := func(*op) maps { return maps{in: []int{0}, out: []int{0}, follows: true} }
	only := func(f func(*lowering, *op) (bool, error)) *path { return &path{lower: f} }
	for name, p := range map[string]*path{
		"Softmax": only((*lowering).softmax), "LogSoftmax": only((*lowering).softmax),
		"LayerNormalization": only((*lowering).rowNormal), "RMSNormalization": only((*lowering).rowNormal),
		"Gather": only((*lowering).gather), "Slice": only((*lowering).slice), "Pad": only((*lowering).pad),
		"Expand":       only((*lowering).spread),
		"DepthToSpace": only((*lowering).depth), "SpaceToDepth": only((*lowering).depth),
		"Transpose":             {accepts: turnsTokens, maps: tokenMaps, lower: (*lowering).transpose, bytes: moves},
		"Resize":                {accepts: fastResize, maps: first, lower: (*lowering).resize},
		"Upsample":              {accepts: fastResize, maps: first, lower: (*lowering).resize},
		"LRN":                   {accepts: fastLRN, maps: first, halo: haloFirst, lower: (*lowering).lrn},
		"GroupNormalization":    {accepts: fastGroupNorm, maps: first, halo: haloFirst, lower: (*lowering).groupNorm},
		"InstanceNormalization": {accepts: fastGroupNorm, maps: first, halo: haloFirst, lower: (*lowering).groupNorm},
		"ReduceMean": {accepts: meansMaps, maps: func(*op) maps { return maps{in: []int{0}, follows: true} },
			lower: (*lowering).means},
	} {
		paths[[2]string{"", name}] = p
	}
	for _, name := range []string{"SoftmaxGrad", "LogSoftmaxGrad"} {
		paths[[2]string{ops.GradDomain, name}] = only((*lowering).softmaxGrad)
	}
	paths[[2]string{ops.GradDomain, "RowNormalizationGrad"}] = &path{accepts: isMapNorm, halo: haloNormGrad,
		maps: func(*op) maps { return maps{in: []int{0, 1}, out: []int{0}, follows: true} }, lower: (*lowering).rowNormalGrad}
	paths[[2]string{"", "Add"}].integer = pairInteger("QLinearAdd")
	paths[[2]string{"", "Mul"}].integer = pairInteger("QLinearMul")
	paths[[2]string{"", "Add"}].stage = func(*op) stages { return stageResidual }
}
