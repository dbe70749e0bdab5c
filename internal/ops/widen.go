package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Half types are storage: kernels compute in float32 and round once at the end.

func isHalf(t onnxio.DataType) bool { return t == onnxio.Float16 || t == onnxio.BFloat16 }

// widened runs a float32 kernel on half inputs: they become float32, and outputs that inference gave a
// half type are rounded to it.
func widened(c *Eval, kernel func(*Eval) error) error {
	inner := &Eval{Node: c.Node, Seed: c.Seed, Want: c.Want, Limit: c.Limit,
		In: make([]*onnxio.Tensor, len(c.In))}
	for i, t := range c.In {
		if inner.In[i] = t; t != nil && isHalf(t.Type) {
			inner.In[i] = widen(t)
		}
	}
	if err := kernel(inner); err != nil {
		return err
	}
	for i, t := range inner.Out {
		if t == nil {
			continue
		}
		typ := t.Type
		if typ == onnxio.Float {
			typ = c.outType(i)
		}
		out, err := c.Alloc(i, typ, t.Dims...)
		if err != nil {
			return err
		}
		if isHalf(typ) {
			narrow(out, t)
		} else {
			copy(out.Raw, t.Raw)
		}
	}
	return nil
}

// outType is the type of output i, float32 in the kernel: that of the first input of the same
// type variable, else float32.
func (c *Eval) outType(i int) onnxio.DataType {
	inputs, outputs := c.Node.InParams(), c.Node.OutParams()
	if i < len(outputs) {
		for j := range inputs {
			if inputs[j].Type == outputs[i].Type && c.Has(j) {
				return c.In[j].Type
			}
		}
		if outputs[i].Type == "M" { // Dropout's mask before version 10
			return c.In[0].Type
		}
	}
	return onnxio.Float
}

// widen converts a half tensor to float32.
func widen(t *onnxio.Tensor) *onnxio.Tensor {
	out := onnxio.NewTensor(onnxio.Float, t.Dims...)
	dst, src := out.Float32s(), onnxio.Data[uint16](t)
	for i, h := range src {
		if t.Type == onnxio.BFloat16 {
			dst[i] = math.Float32frombits(uint32(h) << 16)
		} else {
			dst[i] = halfToFloat(h)
		}
	}
	return out
}

// narrow rounds a float32 tensor to a half one, to nearest even.
func narrow(dst, src *onnxio.Tensor) {
	out := onnxio.Data[uint16](dst)
	for i, v := range src.Float32s() {
		if dst.Type == onnxio.BFloat16 {
			out[i] = floatToBrain(v)
		} else {
			out[i] = floatToHalf(v)
		}
	}
}

// halfValue is the number of a half of type t.
func halfValue(h uint16, t onnxio.DataType) float64 {
	if t == onnxio.BFloat16 {
		return float64(math.Float32frombits(uint32(h) << 16))
	}
	return float64(halfToFloat(h))
}

// halfToFloat decodes IEEE binary16.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0: // subnormal: frac * 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*(1.0/(1<<24))))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// floatToHalf rounds to IEEE binary16, to nearest even; what is too large becomes infinity.
func floatToHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits &^ (1 << 31)
	switch {
	case abs > 0x7f800000: // NaN stays one, quiet
		return sign | 0x7e00 | uint16(abs>>13&0x3ff)
	case abs >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case abs < 0x38800000: // subnormal: count units of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(abs))*(1<<24)))
	}
	abs += 0xfff + abs>>13&1 // round, ties to even; a carry moves into the exponent
	return sign | uint16((abs-(127-15)<<23)>>13)
}

// floatToBrain rounds to bfloat16, to nearest even.
func floatToBrain(f float32) uint16 {
	bits := math.Float32bits(f)
	if f != f {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
