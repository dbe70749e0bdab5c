package engine

import "github.com/cnnkit/cnnkit/internal/ops"

// The rows of operators that have kernels for maps in bf16, beside convolutions.
func init() {
	always := func(*op) bool { return true }
	set := func(domain, name string, accepts func(o *op) bool, lower func(*lowering, *op) error) {
		p := *paths[[2]string{domain, name}] // rows of the table may share one
		p.lines, p.lowerLines = accepts, lower
		paths[[2]string{domain, name}] = &p
	}
	for _, name := range []string{"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"} {
		set("", name, always, (*lowering).poolLines)
	}
	for _, name := range []string{"MaxPoolGrad", "AveragePoolGrad"} {
		set(ops.GradDomain, name, always, (*lowering).poolLines)
	}
	set("", "BatchNormalization", always, (*lowering).batchNormLines)
	set(ops.GradDomain, "BatchNormalizationGrad", always, (*lowering).batchNormGradLines)
	set(ops.GradDomain, "ConvGradBias", always, (*lowering).channelSumLines)
	set("", "Relu", always, (*lowering).reluLines)
	set(ops.GradDomain, "ReluGrad", always, (*lowering).reluGradLines)
	set("", "Concat", always, (*lowering).concatLines)
	set("", "Split", always, (*lowering).splitLines)
	set("", "Add", addsMaps, (*lowering).addLines)
	set("", "Mul", scalesMaps, (*lowering).scaleLines)
	paths[[2]string{"", "Mul"}].linesIn = scaledMap
	set("", "Transpose", turnsTokens, (*lowering).tokenLines)
	paths[[2]string{"", "Transpose"}].linesIn = func(o *op) []int { return tokenMaps(o).in }
	for _, key := range [][2]string{{"", "BatchNormalization"}, {ops.GradDomain, "BatchNormalizationGrad"},
		{ops.GradDomain, "ConvGradBias"}, {"", "Relu"}, {ops.GradDomain, "ReluGrad"}, {"", "Add"}} {
		paths[key].folds = true
	}
}
