package builders

import "math"

// MultiheadAttention is torch.nn.MultiheadAttention(batch_first=True) of tokens x [N,L,C] with themselves:
// name.in_proj_weight [3C,C], name.in_proj_bias, name.out_proj.weight and name.out_proj.bias.
func (b *Builder) MultiheadAttention(name string, x Value, heads int) Value {
	if b.root.err == nil && (len(x.Shape) != 2 || heads < 1 || x.Shape[1]%int64(heads) != 0) {
		b.fail(name, "%d heads of %s: takes tokens [N,L,C] of a multiple of that many features", heads, x)
	}
	if b.root.err != nil {
		return Value{}
	}
	s, c := b.Scope(name), x.Shape[1]
	names := []string{s.param("", "in_proj_weight", XavierUniform, 3*c, c),
		s.param("", "in_proj_bias", Zeros, 3*c)}
	qkv := s.Chunk("qkv", s.project("in_proj", x, names, 3*c), -1, 3)
	y := s.attend(qkv[0], qkv[1], qkv[2], heads, 1/math.Sqrt(float64(c)/float64(heads)), nil)
	return s.Linear("out_proj", y, int(c), BiasInit(Zeros))
}

// attend is scaled dot-product attention: the tokens' features [N,...,L,C] are split among heads, whose
// products change changes before the softmax, where it is not nil.
func (b *Builder) attend(q, k, v Value, heads int, scale float64, change func(products Value) Value) Value {
	q = b.Scale("scaled", b.splitHeads("q", q, heads, false), float32(scale))
	products := b.MatMul("products", q, b.splitHeads("k", k, heads, true))
	if change != nil {
		products = change(products)
	}
	return b.joinHeads(b.MatMul("heads", b.SoftmaxOver("attention", products, -1),
		b.splitHeads("v", v, heads, false)))
}

// splitHeads turns features [N,...,L,C] into [N,...,heads,L,C/heads], or transposed
// into [N,...,heads,C/heads,L].
func (b *Builder) splitHeads(name string, x Value, heads int, transposed bool) Value {
	if b.root.err != nil {
		return Value{}
	}
	var shape, axes []int
	for i, d := range x.Shape[:len(x.Shape)-1] {
		shape, axes = append(shape, int(d)), append(axes, i)
	}
	n := len(axes) // L is axis n of the whole, heads n+1, their features n+2
	y := b.Reshape(name+".heads", x, append(shape, heads, -1)...)
	axes = append(axes, n+1, n, n+2)
	if transposed {
		axes = append(axes[:n], n+1, n+2, n)
	}
	return b.Permute(name, y, axes...)
}

// joinHeads turns [N,...,heads,L,d] into tokens [N,...,L,heads*d].
func (b *Builder) joinHeads(x Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	n := len(x.Shape) - 2 // heads are axis n of the whole
	var axes, shape []int
	for i := range n {
		axes = append(axes, i)
		if i > 0 {
			shape = append(shape, int(x.Shape[i-1]))
		}
	}
	y := b.Permute("tokens", x, append(axes, n+1, n, n+2)...)
	return b.Reshape("joined", y, append(shape, int(x.Shape[n]), -1)...)
}

// MLP is torchvision.ops.MLP of two linear layers: name.0, an activation, and name.3; dropout stands between.
func (b *Builder) MLP(name string, x Value, hidden, out int, act Activation, opts ...Option) Value {
	s := b.Scope(name)
	return s.Linear("3", act(s, "1", s.Linear("0", x, hidden, opts...)), out, opts...)
}

// SqueezeExcitation is torchvision.ops.SqueezeExcitation: each channel of x times a factor that two 1x1
// convolutions, name.fc1 to squeeze channels and name.fc2, and gate make of all the channels' means.
func (b *Builder) SqueezeExcitation(name string, x Value, squeeze int, act, gate Activation,
	opts ...Option) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	s := b.Scope(name)
	y := act(s, "activation", s.Conv2d("fc1", s.GlobalAvgPool2d("avgpool", x), squeeze, 1, opts...))
	y = gate(s, "scale_activation", s.Conv2d("fc2", y, int(x.Shape[0]), 1, opts...))
	return s.Mul("scale", x, y)
}
