package vision

import (
	"context"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Forward computes a model's first output of a batch.
type Forward func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error)

// Adapt makes run, which takes and gives what the model does, take float32 images [N,C,H,W] of any number and
// give float32: images go in as in says, in its layout and type; a fixed batch is filled up with zeros, and
// the surplus is dropped. Masks of a model with its channels last come out as [N,C,H,W].
func Adapt(in spec.Input, run Forward) Forward {
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		if len(x.Dims) != 4 || x.Type != onnxio.Float {
			return nil, fmt.Errorf("images are %v %v; float32 [N,C,H,W] is wanted", x.Type, x.Dims)
		}
		n, size := x.Dims[0], int64(in.Batch)
		if size == 0 || size == n {
			return adapted(ctx, in, run, x)
		}
		var parts []*onnxio.Tensor
		for at := int64(0); at < n; at += size {
			y, err := adapted(ctx, in, run, filled(x, at, size))
			if err != nil {
				return nil, err
			}
			if len(y.Dims) == 0 || y.Dims[0] != size {
				return nil, fmt.Errorf("the output is %v for %d images", y.Dims, size)
			}
			parts = append(parts, rows(y, 0, min(size, n-at)))
		}
		return Stack(parts)
	}
}

// adapted runs one batch of the model's size.
func adapted(ctx context.Context, in spec.Input, run Forward, x *onnxio.Tensor) (*onnxio.Tensor, error) {
	dims := x.Dims
	y, err := run(ctx, Fed(in, x))
	if err != nil || y == nil {
		return y, err
	}
	if y, err = asFloat(y); err != nil {
		return nil, err
	}
	if in.Layout == spec.NHWC && len(y.Dims) == 4 && (y.Dims[1] != 1 || y.Dims[2] != 1) &&
		dims[0] == y.Dims[0] {
		y = permuted(y, false)
	}
	return y, nil
}

// Fed is float32 [N,C,H,W] in the layout and the type that a model takes.
func Fed(in spec.Input, x *onnxio.Tensor) *onnxio.Tensor {
	if in.Layout == spec.NHWC {
		x = permuted(x, true)
	}
	switch in.Type {
	case "float16":
		out := onnxio.NewTensor(onnxio.Float16, x.Dims...)
		for i, v := range x.Float32s() {
			h := toHalf(v)
			out.Raw[2*i], out.Raw[2*i+1] = uint8(h), uint8(h>>8)
		}
		return out
	case "uint8":
		out := onnxio.NewTensor(onnxio.Uint8, x.Dims...)
		for i, v := range x.Float32s() {
			out.Raw[i] = uint8(min(max(v+0.5, 0), 255))
		}
		return out
	}
	return x
}

// permuted moves the channels to the end, or back to the front.
func permuted(x *onnxio.Tensor, last bool) *onnxio.Tensor {
	d := x.Dims
	n, a, b := int(d[0]), int(d[1]), int(d[2]*d[3])
	dims := []int64{d[0], d[2], d[3], d[1]}
	if !last {
		a, b = int(d[1]*d[2]), int(d[3])
		dims = []int64{d[0], d[3], d[1], d[2]}
	}
	out := onnxio.NewTensor(onnxio.Float, dims...)
	from, to := x.Float32s(), out.Float32s()
	for i := range n {
		in, out := from[i*a*b:(i+1)*a*b], to[i*a*b:(i+1)*a*b]
		for r := range a {
			for c := range b {
				out[c*a+r] = in[r*b+c]
			}
		}
	}
	return out
}

// rows are count rows of t from one on, in the same memory.
func rows(t *onnxio.Tensor, from, count int64) *onnxio.Tensor {
	per := int64(len(t.Raw)) / max(t.Dims[0], 1)
	out := &onnxio.Tensor{Type: t.Type, Dims: append([]int64{count}, t.Dims[1:]...)}
	out.Raw = t.Raw[from*per : (from+count)*per]
	return out
}

// filled are size rows of x from one on, zeros where x has none.
func filled(x *onnxio.Tensor, from, size int64) *onnxio.Tensor {
	have := min(size, x.Dims[0]-from)
	if have == size {
		return rows(x, from, size)
	}
	out := onnxio.NewTensor(x.Type, append([]int64{size}, x.Dims[1:]...)...)
	copy(out.Raw, rows(x, from, have).Raw)
	return out
}

// asFloat gives an output of half or double precision in float32.
func asFloat(y *onnxio.Tensor) (*onnxio.Tensor, error) {
	out := onnxio.NewTensor(onnxio.Float, y.Dims...)
	to := out.Float32s()
	switch y.Type {
	case onnxio.Float:
		return y, nil
	case onnxio.Float16:
		for i := range to {
			to[i] = fromHalf(uint16(y.Raw[2*i]) | uint16(y.Raw[2*i+1])<<8)
		}
	case onnxio.Double:
		for i, v := range onnxio.Data[float64](y) {
			to[i] = float32(v)
		}
	default:
		return nil, fmt.Errorf("the output is %v %v; numbers of float32, float16 or float64 are wanted",
			y.Type, y.Dims)
	}
	return out, nil
}

// toHalf rounds to the nearest float16, of two equally near ones to the even.
func toHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, b := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00
	case b >= 0x477ff000:
		return sign | 0x7c00
	case b < 0x38800000: // below the normal numbers: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24)))
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-0x38000000)>>13)
}

func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exponent {
	case 0:
		v := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
