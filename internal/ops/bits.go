package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators on the bits of integers: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot.

func init() {
	shift := bitsDef("BitShift", []int64{11, 28}, nil)
	shift.Attrs, shift.Types = []AttrDef{stringA("direction").required()}, map[string]TypeSet{"T": Integers}
	shift.Inputs, shift.Outputs[0].Name = []Param{{Name: "X", Type: "T"}, {Name: "Y", Type: "T"}}, "Z"
	shift.Eval = evalBitShift
	register(shift,
		bitsDef("BitwiseAnd", []int64{18}, intKernels(intOps{and[int8], and[int16], and[int32], and[int64],
			and[uint8], and[uint16], and[uint32], and[uint64]})),
		bitsDef("BitwiseOr", []int64{18},
			intKernels(intOps{or[int8], or[int16], or[int32], or[int64], or[uint8], or[uint16], or[uint32],
				or[uint64]})),
		bitsDef("BitwiseXor", []int64{18}, intKernels(intOps{xor[int8], xor[int16], xor[int32], xor[int64],
			xor[uint8], xor[uint16], xor[uint32], xor[uint64]})),
		&Def{Name: "BitwiseNot", Versions: []int64{18}, Inputs: []Param{{Name: "X", Type: "T"}},
			Outputs: []Param{{Name: "Y", Type: "T"}},
			Types:   map[string]TypeSet{"T": Integers}, Infer: inferSame,
			Eval: func(c *Eval) error {
				if err := evalReady(c); err != nil {
					return err
				}
				if _, err := elementSize(c, c.In[0].Type); err != nil {
					return err
				}
				y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
				if err != nil {
					return err
				}
				for i, b := range c.In[0].Raw {
					y.Raw[i] = ^b
				}
				return nil
			}})
}

func and[T integer](a, b T) T { return a & b }
func or[T integer](a, b T) T  { return a | b }
func xor[T integer](a, b T) T { return a ^ b }

// left and right shift by b places. A negative b is as one beyond the width: nothing is left
// but the sign, to the right.
func left[T integer](a, b T) T {
	if b < 0 {
		return 0
	}
	return a << uint64(b)
}

func right[T integer](a, b T) T {
	switch {
	case b < 0 && a < 0:
		return T(0) - 1
	case b < 0:
		return 0
	}
	return a >> uint64(b)
}

var (
	lefts = intKernels(intOps{left[int8], left[int16], left[int32], left[int64], left[uint8], left[uint16],
		left[uint32], left[uint64]})
	rights = intKernels(intOps{right[int8], right[int16], right[int32], right[int64], right[uint8],
		right[uint16], right[uint32], right[uint64]})
)

func evalBitShift(c *Eval) error {
	switch d := c.Node.Str("direction", ""); d {
	case "LEFT":
		return evalBinary(c, kernels2{ints: lefts})
	case "RIGHT":
		return evalBinary(c, kernels2{ints: rights})
	default:
		return c.Node.Errorf("direction %q is neither LEFT nor RIGHT", d)
	}
}

// bitsDef is a binary operator of integers alone.
func bitsDef(name string, versions []int64, ints map[onnxio.DataType]func(c *Eval, a,
	b *onnxio.Tensor) error) *Def {
	d := binaryDef(name, versions, nil, kernels2{}, nil)
	d.Types, d.Tol = map[string]TypeSet{"T": Integers}, Tolerance{}
	d.Eval = func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		if k := ints[c.In[0].Type]; k != nil {
			return k(c, c.In[0], c.In[1])
		}
		return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
	}
	return d
}
