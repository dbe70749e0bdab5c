package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: y = saturate(round(x/scale) + zero point) and
// back. One scale is for the whole tensor, for each index of an axis, or for each block along it. Quotients
// are rounded to nearest even: to an integer, or to the numbers of a narrow float.

// quantized are the types that QuantizeLinear gives.
var quantized = Set(onnxio.Int8, onnxio.Uint8, onnxio.Int16, onnxio.Uint16) | narrowInts |
	float8s | float4And6

func init() {
	versions := []int64{10, 13, 19, 21, 23, 24, 25, 28}
	floats, int32s := Set(onnxio.Float, onnxio.Float16, onnxio.BFloat16), Set(onnxio.Int32)
	scales := floats | Set(onnxio.Float8E8M0)
	contribFloats := Set(onnxio.Float, onnxio.Float16)
	contribLevels := Set(onnxio.Int8, onnxio.Uint8, onnxio.Int16, onnxio.Uint16, onnxio.Int4, onnxio.Uint4)
	axis, block := intA("axis").since(13), intA("block_size").since(21)
	quantize := []AttrDef{axis, block, intA("saturate").since(19), intA("output_dtype").since(21),
		intA("precision").since(23)}
	register(
		&Def{Name: "QuantizeLinear", Versions: versions, Attrs: quantize,
			Inputs: formals("x T1, y_scale T2, y_zero_point? T3"), Outputs: formals("y T3"),
			Types: map[string]TypeSet{"T1": floats | int32s, "T2": scales | int32s, "T3": quantized},
			Infer: inferQuantize, Eval: evalQuantize, Quantizes: true},
		&Def{Name: "DequantizeLinear", Versions: versions, Attrs: []AttrDef{axis, block,
			intA("output_dtype").since(23)},
			Inputs: formals("x T1, x_scale T2, x_zero_point? T1"), Outputs: formals("y T3"),
			Tol:   arithmeticTol,
			Types: map[string]TypeSet{"T1": quantized | int32s, "T2": scales, "T3": floats},
			Infer: inferDequantize, Eval: evalDequantize, Quantizes: true},
		&Def{Name: "DynamicQuantizeLinear", Versions: []int64{11},
			Inputs: formals("x T1"), Outputs: formals("y T2, y_scale T1, y_zero_point T2"),
			Types: map[string]TypeSet{"T1": Set(onnxio.Float), "T2": Set(onnxio.Uint8)}, Tol: arithmeticTol,
			Infer: inferDynamicQuantize, Eval: evalDynamicQuantize},
		contrib(&Def{Name: "QuantizeLinear", Attrs: []AttrDef{intA("axis")}, Infer: inferQuantize,
			Eval:   evalQuantize,
			Inputs: formals("x T1, y_scale T1, y_zero_point? T3"), Outputs: formals("y T3"),
			Types: map[string]TypeSet{"T1": contribFloats, "T3": contribLevels}}),
		contrib(&Def{Name: "DequantizeLinear", Attrs: []AttrDef{intA("axis")}, Tol: arithmeticTol,
			Inputs: formals("x T1, x_scale T3, x_zero_point? T1"), Outputs: formals("y T3"),
			Types: map[string]TypeSet{"T1": contribLevels | int32s, "T3": contribFloats},
			Infer: inferDequantize, Eval: evalDequantize}))
}

// quantizedType is the type that QuantizeLinear gives: the zero point's, output_dtype, or uint8.
func quantizedType(n *Node, hasZero bool, zero onnxio.DataType) (onnxio.DataType, error) {
	t := onnxio.DataType(n.Int("output_dtype", 0))
	switch {
	case hasZero:
		t = zero
	case t == onnxio.Undefined:
		t = onnxio.Uint8
	}
	if !n.Def.Types["T3"].Has(t) {
		return t, n.Errorf("the output cannot be %v", t)
	}
	return t, nil
}

func inferQuantize(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	zero := onnxio.Undefined
	if c.Has(2) {
		if zero = c.In[2].Type; zero == onnxio.Undefined {
			return nil
		}
	}
	t, err := quantizedType(c.Node, c.Has(2), zero)
	if err != nil {
		return err
	}
	c.SetType(0, t)
	if shaped(c, 0) {
		c.Set(0, t, c.In[0].Shape)
	}
	return nil
}

func inferDequantize(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	t, err := dequantizedType(c.Node, c.In[1].Type)
	if err != nil {
		return err
	}
	c.SetType(0, t)
	if shaped(c, 0) {
		c.Set(0, t, c.In[0].Shape)
	}
	return nil
}

// dequantizedType is output_dtype or the scale's type.
func dequantizedType(n *Node, scale onnxio.DataType) (onnxio.DataType, error) {
	t := onnxio.DataType(n.Int("output_dtype", 0))
	if t == onnxio.Undefined {
		t = scale
	}
	if t != onnxio.Undefined && !n.Def.Types["T3"].Has(t) {
		return t, n.Errorf("the output cannot be %v: output_dtype must say float32, float16 or bfloat16", t)
	}
	return t, nil
}

// scaleIndex gives for an element of a tensor of shape x which element of the scale, and of the zero point,
// is its own.
func scaleIndex(c *Eval, x []int64) (func(i int64) int64, error) {
	n, scale := c.Node, c.In[1]
	if c.Has(2) && c.In[2].Size() != scale.Size() {
		return nil, n.Errorf("scale %s and zero point %s differ", dimsText(scale.Dims),
			dimsText(c.In[2].Dims))
	}
	block := n.Int("block_size", 0)
	if scale.Size() == 1 && block == 0 {
		return func(int64) int64 { return 0 }, nil
	}
	axis, err := axisOf(n, n.Int("axis", 1), len(x))
	if err != nil {
		return nil, err
	}
	d, inner := max(x[axis], 1), max(int64(sizeOf(x[axis+1:])), 1)
	if block == 0 {
		if len(scale.Dims) != 1 || scale.Dims[0] != x[axis] {
			return nil, n.Errorf("scale %s along axis %d of %s", dimsText(scale.Dims), axis, dimsText(x))
		}
		return func(i int64) int64 { return i / inner % d }, nil
	}
	want := slices.Clone(x)
	if block > 0 {
		want[axis] = (x[axis]-1)/block + 1
	}
	if block < 0 || !equal(want, scale.Dims) {
		return nil, n.Errorf("scale %s with block_size %d along axis %d of %s", dimsText(scale.Dims), block,
			axis, dimsText(x))
	}
	return func(i int64) int64 { return (i/inner/d*want[axis]+i/inner%d/block)*inner + i%inner }, nil
}

// zeroPoints are the zero points in float64, zeros when they are omitted.
func zeroPoints(c *Eval) ([]float64, error) {
	if !c.Has(2) {
		return make([]float64, c.In[1].Size()), nil
	}
	t, err := asFloat64(c, c.In[2])
	if err != nil {
		return nil, err
	}
	return onnxio.Data[float64](t), nil
}

// quantities are x as float64, the zero points, and which of them, and of the scales, an element of x has.
func quantities(c *Eval) (x *onnxio.Tensor, zero []float64, at func(i int64) int64, err error) {
	if at, err = scaleIndex(c, c.In[0].Dims); err != nil {
		return nil, nil, nil, err
	}
	if zero, err = zeroPoints(c); err != nil {
		return nil, nil, nil, err
	}
	x, err = asFloat64(c, c.In[0])
	return x, zero, at, err
}

func evalQuantize(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, zeroType := c.In[0], onnxio.Undefined
	if c.Has(2) {
		zeroType = c.In[2].Type
	}
	t, err := quantizedType(c.Node, c.Has(2), zeroType)
	if err != nil {
		return err
	}
	quotient, err := quotientOf(c.Node, c.In[1].Type)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, t, x.Dims...)
	if err != nil {
		return err
	}
	values, zero, at, err := quantities(c)
	if err != nil {
		return err
	}
	scales, err := asFloat64(c, c.In[1])
	if err != nil {
		return err
	}
	v, scale := onnxio.Data[float64](values), onnxio.Data[float64](scales)
	whole := !narrowFloats.Has(t)
	lo, hi := bounds(t)
	for i := range v {
		k := at(int64(i))
		if v[i] = quotient(v[i], scale[k]); whole {
			v[i] = saturated(math.RoundToEven(v[i])+zero[k], lo, hi)
		} else {
			v[i] += zero[k]
		}
	}
	return convert(c.Node, y, values, conversion{wrap: c.Node.Int("saturate", 1) == 0})
}

// quotientOf divides in the type that precision says, by default the scale's. Before version 23, which
// brought the attribute, it is float32, and so it is for scales that are no type to compute in.
func quotientOf(n *Node, scale onnxio.DataType) (func(x, s float64) float64, error) {
	t := onnxio.DataType(n.Int("precision", 0))
	if t == onnxio.Undefined {
		if t = scale; n.Since < 23 || !Floats.Has(scale) {
			t = onnxio.Float
		}
	}
	switch t {
	case onnxio.Float:
		return func(x, s float64) float64 { return float64(float32(x) / float32(s)) }, nil
	case onnxio.Double:
		return func(x, s float64) float64 { return x / s }, nil
	case onnxio.Float16, onnxio.BFloat16:
		half := func(v float64) float64 { return halfValue(doubleToHalf(v, t), t) }
		return func(x, s float64) float64 { return half(half(x) / half(s)) }, nil
	}
	return nil, n.Errorf("precision %v is no type to divide in", t)
}

// bounds are the least and the greatest number of an integer type of at most 32 bits.
func bounds(t onnxio.DataType) (lo, hi float64) {
	span := float64(int64(1) << t.Bits())
	if Signed.Has(t) || t == onnxio.Int4 || t == onnxio.Int2 {
		return -span / 2, span/2 - 1
	}
	return 0, span - 1
}

// saturated brings x into [lo, hi]; NaN becomes 0 or what is nearest.
func saturated(x, lo, hi float64) float64 {
	if x != x {
		x = 0
	}
	return max(lo, min(x, hi))
}

// evalDequantize subtracts exactly, multiplies in float32 and rounds to the output's type.
func evalDequantize(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	t, err := dequantizedType(c.Node, c.In[1].Type)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, t, x.Dims...)
	if err != nil {
		return err
	}
	values, zero, at, err := quantities(c)
	if err != nil {
		return err
	}
	scales, err := asFloat64(c, c.In[1])
	if err != nil {
		return err
	}
	v, scale := onnxio.Data[float64](values), onnxio.Data[float64](scales)
	for i := range v {
		k := at(int64(i))
		v[i] = float64(float32((v[i] - zero[k]) * scale[k]))
	}
	return cast(c.Node, y, values, false)
}

func inferDynamicQuantize(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.Uint8)
	if shaped(c, 0) {
		c.Set(0, onnxio.Uint8, c.In[0].Shape)
	}
	c.Set(1, onnxio.Float, nil)
	c.Set(2, onnxio.Uint8, nil)
	return nil
}

// evalDynamicQuantize takes the scale from the range of x, which is widened to hold 0.
func evalDynamicQuantize(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if c.In[0].Type != onnxio.Float {
		return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
	}
	var out [3]*onnxio.Tensor
	var err error
	for i, t := range []onnxio.DataType{onnxio.Uint8, onnxio.Float, onnxio.Uint8} {
		dims := c.In[0].Dims
		if i > 0 {
			dims = nil
		}
		if out[i], err = c.Alloc(i, t, dims...); err != nil {
			return err
		}
	}
	a := dynamicRange(c.In[0].Float32s())
	out[1].Float32s()[0], out[2].Raw[0] = a.scale, uint8(a.zero)
	for i, v := range c.In[0].Float32s() {
		out[0].Raw[i] = uint8(a.level(v))
	}
	return nil
}

// dynamicRange is the quantization to uint8 of the range of x, widened to hold 0. Where all is 0, ONNX
// divides 0 by 0; the scale is 1 then, as in ONNX Runtime.
func dynamicRange(x []float32) affine {
	lo, hi := float32(0), float32(0)
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	scale, zero := ByteRange(lo, hi)
	return affine{scale: scale, zero: float32(zero), hi: 255}
}

// ByteRange is the scale and the zero point with which DynamicQuantizeLinear quantizes numbers from lo to hi.
func ByteRange(lo, hi float32) (scale float32, zero uint8) {
	lo, hi = min(lo, 0), max(hi, 0)
	if scale = (hi - lo) / 255; scale == 0 {
		scale = 1
	}
	return scale, uint8(saturated(math.RoundToEven(float64(-lo/scale)), 0, 255))
}
