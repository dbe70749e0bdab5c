package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
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
	for _, d := range ops.Defs() { // functions of one element
		switch {
		case d.Map == nil:
		case d.Domain == ops.GradDomain:
			paths[[2]string{d.Domain, d.Name}] = &path{accepts: isMap, maps: everyMap, narrow: same,
				halo:  haloSame,
				lower: (*lowering).elementwiseGrad}
		default:
			paths[[2]string{d.Domain, d.Name}] = &path{accepts: isMap, maps: everyMap, narrow: same,
				halo: haloSame, stage: stage,
				bytes: pointwise, lower: (*lowering).elementwise}
		}
	}
	for name, operation := range map[string]kernels.Operation{"Add": kernels.OpAdd, "Sub": kernels.OpSub,
		"Mul": kernels.OpMul,
		"Div": kernels.OpDiv, "Max": kernels.OpMax, "Min": kernels.OpMin, "PRelu": kernels.OpPRelu} {
		paths[[2]string{"", name}] = &path{accepts: combinesMaps, maps: combinedMaps, narrow: same,
			halo:      haloCombined,
			operation: &operation, lower: (*lowering).combine}
	}
	paths[[2]string{"", "Add"}].integer = pairInteger("QLinearAdd")
	paths[[2]string{"", "Mul"}].integer = pairInteger("QLinearMul")
	paths[[2]string{"", "Add"}].stage = func(*op) stages { return stageResidual }
	paths[[2]string{"", "Mul"}].passes = passesFactor
	first := func(*op) maps { return maps{in: []int{0}, out: []int{0}, follows: true} }
	only := func(f func(*lowering, *op) (bool, error)) *path { return &path{lower: f} }
	resized := func(r resizing) *path { return &path{accepts: r.fast, maps: first, lower: r.lower} }
	for name, p := range map[string]*path{
		"Softmax": {softmax: true, lower: (*lowering).softmax}, "LogSoftmax": only((*lowering).logSoftmax),
		"LayerNormalization": only((*lowering).layerNorm), "RMSNormalization": only((*lowering).rmsNorm),
		"Gather":       {viewed: gathered, picks: picksGathered, unblocked: true, lower: (*lowering).gather},
		"Slice":        {viewed: sliced, picks: picksSliced, unblocked: true, lower: (*lowering).slice},
		"Expand":       only((*lowering).spread),
		"DepthToSpace": only((*lowering).depthToSpace), "SpaceToDepth": only((*lowering).spaceToDepth),
		"Transpose": {permutes: true, viewed: permuted, accepts: turnsTokens, maps: tokenMaps,
			lower: (*lowering).transpose, bytes: moves},
		"Resize": resized(resizes), "Upsample": resized(resizes),
		"LRN": {accepts: fastLRN, maps: first, halo: haloFirst, lower: (*lowering).lrn},
		"GroupNormalization": {accepts: fastGroupNorm, maps: first, halo: haloFirst,
			lower: (*lowering).groupNorm},
		"InstanceNormalization": {accepts: fastGroupNorm, maps: first, halo: haloFirst,
			lower: (*lowering).groupNorm},
		"ReduceSum":       only(reduced(func(row []float32) float64 { return kernels.RowSum(row) })),
		"ReduceSumSquare": only(reduced(func(row []float32) float64 { return kernels.RowSquares(row, 0) })),
		"ReduceL2": only(reduced(func(row []float32) float64 {
			return math.Sqrt(kernels.RowSquares(row, 0))
		})),
		"ReduceMean": {accepts: meansMaps, maps: func(*op) maps { return maps{in: []int{0}, follows: true} },
			lower: (*lowering).means},
	} {
		paths[[2]string{"", name}] = p
	}
	for name, lower := range map[string]func(*lowering, *op) (bool, error){
		"SoftmaxGrad": (*lowering).softmaxGrad, "LogSoftmaxGrad": (*lowering).logSoftmaxGrad} {
		paths[[2]string{ops.GradDomain, name}] = only(lower)
	}
	paths[[2]string{ops.GradDomain, "ResizeGrad"}] = resized(resizesBack)
	paths[[2]string{ops.GradDomain, "RowNormalizationGrad"}] = &path{accepts: isMapNorm, halo: haloNormGrad,
		maps: func(*op) maps {
			return maps{in: []int{0, 1}, out: []int{0}, follows: true}
		}, lower: (*lowering).rowNormalGrad}
}
