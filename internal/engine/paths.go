package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// A path is what the compiler knows of an operator beside its definition in package ops. The passes ask it,
// and know no operators by name: simplifying asks passes, channels, padded and pads, fusing takes, stage and
// sums, choosing layouts accepts, maps, narrow and halo, lowering view and lower. To give an operator a fast
// path is to give it a row of the table below; a function of one element has one by its definition's Map.
type path struct {
	// accepts reports whether the kernels compute o: its types, its geometry, its
	// attributes. nil: lower says so.
	accepts func(o *op) bool
	// maps says which inputs and outputs are feature maps in blocks when o runs. nil:
	// the op runs on plain values.
	maps func(o *op) maps
	// mixes reports whether o, where it has maps, computes with several images of a batch at once. nil: it
	// does not.
	mixes func(o *op) bool
	// converts says that o gives its input in another layout.
	converts bool
	// narrow reports whether the kernels take maps of 8 lanes. nil: they do not.
	narrow func(o *op) bool
	// bf16 says that o is a convolution that may run in bf16.
	bf16 bool
	// lines reports whether o has a kernel for maps in bf16, which lowerLines plans. nil: it has
	// none, or is a convolution.
	lines      func(o *op) bool
	lowerLines func(l *lowering, o *op) error
	// linesIn are the inputs that are maps in bf16 then, where they are others than those of maps.
	// Such an op has kernels for maps in bf16 in inference alone.
	linesIn func(o *op) []int
	// halo records the halos that the kernels need and the values that must have the same.
	halo func(l *layouts, o *op)
	// folds says that lowerLines takes folded maps.
	folds bool
	// takes are the stages that may follow in the same pass over the output.
	takes stages
	// stage is what o is when it follows another op so.
	stage func(o *op) stages
	// view says that the output is the input's memory in another shape, same that it is the input.
	view, same bool
	// viewed is the view of the first input's elements that output v is. nil: it is none.
	viewed func(o *op, v *value, in view) (view, bool)
	// picks are the channels that output y, a feature map, takes from other maps. nil: it does no such
	// thing. unblocked says that the kernels of an op that does know no blocks.
	picks     func(o *op, y *value) []taken
	unblocked bool
	// permutes says that it is a Transpose.
	permutes bool
	// conv are the parts of a convolution, in any direction. nil: it is none.
	conv func(o *op) convParts
	// transposed says that a convolution is a ConvTranspose.
	transposed bool
	// pool is what a pooling does. nil: it is none.
	pool *pooling
	// product says that the op is a matrix product of its first two inputs and the row that is its third.
	product bool
	// batched says that the product is of the last two axes, of each pair of matrices where there are more.
	batched bool
	// attends says that the op is scaled-dot-product attention.
	attends bool
	// softmax says that the op normalizes exponentials along an axis.
	softmax bool
	// operation is what it does with two elements. nil: it is no such operator.
	operation *kernels.Operation
	// sums says that the output is sums over the first input, wherever in a channel its elements lie.
	sums bool
	// passes is the input that the first output is, where it is one.
	passes func(o *op) *value
	// channels is the axis of the weights along which output channels lie that can be
	// scaled and shifted; -1: none.
	channels func(o *op) int
	// padded says that zeros around the first input, or zero points, may become part of the attribute pads.
	padded bool
	// pads are what the op puts around the spatial axes, where it puts one constant number there, nil for 0, and
	// does nothing else.
	pads func(o *op, rank int) (pads []int64, number *value, ok bool)
	// control runs the op with its bodies; chooses says that a bool chooses the body.
	control func(r *run, o *op, in []onnxio.Value) ([]onnxio.Value, error)
	chooses bool
	// differentiates says that the op asks for derivatives of the graph.
	differentiates bool
	// bytes is how bytes stand in for the op's numbers where it is between
	// DequantizeLinear and QuantizeLinear.
	bytes bytesRole
	// integer makes o one op on bytes, where q is the QuantizeLinear that follows it,
	// and reports whether it did.
	integer func(g *graph, o, q *op) bool
	// padding is the input that is the zero point with which the op pads its first; 0: it does not.
	padding int
	// lower appends o's steps, or reports that it has none for it, which is then left
	// to the reference kernel.
	lower func(l *lowering, o *op) (bool, error)
}

// maps are the indices of the inputs and outputs that are in blocks.
type maps struct {
	in, out []int
	// follows says that the op has kernels for both forms: it takes blocks where one
	// of in is in blocks already.
	follows bool
	// from and to are the forms of inputs and outputs where the op works on bytes, or
	// makes them of float32 or back.
	from, to form
	bytes    bool
}

// stages is a set of what an epilogue does.
type stages uint16

const (
	stageRelu      stages = 1 << iota // max(y, 0)
	stageClip                         // min(max(y, 0), high)
	stageResidual                     // y + another map
	stageMask                         // y where another map is positive, else 0
	stageMap                          // a function of y
	stageLevels                       // min(max(y, low), high) of bytes
	stageOwnMask                      // y where the second input is positive, else 0
	stageFirstMask                    // the first input where another map is positive, else 0, before the op
)

// paths is the table of fast paths.
var paths map[[2]string]*path

// The compiler's own operators: those that only change a layout, and what fuseAttention and fuseChannels
// compose.
const (
	toBlocked         = "ToBlocked"
	toPlain           = "ToPlain"
	toBF16            = "ToBF16"
	toBytes           = "ToBytes"
	composedAttention = "Attention"
	composedChannels  = "Channels"
)

func init() {
	same := func(o *op) bool { return true }
	first := func(*op) maps { return maps{in: []int{0}, out: []int{0}, follows: true} }
	conv := path{accepts: fastConv, narrow: denseConv, halo: haloConv, maps: convMaps, conv: convFromX,
		bf16: true}
	forward := conv
	forward.padded, forward.channels, forward.integer = true, func(*op) int { return 0 }, convInteger
	forward.lower, forward.takes = (*lowering).convForward, stageRelu|stageClip|stageResidual|
		stageMask|stageMap
	transposed := conv
	transposed.conv, transposed.transposed, transposed.channels = convToX, true, channelsOfTransposed
	transposed.lower, transposed.takes = (*lowering).convBackwardData, stageRelu|stageClip
	gradInput := conv
	gradInput.conv, gradInput.lower, gradInput.takes = convToX, (*lowering).convBackwardData, stageMask
	gradWeight := conv
	gradWeight.conv, gradWeight.lower = convWeights, (*lowering).convBackwardWeights
	gradWeight.maps = func(*op) maps { return maps{in: []int{0, 1}} }
	pool := func(p pooling, integer func(g *graph, o, q *op) bool) *path {
		row := &path{integer: integer, accepts: fastPool, maps: poolMaps, narrow: pairs,
			lower: (*lowering).pool, pool: &p}
		if p.maximum && p.backward {
			row.takes = stageOwnMask
		}
		if p == (pooling{maximum: true}) {
			row.bytes = moves
		}
		return row
	}
	only := func(lower func(*lowering, *op) (bool, error)) *path { return &path{lower: lower} }
	converts := func(lower func(*lowering, *op) (bool, error)) *path {
		return &path{lower: lower, converts: true}
	}
	control := func(run func(*run, *op, []onnxio.Value) ([]onnxio.Value, error)) *path {
		return &path{control: run}
	}
	view := &path{view: true, viewed: reshaped, bytes: moves, picks: picksShuffled, unblocked: true}
	paths = map[[2]string]*path{
		{layoutDomain, toBlocked}:         converts((*lowering).toBlocked),
		{layoutDomain, toPlain}:           converts((*lowering).toPlain),
		{layoutDomain, toBF16}:            converts((*lowering).toBF16),
		{layoutDomain, toBytes}:           converts((*lowering).toBytes),
		{layoutDomain, composedAttention}: only((*lowering).attention),
		{layoutDomain, composedChannels}:  {maps: everyMap, lower: (*lowering).regroup},

		{"", "Conv"}:                       &forward,
		{"", "ConvTranspose"}:              &transposed,
		{ops.GradDomain, "ConvGradInput"}:  &gradInput,
		{ops.GradDomain, "ConvGradWeight"}: &gradWeight,
		{ops.GradDomain, "ConvGradBias"}: {accepts: firstIsMap, maps: func(*op) maps {
			return maps{in: []int{0}}
		}, narrow: same,
			sums: true, halo: func(l *layouts, o *op) { l.same(o.in[0], o.mask) },
			lower: (*lowering).channelSum},
		{"", "Pad"}: {pads: constantPads, passes: passesPad, lower: (*lowering).pad},

		{"", "BatchNormalization"}: {accepts: fastBatchNorm, maps: func(*op) maps {
			return maps{in: []int{0}, out: []int{0}}
		},
			halo: haloBatchNorm, mixes: training, takes: stageRelu | stageResidual,
			lower: (*lowering).batchNorm},
		{ops.GradDomain, "BatchNormalizationGrad"}: {accepts: fastBatchNormGrad, takes: stageFirstMask,
			maps: func(*op) maps { return maps{in: []int{0, 1}, out: []int{0}} },
			halo: haloBatchNormGrad, lower: (*lowering).batchNormGrad},

		{"", "MaxPool"}:     pool(pooling{maximum: true}, nil),
		{"", "AveragePool"}: pool(pooling{}, poolInteger("QLinearAveragePool")),
		{"", "GlobalAveragePool"}: pool(pooling{whole: true},
			poolInteger("QLinearGlobalAveragePool")),
		{"", "GlobalMaxPool"}:               pool(pooling{maximum: true, whole: true}, nil),
		{ops.GradDomain, "MaxPoolGrad"}:     pool(pooling{maximum: true, backward: true}, nil),
		{ops.GradDomain, "AveragePoolGrad"}: pool(pooling{backward: true}, nil),

		{"", "Gemm"}: {lower: (*lowering).gemm, accepts: fastGemm, product: true, channels: channelsOfProduct,
			integer: gemmInteger,
			takes:   stageRelu | stageMap},
		{"", "Attention"}: {attends: true},
		{"", "MatMul"}: {lower: (*lowering).matMul, accepts: fastGemm, product: true, batched: true,
			integer: gemmInteger,
			takes:   stageRelu | stageMap},

		{"", "Relu"}: {maps: everyMap, narrow: same, halo: haloSame, lower: (*lowering).relu, bytes: clips,
			stage: func(*op) stages { return stageRelu }},
		{"", "Clip"}: {accepts: keepsZero, maps: first, narrow: same, halo: haloFirst,
			lower: (*lowering).clip,
			bytes: clips, stage: clipStage},
		{ops.GradDomain, "ReluGrad"}: {maps: everyMap, narrow: same, halo: haloSame,
			lower: (*lowering).reluGrad,
			stage: func(*op) stages { return stageMask }},
		{ops.GradDomain, "ClipGrad"}: {maps: everyMap, narrow: same, halo: haloSame,
			lower: (*lowering).clipGrad},
		{"", "Concat"}: {accepts: alongChannels, maps: everyMap, bytes: moves, picks: picksJoined,
			lower: (*lowering).joins},
		{"", "Split"}: {accepts: alongChannels, maps: func(o *op) maps {
			return maps{in: []int{0}, out: upTo(len(o.out)), follows: true}
		},
			viewed: partOf, picks: picksPart, lower: (*lowering).parts},

		{ops.GradDomain, "SumTo"}: only((*lowering).sumRows),

		{"", "NegativeLogLikelihoodLoss"}:                 only((*lowering).nll),
		{ops.GradDomain, "NegativeLogLikelihoodLossGrad"}: only((*lowering).nll),

		{"", "Reshape"}:   view,
		{"", "Flatten"}:   view,
		{"", "Squeeze"}:   view,
		{"", "Unsqueeze"}: view,
		{"", "Identity"}:  {view: true, viewed: reshaped, bytes: moves, same: true, passes: passesFirst},
		{"", "Dropout"}:   {passes: passesDropout},

		{"", "If"}:          {control: (*run).branches, chooses: true},
		{"", "Loop"}:        control((*run).loop),
		{"", "Scan"}:        control((*run).scan),
		{"", "SequenceMap"}: control((*run).sequenceMap),

		{"", "DynamicQuantizeLinear"}: only((*lowering).dynamicQuantize),
		{"", "QuantizeLinear"}: {accepts: quantizesMap, maps: quantizedMaps, narrow: same, bytes: quantizes,
			lower: (*lowering).quantize},

		{trainingDomain, "Gradient"}: {differentiates: true},
	}
}

// path is o's row of the table, an empty one where it has none. What works on bytes has rows of its own.
func (o *op) path() *path {
	key := [2]string{o.node.Domain, o.node.OpType}
	if len(o.in) > 0 && o.in[0].isByte() {
		if p := bytePaths[key]; p != nil {
			return p
		}
	}
	if p := paths[key]; p != nil {
		return p
	}
	return &noPath
}

var noPath path

// takes reports whether a stage may follow in o's pass over its output.
func (o *op) takes(s stages) bool {
	p := o.path()
	return p.takes&s != 0 && (p.accepts == nil || p.accepts(o))
}

// stage is what o is as a stage of another op's epilogue.
func (o *op) stage() stages {
	if p := o.path(); p.stage != nil {
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

func convMaps(*op) maps { return maps{in: []int{0}, out: []int{0}} }

func haloConv(l *layouts, o *op) {
	p, _ := conv(o)
	w, _ := lineWindow(o)
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

func haloBatchNorm(l *layouts, o *op) { l.same(o.in[0], o.out[0], o.residual, o.mask) }

func haloBatchNormGrad(l *layouts, o *op) { l.same(o.in[0], o.in[1], o.out[0], o.residual, o.mask) }

// haloSame lets an op walk all its maps flat.
func haloSame(l *layouts, o *op) { l.same(append(append([]*value{}, o.in...), o.out...)...) }

func haloFirst(l *layouts, o *op) { l.same(o.in[0], o.out[0]) }

// fastPool reports whether package kernels runs a pooling.
func fastPool(o *op) bool {
	_, _, _, ok := pool(o)
	return ok
}

func poolMaps(o *op) maps {
	if p := o.path().pool; p.maximum && p.backward { // of (dy, x, y)
		return maps{in: []int{0, 1, 2}, out: []int{0}}
	}
	return maps{in: []int{0}, out: []int{0}}
}

// pairs reports whether a pooling is the maximum of 2x2 pixels with stride 2, which has a kernel for 8 lanes.
func pairs(o *op) bool {
	x, y, w, ok := pool(o)
	two := w == geometry{kh: 2, kw: 2, sh: 2, sw: 2, dh: 1, dw: 1}
	return ok && o.path().pool.maximum && !o.path().pool.whole && two && y.dims[2]*2 <= x.dims[2] &&
		y.dims[3]*2 <= x.dims[3]
}

// fastBatchNormGrad reports whether package kernels runs a BatchNormalizationGrad: that of training.
func fastBatchNormGrad(o *op) bool { return o.in[0].isFloat4() && o.node.Int("frozen", 0) == 0 }
