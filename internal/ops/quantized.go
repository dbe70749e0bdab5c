package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// What the quantized operators share. A quantized number q stands for scale * (q - zero point). Sums of
// products of q - zero point are whole numbers below 2^53, which the float64 kernels of Conv and MatMul sum
// exactly; a requantization brings them to the output's scale as ONNX Runtime does: times one float32
// multiplier, clamped, rounded to nearest even.

// bytesOnly are the types of most quantized tensors.
var bytesOnly = Set(onnxio.Int8, onnxio.Uint8)

// floatOnly is the type of most scales.
var floatOnly = Set(onnxio.Float)

// paramIndex says which element of a scale or zero point belongs to element k of a tensor of shape dims: the
// one there is, that of the index along axis for a vector, or by broadcasting.
func paramIndex(n *Node, name string, p *onnxio.Tensor, dims []int64, axis int) (func(k int64) int64, error) {
	size := p.Size()
	switch {
	case size == 1:
		return func(int64) int64 { return 0 }, nil
	case len(p.Dims) == 1 && axis >= 0 && axis < len(dims) && dims[axis] == size:
		inner, d := max(int64(sizeOf(dims[axis+1:])), 1), max(size, 1)
		return func(k int64) int64 { return k / inner % d }, nil
	}
	if out, ok := broadcast(dims, p.Dims); len(p.Dims) < 2 || !ok || !equal(out, dims) {
		return nil, n.Errorf("%s %s does not fit %s", name, dimsText(p.Dims), dimsText(dims))
	}
	s := spread(p.Dims, dims)
	return func(k int64) int64 {
		at := int64(0)
		for i := len(dims) - 1; i >= 0; i-- {
			at += k % dims[i] * s[i]
			k /= dims[i]
		}
		return at
	}, nil
}

// centered is input i in float64 less its zero point, input z, which a vector gives along axis.
func centered(c *Eval, i, z, axis int) (*onnxio.Tensor, error) {
	x, err := asFloat64(c, c.In[i])
	if err != nil || !c.Has(z) {
		return x, err
	}
	zero, err := asFloat64(c, c.In[z])
	if err != nil {
		return nil, err
	}
	at, err := paramIndex(c.Node, c.Node.param(z).Name, zero, x.Dims, axis)
	if err != nil {
		return nil, err
	}
	data, off := onnxio.Data[float64](x), onnxio.Data[float64](zero)
	for k := range data {
		data[k] -= off[at(int64(k))]
	}
	return x, nil
}

// parameter is a scale or a zero point in float32, read by an element of the tensor that it belongs to.
func parameter(c *Eval, i int, dims []int64, axis int) (func(k int64) float32, error) {
	p := onnxio.NewTensor(onnxio.Float, c.In[i].Dims...)
	if err := cast(c.Node, p, c.In[i], false); err != nil {
		return nil, err
	}
	at, err := paramIndex(c.Node, c.Node.param(i).Name, p, dims, axis)
	if err != nil {
		return nil, err
	}
	data := p.Float32s()
	return func(k int64) float32 { return data[at(k)] }, nil
}

// affine is the one scale and zero point of a whole tensor.
type affine struct {
	scale, zero float32
	lo, hi      float32 // of the zero point's type
}

// affineOf reads inputs s and z; a zero point that is omitted is 0.
func affineOf(c *Eval, s, z int, t onnxio.DataType) (a affine, err error) {
	for _, p := range []struct {
		input int
		to    *float32
	}{{s, &a.scale}, {z, &a.zero}} {
		if !c.Has(p.input) {
			continue
		}
		if x := c.In[p.input]; x.Size() != 1 {
			return a, c.Node.Errorf("%s must be one number, not %s", c.Node.param(p.input).Name,
				dimsText(x.Dims))
		}
		one, err := asFloat64(c, c.In[p.input])
		if err != nil {
			return a, err
		}
		*p.to = float32(onnxio.Data[float64](one)[0])
	}
	lo, hi := bounds(t)
	a.lo, a.hi = float32(lo), float32(hi)
	return a, nil
}

// number is what q stands for.
func (a *affine) number(q float64) float32 { return a.scale * float32(q-float64(a.zero)) }

// level is the quantized number nearest to v: the quotient is rounded before the zero point is added.
func (a *affine) level(v float32) float64 { return a.rounded(v / a.scale) }

// rounded is level for a quotient.
func (a *affine) rounded(quotient float32) float64 {
	q := quotient
	if q != q {
		q = 0
	}
	q = max(a.lo-a.zero, min(q, a.hi-a.zero))
	return math.RoundToEven(float64(q)) + float64(a.zero)
}

// roundedLate is for quotients to which the zero point has been added in float32 before the rounding, as the
// elementwise operators of ONNX Runtime do.
func (a *affine) roundedLate(q float32) float64 {
	if q != q {
		q = 0
	}
	return max(float64(a.lo), min(math.RoundToEven(float64(q)), float64(a.hi)))
}

// requantized writes sums of products as output 0 of type t, each times its
// multiplier. zero is an input or -1.
func requantized(c *Eval, sums *onnxio.Tensor, t onnxio.DataType, by func(k int64) float32, zero,
	axis int) error {
	y, err := c.Alloc(0, t, sums.Dims...)
	if err != nil {
		return err
	}
	off := func(int64) float32 { return 0 }
	if c.Has(zero) {
		if off, err = parameter(c, zero, sums.Dims, axis); err != nil {
			return err
		}
	}
	// Sums of integers wrap around as int32, those of floats do not.
	wraps := !slices.ContainsFunc(c.In, func(x *onnxio.Tensor) bool {
		return x != nil && narrowFloats.Has(x.Type)
	})
	lo, hi := bounds(t)
	data := onnxio.Data[float64](sums)
	for k, v := range data {
		v32 := float32(v)
		if wraps {
			v32 = float32(int32(int64(v)))
		}
		a := affine{scale: 1, zero: off(int64(k)), lo: float32(lo), hi: float32(hi)}
		if q := v32 * by(int64(k)); narrowFloats.Has(t) {
			data[k] = float64(q + a.zero)
		} else {
			data[k] = a.rounded(q)
		}
	}
	return cast(c.Node, y, sums, false)
}

// lowBits writes whole numbers as int32, which wraps around.
func lowBits(c *Eval, sums *onnxio.Tensor) error {
	y, err := c.Alloc(0, onnxio.Int32, sums.Dims...)
	if err != nil {
		return err
	}
	to := onnxio.Data[int32](y)
	for k, v := range onnxio.Data[float64](sums) {
		to[k] = int32(int64(v))
	}
	return nil
}
