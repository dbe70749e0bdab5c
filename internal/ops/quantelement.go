package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Elementwise operators of com.microsoft on quantized tensors, with ONNX Runtime's order of float32
// operations: QLinearAdd, QLinearMul, QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QLinearConcat and
// QLinearWhere.

func init() {
	types := map[string]TypeSet{"T": bytesOnly, "F": floatOnly, "B": Bools}
	pair := func(name string, kernel func(a, b, y affine, repeated bool) func(p, q float64) float64) *Def {
		return contrib(&Def{Name: name, Types: types, Outputs: formals("C T"), Infer: inferQLinearPair,
			Inputs: formals("A T, A_scale F, A_zero_point? T, B T, B_scale F, B_zero_point? T, " +
				"C_scale F, C_zero_point? T"),
			Eval: func(c *Eval) error { return evalQLinearPair(c, kernel) }})
	}
	x := formals("X T, X_scale F, X_zero_point? T, Y_scale F, Y_zero_point? T")
	single := func(name string, f func(n *Node) func(v float32) float32, attrs ...AttrDef) *Def {
		return contrib(&Def{Name: name, Attrs: attrs, Inputs: x, Outputs: formals("Y T"), Types: types,
			Infer: inferSame, Eval: func(c *Eval) error { return evalQLinearMap(c, f(c.Node)) }})
	}
	softmax := single("QLinearSoftmax", nil, intA("axis"), intA("opset").required())
	softmax.Eval, softmax.Infer = evalQLinearSoftmax, inferQLinearSoftmax
	softmax.Inputs = formals("X T, X_scale F, x_zero_point? T, y_scale F, y_zero_point T")
	register(pair("QLinearAdd", quantizedSum), pair("QLinearMul", quantizedProduct), softmax,
		single("QLinearSigmoid", func(*Node) func(float32) float32 {
			return func(v float32) float32 { return float32(sigmoid(float64(v))) }
		}),
		single("QLinearLeakyRelu", func(n *Node) func(float32) float32 {
			alpha := n.Float("alpha", 0.01)
			return func(v float32) float32 {
				if v >= 0 {
					return v
				}
				return alpha * v
			}
		}, floatA("alpha")),
		contrib(&Def{Name: "QLinearConcat", Attrs: []AttrDef{intA("axis").required()},
			Inputs: formals("Y_scale F, Y_zero_point T, inputs* V"), Outputs: formals("Y T"),
			Types: map[string]TypeSet{"T": bytesOnly, "F": floatOnly, "V": bytesOnly | floatOnly},
			Infer: inferQLinearConcat, Eval: evalQLinearConcat}),
		contrib(&Def{Name: "QLinearWhere", Types: types, Outputs: formals("Z T"),
			Inputs: formals("condition B, X T, x_scale F, x_zero_point T, Y T, y_scale F, " +
				"y_zero_point T, z_scale F, z_zero_point T"),
			Infer: inferQLinearWhere, Eval: evalQLinearWhere}))
}

func inferQLinearPair(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	y, err := inferAs(c.Node, "Add", c.In[0], c.In[3])
	if err == nil {
		setShape(c, c.In[0].Type, y)
	}
	return err
}

// quantizedSum is p*a/y + q*b/y plus what the zero points come to. Each product is rounded together with the
// sum that it is added to, that of q first, as ONNX Runtime's kernel for AVX2 does: levels next to a tie
// depend on it. Where one p is repeated along the last axis, the operands change places.
func quantizedSum(a, b, y affine, repeated bool) func(p, q float64) float64 {
	if repeated {
		swapped := quantizedSum(b, a, y, false)
		return func(p, q float64) float64 { return swapped(q, p) }
	}
	byA, byB := a.scale/y.scale, b.scale/y.scale
	fixed := y.zero - fusedMultiplyAdd(byA, a.zero, float32(byB*b.zero))
	return func(p, q float64) float64 {
		return y.roundedLate(fusedMultiplyAdd(float32(p), byA, fusedMultiplyAdd(float32(q), byB, fixed)))
	}
}

// isRepeated reports whether one element of a tensor of shape dims serves all of the last axis of the shape
// to.
func isRepeated(dims, to []int64) bool {
	for i := 1; i <= len(to); i++ {
		if to[len(to)-i] != 1 {
			return i > len(dims) || dims[len(dims)-i] == 1
		}
	}
	return true
}

// fusedMultiplyAdd is a*b + c rounded once.
func fusedMultiplyAdd(a, b, c float32) float32 {
	product, add := float64(a)*float64(b), float64(c) // the product is exact
	sum := product + add
	part := sum - product
	if rest := (product - (sum - part)) + (add - part); rest != 0 {
		sum = oddly(sum, rest)
	}
	return float32(sum)
}

func quantizedProduct(a, b, y affine, _ bool) func(p, q float64) float64 {
	by := float32(a.scale*b.scale) / y.scale
	return func(p, q float64) float64 {
		product := float32((p - float64(a.zero)) * (q - float64(b.zero)))
		return y.roundedLate(float32(product*by) + y.zero)
	}
}

// affines reads the quantizations of several tensors at once: pairs of inputs, a scale and a zero point.
func affines(c *Eval, t onnxio.DataType, inputs ...[2]int) ([]affine, error) {
	out := make([]affine, len(inputs))
	for i, p := range inputs {
		var err error
		if out[i], err = affineOf(c, p[0], p[1], t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func evalQLinearPair(c *Eval, kernel func(a, b, y affine, repeated bool) func(p, q float64) float64) error {
	if err := evalReady(c); err != nil {
		return err
	}
	t := c.In[0].Type
	q, err := affines(c, t, [2]int{1, 2}, [2]int{4, 5}, [2]int{6, 7})
	if err != nil {
		return err
	}
	a, err := asFloat64(c, c.In[0])
	if err != nil {
		return err
	}
	b, err := asFloat64(c, c.In[3])
	if err != nil {
		return err
	}
	dims, _ := broadcast(a.Dims, b.Dims)
	inner := &Eval{Node: c.Node, Limit: c.Limit}
	level := kernel(q[0], q[1], q[2], isRepeated(a.Dims, dims))
	if err := combine(inner, a, b, onnxio.Double, level); err != nil {
		return err
	}
	return writeAs(c, t, inner.Out[0])
}

// writeAs writes whole numbers as output 0.
func writeAs(c *Eval, t onnxio.DataType, values *onnxio.Tensor) error {
	y, err := c.Alloc(0, t, values.Dims...)
	if err != nil {
		return err
	}
	return cast(c.Node, y, values, false)
}

// relevel is how the quantized numbers of x become those of y, through f.
func relevel(x, y affine, f func(float32) float32) func(q float64) float64 {
	return func(q float64) float64 { return y.level(f(x.number(q))) }
}

func evalQLinearMap(c *Eval, f func(v float32) float32) error {
	if err := evalReady(c); err != nil {
		return err
	}
	t := c.In[0].Type
	q, err := affines(c, t, [2]int{1, 2}, [2]int{3, 4})
	if err != nil {
		return err
	}
	x, err := asFloat64(c, c.In[0])
	if err != nil {
		return err
	}
	level := relevel(q[0], q[1], f)
	data := onnxio.Data[float64](x)
	for i, v := range data {
		data[i] = level(v)
	}
	return writeAs(c, t, x)
}

// levelsAxis is the axis, and whether all dimensions from it on are one, as before opset 13.
func levelsAxis(n *Node, rank int) (axis int, flat bool, err error) {
	flat = n.Int("opset", 13) < 13
	fallback := int64(-1)
	if flat {
		fallback = 1
	}
	axis, err = axisOf(n, n.Int("axis", fallback), rank)
	return axis, flat, err
}

func inferQLinearSoftmax(c *Infer) error {
	if err := inferSame(c); err != nil || !c.In[0].HasShape {
		return err
	}
	_, _, err := levelsAxis(c.Node, len(c.In[0].Shape))
	return err
}

func evalQLinearSoftmax(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	t := c.In[0].Type
	q, err := affines(c, t, [2]int{1, 2}, [2]int{3, 4})
	if err != nil {
		return err
	}
	x, err := asFloat64(c, c.In[0])
	if err != nil {
		return err
	}
	axis, flat, err := levelsAxis(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	d, inner := int(x.Dims[axis]), sizeOf(x.Dims[axis+1:])
	if flat {
		d, inner = sizeOf(x.Dims[axis:]), 1
	}
	data := onnxio.Data[float64](x)
	if d > 0 && len(data) > 0 {
		table := expTable(float64(q[0].scale), d)
		for o := range len(data) / (d * inner) {
			for i := range inner {
				softmaxLevels(data[o*d*inner+i:], d, inner, table, &q[1])
			}
		}
	}
	return writeAs(c, t, x)
}

// expTable are exp(-k*scale) for distances k from the greatest level, all times one factor that keeps a sum
// of d of them inside float32.
func expTable(scale float64, d int) (table [256]float32) {
	room := math.Max(0, math.Log(float64(math.MaxFloat32/float32(d)))-5) / scale
	for k := range table {
		table[k] = float32(math.Exp((room - float64(k)) * scale))
	}
	return table
}

// softmaxLevels replaces d levels, step apart, by those of their shares. ONNX Runtime takes the whole number
// below 1/scale for 1/scale. It lets a share of 1 wrap around to the least int8, which is the greatest here.
func softmaxLevels(x []float64, d, step int, table [256]float32, y *affine) {
	top := math.Inf(-1)
	for i := range d {
		top = max(top, x[i*step])
	}
	sum := float32(0)
	for i := range d {
		sum += table[int(top-x[i*step])&255]
	}
	whole := float32(math.Floor(float64(1 / y.scale)))
	for i := range d {
		share := float32(table[int(top-x[i*step])&255]*whole) / sum
		x[i*step] = saturated(math.RoundToEven(float64(share))+float64(y.zero), float64(y.lo), float64(y.hi))
	}
}

// concatTriples checks the variadic inputs of QLinearConcat: tensor, scale and zero point of each part.
func concatTriples(n *Node, inputs int, has func(i int) bool) error {
	ok := inputs >= 5 && (inputs-2)%3 == 0
	for i := 0; ok && i < inputs; i++ {
		ok = has(i)
	}
	if !ok {
		return n.Errorf("%d inputs, not a scale, a zero point, and three for each part", inputs)
	}
	return nil
}

func inferQLinearConcat(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := concatTriples(c.Node, len(c.In), c.Has); err != nil {
		return err
	}
	var parts []*Value
	for i := 2; i < len(c.In); i += 3 {
		parts = append(parts, c.In[i])
	}
	y, err := inferAs(c.Node, "Concat", parts...)
	if err == nil {
		setShape(c, c.In[1].Type, y)
	}
	return err
}

func evalQLinearConcat(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if err := concatTriples(c.Node, len(c.In), c.Has); err != nil {
		return err
	}
	t := c.In[1].Type
	y, err := affineOf(c, 0, 1, t)
	if err != nil {
		return err
	}
	var parts []*onnxio.Tensor
	for i := 2; i < len(c.In); i += 3 {
		x, err := affineOf(c, i+1, i+2, t)
		if err != nil {
			return err
		}
		wide, err := asFloat64(c, c.In[i])
		if err != nil {
			return err
		}
		if x != y { // numbers of the same quantization are copied
			level := relevel(x, y, func(v float32) float32 { return v })
			for k, v := range onnxio.Data[float64](wide) {
				onnxio.Data[float64](wide)[k] = level(v)
			}
		}
		parts = append(parts, wide)
	}
	joined, err := evalAs(c, "Concat", parts...)
	if err != nil {
		return err
	}
	return writeAs(c, t, joined)
}

func inferQLinearWhere(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	cond := &Value{Type: onnxio.Bool, Shape: c.In[0].Shape, HasShape: c.In[0].HasShape}
	where := &Infer{Node: asOperator(c.Node, "Where"), In: []*Value{cond, c.In[1], c.In[4]},
		Out: []*Value{{}}}
	if err := where.Node.Def.Infer(where); err != nil {
		return err
	}
	setShape(c, c.In[1].Type, where.Out[0])
	return nil
}

func evalQLinearWhere(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	t := c.In[1].Type
	q, err := affines(c, t, [2]int{2, 3}, [2]int{5, 6}, [2]int{7, 8})
	if err != nil {
		return err
	}
	in := []*onnxio.Tensor{c.In[0], nil, nil}
	for i, input := range []int{1, 4} {
		if in[i+1], err = asFloat64(c, c.In[input]); err != nil {
			return err
		}
		level := relevel(q[i], q[2], func(v float32) float32 { return v })
		for k, v := range onnxio.Data[float64](in[i+1]) {
			onnxio.Data[float64](in[i+1])[k] = level(v)
		}
	}
	z, err := evalAs(c, "Where", in...)
	if err != nil {
		return err
	}
	return writeAs(c, t, z)
}
