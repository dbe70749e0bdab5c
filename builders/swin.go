package builders

import (
	"math"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// swins are torchvision.models.swin_transformer (Liu et al. 2021 and 2022).
var swins = []network{
	swinOf("swin_t", "Swin-T", 224, swin{embed: 96, blocks: []int{2, 2, 6, 2}, heads: 3, window: 7}, 0.2),
	swinOf("swin_s", "Swin-S", 224, swin{embed: 96, blocks: []int{2, 2, 18, 2}, heads: 3, window: 7}, 0.3),
	swinOf("swin_b", "Swin-B", 224, swin{embed: 128, blocks: []int{2, 2, 18, 2}, heads: 4, window: 7}, 0.5),
	swinOf("swin_v2_t", "Swin v2-T", 256, swin{embed: 96, blocks: []int{2, 2, 6, 2}, heads: 3, window: 8,
		v2: true}, 0.2),
	swinOf("swin_v2_s", "Swin v2-S", 256, swin{embed: 96, blocks: []int{2, 2, 18, 2}, heads: 3, window: 8,
		v2: true}, 0.3),
	swinOf("swin_v2_b", "Swin v2-B", 256, swin{embed: 128, blocks: []int{2, 2, 18, 2}, heads: 4, window: 8,
		v2: true}, 0.5),
}

// swin is a Swin Transformer. Each stage has twice the features and heads of the one before.
type swin struct {
	embed         int
	blocks        []int
	heads, window int
	v2            bool
}

// swinInit are the initial weights of linear layers.
var swinInit = []Option{WeightInit(TruncNormal(0.02)), BiasInit(Zeros)}

func swinOf(name, summary string, side int, s swin, drop float64) network {
	return deep(name, summary, side, drop, s.build)
}

func (s swin) build(b *Builder, cfg Config) Value {
	f := b.sequential("features")
	stem := f.Scope(f.next())
	x := stem.Permute("1", stem.Conv2d("0", b.Input(), s.embed, 4, Stride(4)), 0, 2, 3, 1)
	x = stem.LayerNorm("2", x)
	at, total := 0, 0
	for _, n := range s.blocks {
		total += n
	}
	for i, n := range s.blocks {
		if i > 0 {
			x = f.Scope(f.next()).mergePatches(x, s.embed<<i, s.v2)
		}
		stage := f.Scope(f.next())
		for j := range n {
			drop := cfg.StochasticDepth * float64(at) / float64(total-1)
			x = stage.Scope(strconv.Itoa(j)).swinBlock(x, s, s.heads<<i, j%2 == 1, float32(drop))
			at++
		}
	}
	x = b.Permute("permute", b.LayerNorm("norm", x), 0, 3, 1, 2)
	return b.Linear("head", b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x)), cfg.Classes, swinInit...)
}

// mergePatches makes one token [N,H/2,W/2,features] of each four [N,H,W,C]; an odd side gets a row of zeros.
func (b *Builder) mergePatches(x Value, features int, v2 bool) Value {
	if !b.is3("merge", x) {
		return Value{}
	}
	reduction := b.weights("reduction", options(append([]Option{NoBias()}, swinInit...)), features,
		int64(features), 4*x.Shape[2])
	x = b.padded(x, 2)
	corner := func(i, j int) Value {
		name := "corner" + strconv.Itoa(2*j+i)
		return b.Slice(name, b.Slice(name+".rows", x, 1, i, 0, 2), 2, j, 0, 2)
	}
	x = b.ConcatOver("cat", 3, corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1))
	if v2 {
		return b.LayerNorm("norm", b.project("reduction", x, reduction, int64(features)))
	}
	return b.project("reduction", b.LayerNorm("norm", x), reduction, int64(features))
}

// padded puts zeros below and to the right of tokens [N,H,W,C] up to multiples of n.
func (b *Builder) padded(x Value, n int64) Value {
	if b.root.err != nil {
		return Value{}
	}
	down, right := (n-x.Shape[0]%n)%n, (n-x.Shape[1]%n)%n
	if down == 0 && right == 0 {
		return x
	}
	return b.zeroPad("padded", x, []int64{0, 0, 0}, []int64{down, right, 0})
}

// swinBlock is attention in windows, shifted in every second block, and an MLP. The norms come
// after these in version 2.
func (b *Builder) swinBlock(x Value, s swin, heads int, shifted bool, drop float32) Value {
	if !b.is3("attn", x) {
		return Value{}
	}
	features := int(x.Shape[2])
	attend := func(x Value) Value { return b.Scope("attn").windowAttention(x, s, heads, shifted) }
	mlp := func(x Value) Value {
		return b.MLP("mlp", x, 4*features, features, (*Builder).GELU, WeightInit(TruncNormal(0.02)),
			BiasInit(Zeros))
	}
	first := func(x Value) Value { return b.LayerNorm("norm1", x) }
	second := func(x Value) Value { return b.LayerNorm("norm2", x) }
	if s.v2 {
		norm := b.declared("norm1", int64(features))
		y := b.layerNorm("norm1", attend(x), norm, 1e-5)
		x = b.Add("add_1", x, b.StochasticDepth("stochastic_depth_1", y, drop))
		norm = b.declared("norm2", int64(features))
		y = b.layerNorm("norm2", mlp(x), norm, 1e-5)
		return b.Add("add_2", x, b.StochasticDepth("stochastic_depth_2", y, drop))
	}
	x = b.Add("add_1", x, b.StochasticDepth("stochastic_depth_1", attend(first(x)), drop))
	return b.Add("add_2", x, b.StochasticDepth("stochastic_depth_2", mlp(second(x)), drop))
}

// windowAttention is attention among the tokens of each window of x [N,H,W,C].
func (b *Builder) windowAttention(x Value, s swin, heads int, shifted bool) Value {
	if b.root.err != nil {
		return Value{}
	}
	w, h0, w0, c := s.window, int(x.Shape[0]), int(x.Shape[1]), int(x.Shape[2])
	var scale, table Value
	if s.v2 {
		scale = b.Parameter("logit_scale", Fill(float32(math.Log(10))), heads, 1, 1)
		table = b.Buffer("relative_coords_table", coordinates(w), 1, 2*w-1, 2*w-1, 2)
	} else {
		table = b.Parameter("relative_position_bias_table", TruncNormal(0.02), (2*w-1)*(2*w-1), heads)
	}
	index := b.IntBuffer("relative_position_index", positions(w), w*w*w*w)
	x = b.padded(x, int64(w))
	rows, columns := int(x.Shape[0])/w, int(x.Shape[1])/w
	down, right := 0, 0
	if shifted && rows > 1 {
		down = w / 2
	}
	if shifted && columns > 1 {
		right = w / 2
	}
	x = b.Roll("shift_right", b.Roll("shift_down", x, 1, -down), 2, -right)
	y := b.windows("windows", x, rows, w, columns, w)
	attend := b.plainAttention
	if s.v2 {
		attend = b.cosineAttention
	}
	y = attend(y, heads, scale, func(products Value) Value {
		if s.v2 {
			table = b.continuousBias(table, heads)
		}
		products = b.Add("biased", products, b.relativeBias(table, index, w, heads))
		if down == 0 && right == 0 {
			return products
		}
		return b.Add("masked", products, b.table("masked", "mask", shiftMask(rows, columns, w, down, right),
			int64(rows*columns), 1, int64(w*w), int64(w*w)))
	})
	y = b.Reshape("rows", y, rows, columns, w, w, c)
	y = b.Reshape("joined_windows", b.Permute("reversed", y, 0, 1, 3, 2, 4, 5), rows*w, columns*w, c)
	y = b.Roll("back_right", b.Roll("back_down", y, 1, down), 2, right)
	if rows*w > h0 {
		y = b.Slice("cut_rows", y, 1, 0, h0, 1)
	}
	if columns*w > w0 {
		y = b.Slice("cut_columns", y, 2, 0, w0, 1)
	}
	return y
}

// windows cuts x [N,rows*h,columns*w,C] into tokens [N,rows*columns,h*w,C].
func (b *Builder) windows(name string, x Value, rows, h, columns, w int) Value {
	if b.root.err != nil {
		return Value{}
	}
	c := int(x.Shape[2])
	y := b.Permute(name+".order", b.Reshape(name+".cut", x, rows, h, columns, w, c), 0, 1, 3, 2, 4, 5)
	return b.Reshape(name, y, rows*columns, h*w, c)
}

// plainAttention is scaled dot-product attention between qkv and proj.
func (b *Builder) plainAttention(x Value, heads int, _ Value, change func(Value) Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	c := int(x.Shape[len(x.Shape)-1])
	qkv := b.Chunk("chunk", b.Linear("qkv", x, 3*c, swinInit...), -1, 3)
	y := b.attend(qkv[0], qkv[1], qkv[2], heads, 1/math.Sqrt(float64(c/heads)), change)
	return b.Linear("proj", y, c, swinInit...)
}

// cosineAttention is that of version 2: the products are the cosines of the angles between queries and keys,
// which have no bias, times the exponential of scale, at most 100.
func (b *Builder) cosineAttention(x Value, heads int, scale Value, change func(Value) Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	c := int(x.Shape[len(x.Shape)-1])
	l := options(swinInit)
	names := b.weights("qkv", l, 3*c, int64(3*c), int64(c))
	proj := b.weights("proj", l, c, int64(c), int64(c))
	keep := make([]float32, 3*c)
	for i := range keep {
		if i < c || i >= 2*c {
			keep[i] = 1
		}
	}
	bias := b.Mul("qkv.no_key_bias", Value{Name: names[1], Shape: []int64{int64(3 * c)}, fixed: true},
		b.table("qkv", "keep", keep, int64(3*c)))
	qkv := b.Chunk("chunk", b.project("qkv", x, []string{names[0], bias.Name}, int64(3*c)), -1, 3)
	q := b.normalized("q_direction", b.splitHeads("q", qkv[0], heads, false))
	k := b.turned("k_turned", b.normalized("k_direction", b.splitHeads("k", qkv[1], heads, false)))
	top := b.apply("Min", "scale_limit",
		[]Value{scale, b.constant("scale_limit", "log100", float32(math.Log(100)))}, scale.Shape)
	products := change(b.Mul("scaled", b.MatMul("products", q, k), b.apply1("Exp", "scale", top)))
	y := b.joinHeads(b.MatMul("heads", b.SoftmaxOver("attention", products, -1),
		b.splitHeads("v", qkv[2], heads, false)))
	return b.project("proj", y, proj, int64(c))
}

// turned has the last two axes of x the other way around.
func (b *Builder) turned(name string, x Value) Value {
	axes := make([]int, len(x.Shape)+1) // with the batch
	for i := range axes {
		axes[i] = i
	}
	if n := len(axes); n >= 3 {
		axes[n-1], axes[n-2] = n-2, n-1
	}
	return b.Permute(name, x, axes...)
}

// normalized is torch.nn.functional.normalize over the last axis.
func (b *Builder) normalized(name string, x Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	shape := append([]int64{}, x.Shape...)
	shape[len(shape)-1] = 1
	in, attrs := []Value{x}, []*onnxio.Attribute{onnxio.IntAttr("keepdims", 1)}
	if b.root.opset >= 18 {
		in = append(in, Value{Name: b.ints(name, "axis", -1), fixed: true})
	} else {
		attrs = append(attrs, onnxio.IntsAttr("axes", -1))
	}
	norm := b.apply("ReduceL2", name+".norm", in, shape, attrs...)
	least := b.apply("Max", name+".least", []Value{norm, b.constant(name, "eps", 1e-12)}, shape)
	return b.Div(name, x, least)
}

// continuousBias makes the table of version 2, of numbers between 0 and 16, by an MLP of the coordinates.
func (b *Builder) continuousBias(coords Value, heads int) Value {
	s := b.Scope("cpb_mlp")
	y := s.ReLU("1", s.Linear("0", coords, 512, swinInit...))
	y = s.Linear("2", y, heads, append([]Option{NoBias()}, swinInit...)...)
	return b.Reshape("table", s.Scale("scale", s.Sigmoid("sigmoid", y), 16), -1, heads)
}

// relativeBias is [heads,w*w,w*w]: what the table [(2w-1)^2,heads] says of the places of
// two tokens to each other.
func (b *Builder) relativeBias(table, index Value, w, heads int) Value {
	n := w * w
	bias := b.apply("Gather", "bias.gather", []Value{table, index}, []int64{int64(n * n), int64(heads)},
		onnxio.IntAttr("axis", 0))
	return b.Permute("bias.heads", b.Reshape("bias.pairs", bias, n, n, heads), 2, 0, 1)
}

// positions says for two tokens of a window where the table has them: row and column
// distance, from -(w-1) on.
func positions(w int) []int64 {
	var out []int64
	for i := range w * w {
		for j := range w * w {
			down, right := i/w-j/w+w-1, i%w-j%w+w-1
			out = append(out, int64(down*(2*w-1)+right))
		}
	}
	return out
}

// coordinates are the distances from -8 to 8 in both directions on a logarithmic scale.
func coordinates(w int) []float32 {
	scaled := func(d int) float32 {
		v := 8 * float64(d) / float64(w-1)
		return float32(math.Copysign(math.Log2(math.Abs(v)+1)/3, v))
	}
	var out []float32
	for i := 1 - w; i < w; i++ {
		for j := 1 - w; j < w; j++ {
			out = append(out, scaled(i), scaled(j))
		}
	}
	return out
}

// shiftMask is [windows,1,w*w,w*w]: -100 where two tokens of a window were not neighbors before the shift.
func shiftMask(rows, columns, w, down, right int) []float32 {
	region := func(at, size, shift int) int {
		switch {
		case at < size-w:
			return 0
		case shift > 0 && at >= size-shift:
			return 2
		}
		return 1
	}
	out := make([]float32, rows*columns*w*w*w*w)
	for k := range rows * columns {
		part := func(i int) int {
			return 3*region(k/columns*w+i/w, rows*w, down) + region(k%columns*w+i%w, columns*w, right)
		}
		for i := range w * w {
			for j := range w * w {
				if part(i) != part(j) {
					out[(k*w*w+i)*w*w+j] = -100
				}
			}
		}
	}
	return out
}
