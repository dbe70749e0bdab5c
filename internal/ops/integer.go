package ops

import (
	"math/bits"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Integer kernels of the operators that compute in float64 otherwise, where integers beyond 2^53 would be
// rounded. What does not fit the type wraps around, as in Add and Mul.

// integer are the element types that are computed in exactly.
type integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

// intTypes is one instance of a generic kernel for each integer type.
type intTypes[F any] struct{ i8, i16, i32, i64, u8, u16, u32, u64 F }

// of is the instance for t; ok is false when t is not an integer type.
func (k intTypes[F]) of(t onnxio.DataType) (f F, ok bool) {
	switch t {
	case onnxio.Int8:
		f = k.i8
	case onnxio.Int16:
		f = k.i16
	case onnxio.Int32:
		f = k.i32
	case onnxio.Int64:
		f = k.i64
	case onnxio.Uint8:
		f = k.u8
	case onnxio.Uint16:
		f = k.u16
	case onnxio.Uint32:
		f = k.u32
	case onnxio.Uint64:
		f = k.u64
	default:
		return f, false
	}
	return f, true
}

// exactUnary are the operators of one operand with an integer kernel.
var exactUnary = map[string]intTypes[func(*Eval) error]{
	"Neg": {mapInts(negative[int8]), mapInts(negative[int16]), mapInts(negative[int32]),
		mapInts(negative[int64]),
		mapInts(negative[uint8]), mapInts(negative[uint16]), mapInts(negative[uint32]),
		mapInts(negative[uint64])},
	"Abs": {mapInts(absolute[int8]), mapInts(absolute[int16]), mapInts(absolute[int32]),
		mapInts(absolute[int64]),
		mapInts(absolute[uint8]), mapInts(absolute[uint16]), mapInts(absolute[uint32]),
		mapInts(absolute[uint64])},
	"Sign": {mapInts(signum[int8]), mapInts(signum[int16]), mapInts(signum[int32]), mapInts(signum[int64]),
		mapInts(signum[uint8]), mapInts(signum[uint16]), mapInts(signum[uint32]), mapInts(signum[uint64])},
}

func mapInts[T integer](f func(T) T) func(*Eval) error {
	return func(c *Eval) error {
		y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
		if err != nil {
			return err
		}
		to := onnxio.Data[T](y)
		for i, v := range onnxio.Data[T](c.In[0]) {
			to[i] = f(v)
		}
		return nil
	}
}

func negative[T integer](x T) T { return -x }

func absolute[T integer](x T) T {
	if x < 0 {
		return -x
	}
	return x
}

func signum[T integer](x T) T {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return T(0) - 1
	}
	return 0
}

// lowest and highest are the bounds of an integer type.
func lowest[T integer](width int) T {
	if T(0)-1 > 0 {
		return 0
	}
	return T(1) << (width - 1)
}

func highest[T integer](width int) T { return ^lowest[T](width) }

// exactReduce are the reductions of integers: kept is the output's shape with ones. ok is false for a
// reduction that has no integer kernel.
var exactReduce = intTypes[func(op string, y, x *onnxio.Tensor, kept []int64) (ok bool)]{reduceInts[int8],
	reduceInts[int16],
	reduceInts[int32], reduceInts[int64], reduceInts[uint8], reduceInts[uint16], reduceInts[uint32],
	reduceInts[uint64]}

func reduceInts[T integer](op string, y, x *onnxio.Tensor, kept []int64) bool {
	var start T
	var join func(acc, x T) T
	switch op {
	case "ReduceSum":
		join = add[T]
	case "ReduceProd":
		start, join = 1, mul[T]
	case "ReduceMax":
		start, join = lowest[T](x.Type.Bits()), greaterOf[T]
	case "ReduceMin":
		start, join = highest[T](x.Type.Bits()), lesserOf[T]
	case "ReduceL1":
		join = func(acc, x T) T { return acc + absolute(x) }
	case "ReduceSumSquare":
		join = func(acc, x T) T { return acc + x*x }
	default:
		return false
	}
	acc := onnxio.Data[T](y)
	for i := range acc {
		acc[i] = start
	}
	joinAll(acc, onnxio.Data[T](x), x.Dims, kept, join)
	return true
}

// exactPow is x to a power of int64 or uint64.
var exactPow = intTypes[func(c *Eval, x, y *onnxio.Tensor) error]{powInts[int8], powInts[int16],
	powInts[int32], powInts[int64],
	powInts[uint8], powInts[uint16], powInts[uint32], powInts[uint64]}

func powInts[T integer](c *Eval, x, y *onnxio.Tensor) error {
	if y.Type == onnxio.Uint64 {
		return combine(c, x, y, x.Type, power[T])
	}
	return combine(c, x, y, x.Type, func(a T, b int64) T {
		if b >= 0 {
			return power(a, uint64(b))
		}
		switch { // the true quotient, truncated; 0 to a negative power has none, and is 0 as in Div
		case a == 1, a == T(0)-1 && a < 0 && b%2 == 0:
			return 1
		case a == T(0)-1 && a < 0:
			return a
		}
		return 0
	})
}

// power squares and multiplies.
func power[T integer](x T, n uint64) T {
	y := T(1)
	for i := bits.Len64(n) - 1; i >= 0; i-- {
		if y *= y; n>>i&1 == 1 {
			y *= x
		}
	}
	return y
}
