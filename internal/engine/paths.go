package engine

import (
	"github.com/cnnkit/cnnkit/internal/ops"
)

// A path is what the compiler knows of an operator that has kernels beside its reference kernel. The passes ask it, and
// know no operators by name: choosing layouts asks accepts, maps, narrow and halo, fusing asks takes and stage, lowering
// asks view and lower. To give an operator a fast path is to give it a row of the table below.
type path struct {
	// accepts reports whether the kernels compute o: its types, its geometry, its attributes. nil: lower says so.
	accepts func(o *op) bool
	// maps says which inputs and outputs are feature maps in blocks when o runs. nil: the op runs on plain values.
	maps func(o *op) maps
	// narrow reports whether the kernels take maps of 8 lanes. nil: they do not.
	narrow func(o *op) bool
	// bf16 says that o is a convolution that may run in bf16.
	bf16 bool
	// lines reports whether o has a kernel for maps in bf16, which lowerLines plans. nil: it has none, or is a convolution.
	lines      func(o *op) bool
	lowerLines func(l *lowering, o *op) error
	// halo records the halos that the kernels need and the values that must have the same.
	halo func(l *layouts, o *op)
	// takes are the stages that may follow in the same pass over the output.
	takes stages
	// stage is what o is when it follows another op so.
	stage func(o *op) stages
	// view says that the output is the input's memory in another shape.
	view bool
	// bytes is how bytes stand in for the op's numbers where it is between DequantizeLinear and QuantizeLinear.
	bytes bytesRole
	// integer makes o one op on bytes, where q is the QuantizeLinear that follows it, and reports whether it did.
	integer func(g *graph, o, q *op) bool
	// padding is the input that is the zero point with which the op pads its first; 0: it does not.
	padding int
	// lower appends o's steps, or reports that it has none for it, which is then left to the reference kernel.
	lower func(l *lowering, o *op) (bool, error)
}

// maps are the indices of the inputs and outputs that are in blocks.
type maps struct {
	in, out []int
	// follows says that the op has kernels for both forms: it takes blocks where one of in is in blocks already.
	follows bool
	// from and to are the forms of inputs and outputs where the op works on bytes, or makes them of float32 or back.
	from, to form
	bytes    bool
}

// stages is a set of what an epilogue does.
type stages uint8

const (
	stageRelu     stages = 1 << iota // max(y, 0)
	stageClip                        // min(max(y, 0), high)
	stageResidual                    // y + another map
	stageMask                        // y where another map is positive, else 0
	stageMap                         // a function of y
	stageLevels                      // min(max(y, low), high) of bytes
)

// paths is the table of fast paths.
var paths map[[2]string]*path

func init() {
	same := func(o *op) bool { return true }
	first := func(*op) maps { return maps{in: []int{0}, out: []int{0}, follows: true} }
	conv := path{accepts: fastConv, narrow: denseConv, halo: haloConv, maps: convMaps}
	inBF16 := conv
	inBF16.bf16 = true
	row := func(p path, lower func(*lowering, *op) (bool, error), takes stages) *path {
		p.lower, p.takes = lower, takes
		return &p
	}
	integral := func(p *path, integer func(g *graph, o, q *op) bool) *path {
		p.integer = integer
		return p
	}
	moving := func(p path) *path {
		p.bytes = moves
		return &p
	}
	pooling := path{accepts: fastPool, maps: poolMaps, narrow: pairs, lower: (*lowering).pool}
	loss := func(lower func(*lowering, *op) (bool, error)) *path { return &path{lower: lower} }
	view := &path{view: true, bytes: moves}
	walked := path{maps: everyMap, narrow: same, halo: haloSame}
	paths = map[[2]string]*path{
		{layoutDomain, "ToBlocked"}: {lower: (*lowering).toBlocked},
		{layoutDomain, "ToPlain"}:   {lower: (*lowering).toPlain},
		{layoutDomain, "ToBF16"}:    {lower: (*lowering).toBF16},
		{layoutDomain, "Attention"}: {lower: (*lowering).attention},
		{layoutDomain, "ToBytes"}:   {lower: (*lowering).toBytes},

		{"", "Conv"}: integral(row(inBF16, (*lowering).convForward, stageRelu|stageClip|stageResidual|stageMask|stageMap),
			convInteger),
		{"", "ConvTranspose"}:              row(inBF16, (*lowering).convBackwardData, stageRelu|stageClip),
		{ops.GradDomain, "ConvGradInput"}:  row(inBF16, (*lowering).convBackwardData, stageMask),
		{ops.GradDomain, "ConvGradWeight"}: row(inBF16, (*lowering).convBackwardWeights, 0),
		{ops.GradDomain, "ConvGradBias"}: {accepts: firstIsMap, maps: func(*op) maps { return maps{in: []int{0}} }, narrow: same,
			halo: func(l *layouts, o *op) { l.same(o.in[0], o.mask) }, lower: (*lowering).channelSum},

		{"", "BatchNormalization"}: {accepts: fastBatchNorm, maps: func(*op) maps { return maps{in: []int{0}, out: []int{0}} },
			halo: haloBatchNorm, takes: stageRelu | stageResidual, lower: (*lowering).batchNorm},
		{ops.GradDomain, "BatchNormalizationGrad"}: {accepts: fastBatchNormGrad, maps: func(*op) maps { return maps{in: []int{0, 1}, out: []int{0}} },
			halo: haloBatchNorm, lower: (*lowering).batchNormGrad},

		{"", "MaxPool"}:                     moving(pooling),
		{"", "AveragePool"}:                 integral(row(pooling, pooling.lower, 0), poolInteger("QLinearAveragePool")),
		{"", "GlobalAveragePool"}:           integral(row(pooling, pooling.lower, 0), poolInteger("QLinearGlobalAveragePool")),
		{"", "GlobalMaxPool"}:               &pooling,
		{ops.GradDomain, "MaxPoolGrad"}:     &pooling,
		{ops.GradDomain, "AveragePoolGrad"}: &pooling,

		{"", "Gemm"}:   {lower: (*lowering).gemm, accepts: fastGemm, takes: stageRelu | stageMap, integer: gemmInteger},
		{"", "MatMul"}: {lower: (*lowering).gemm, accepts: fastGemm, takes: stageRelu | stageMap, integer: gemmInteger},

		{"", "Relu"}: {maps: everyMap, narrow: same, halo: haloSame, lower: (*lowering).relu, bytes: clips,
			stage: func(*op) stages { return stageRelu }},
		{"", "Clip"}: {accepts: keepsZero, maps: first, narrow: same, halo: haloFirst, lower: (*lowering).clip,
			bytes: clips, stage: clipStage},
		{ops.GradDomain, "ReluGrad"}: row(walked, (*lowering).reluGrad, 0),
		{ops.GradDomain, "ClipGrad"}: row(walked, (*lowering).clipGrad, 0),
		{"", "Concat"}:               {accepts: alongChannels, maps: everyMap, bytes: moves, lower: (*lowering).joins},
		{"", "Split"}: {accepts: alongChannels, maps: func(o *op) maps { return maps{in: []int{0}, out: upTo(len(o.out)), follows: true} },
			lower: (*lowering).parts},

		{ops.GradDomain, "SumTo"}: loss((*lowering).sumRows),

		{"", "NegativeLogLikelihoodLoss"}:                 loss((*lowering).nll),
		{ops.GradDomain, "NegativeLogLikelihoodLossGrad"}: loss((*lowering).nll),

		{"", "Reshape"}:   view,
		{"", "Flatten"}:   view,
		{"", "Squeeze"}:   view,
		{"", "Unsqueeze"}: view,
		{"", "Identity"}:  view,

		{"", "QuantizeLinear"}: {accepts: quantizesMap, maps: quantizedMaps, narrow: same, bytes: quantizes,
			lower: (*lowering).quantize},
	}
}

// path is o's row of the table, nil where it has none. What works on bytes has rows of its own.
func (o *op) path() *path {
	key := [2]string{o.node.Domain, o.node.OpType}
	if len(o.in) > 0 && o.in[0].isByte() {
		if p := bytePaths[key]; p != nil {
			return p
		}
	}
	return paths[key]
}

// takes reports whether a stage may follow in o's pass over its output.
func (o *op) takes(s stages) bool {
	p := o.path()
	return p != nil && p.takes&s != 0 && (p.accepts == nil || p.accepts(o))
}

// stage is what o is as a stage of another op's epilogue.
func (o *op) stage() stages {
	if p := o.path(); p != nil && p.stage != nil {
		return p.stage(o)
	}
	return 0
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// everyMap is the form of ops that walk all their inputs and outputs together, in either form.
func everyMap(o *op) maps { return maps{in: upTo(len(o.in)), out: upTo(len(o.out)), follows: true} }

func firstIsMap(o *op) bool { return o.in[0].isFloat4() }

// clipStage: an epilogue clips from zero on.
func clipStage(o *op) stages {
	if fromZero(o) {
		return stageClip
	}
	return 0
}

// alongChannels reports whether a Concat or Split of maps has the channels as its axis.
func alongChannels(o *op) bool {
	axis := o.node.Int("axis", 0)
	return len(o.in[0].dims) == 4 && (axis == 1 || axis == -3)
}

func denseConv(o *op) bool { return fastConv(o) && !depthwise(o) }

func convMaps(o *op) maps {
	if o.is(ops.GradDomain, "ConvGradWeight") {
		return maps{in: []int{0, 1}}
	}
	return maps{in: []int{0}, out: []int{0}}
}

func haloConv(l *layouts, o *op) {
	p, _ := conv(o)
	w, _ := window(o, p.kernel, p.x.dims, p.y.dims)
	hx, hy := w.halos()
	if o.in[0] == p.x {
		l.need(o.in[0], hx)
	} else {
		l.need(o.in[0], hy)
	}
	if o.out[0] != p.w {
		l.same(o.out[0], o.residual, o.mask)
	}
}

func haloBatchNorm(l *layouts, o *op) {
	l.same(o.in[0], o.out[0], o.residual, o.mask)
	if o.is(ops.GradDomain, "BatchNormalizationGrad") {
		l.same(o.in[0], o.in[1])
	}
}

// haloSame lets an op walk all its maps flat.
func haloSame(l *layouts, o *op) { l.same(append(append([]*value{}, o.in...), o.out...)...) }

func haloFirst(l *layouts, o *op) { l.same(o.in[0], o.out[0]) }

// fastPool reports whether package kernels runs a pooling.
func fastPool(o *op) bool {
	_, _, _, ok := pool(o)
	return ok
}

func poolMaps(o *op) maps {
	if o.is(ops.GradDomain, "MaxPoolGrad") {
		return maps{in: []int{0, 1, 2}, out: []int{0}}
	}
	return maps{in: []int{0}, out: []int{0}}
}

// pairs reports whether a pooling is the maximum of 2x2 pixels with stride 2, which has a kernel for 8 lanes.
func pairs(o *op) bool {
	x, y, w, ok := pool(o)
	maximum := o.is("", "MaxPool") || o.is(ops.GradDomain, "MaxPoolGrad")
	two := w == geometry{kh: 2, kw: 2, sh: 2, sw: 2, dh: 1, dw: 1}
	return ok && maximum && two && y.dims[2]*2 <= x.dims[2] && y.dims[3]*2 <= x.dims[3]
}

// fastBatchNormGrad reports whether package kernels runs a BatchNormalizationGrad: that of training.
func fastBatchNormGrad(o *op) bool { return o.in[0].isFloat4() && o.node.Int("frozen", 0) == 0 }
