package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// ArgMax and ArgMin: where along an axis the extreme is, the first or the last of equals. NaN is the extreme
// of both, as in NumPy and PyTorch.

func init() {
	register(
		argDef("ArgMax", numberTypes[argKernel]{argOf(greatest[float32]), argOf(greatest[float64]),
			intTypes[argKernel]{
				argOf(greatest[int8]), argOf(greatest[int16]), argOf(greatest[int32]), argOf(greatest[int64]),
				argOf(greatest[uint8]), argOf(greatest[uint16]), argOf(greatest[uint32]),
				argOf(greatest[uint64])}}),
		argDef("ArgMin", numberTypes[argKernel]{argOf(least[float32]), argOf(least[float64]),
			intTypes[argKernel]{
				argOf(least[int8]), argOf(least[int16]), argOf(least[int32]), argOf(least[int64]),
				argOf(least[uint8]), argOf(least[uint16]), argOf(least[uint32]), argOf(least[uint64])}}),
	)
}

type argKernel = func(*Eval) error

// greatest compares for ArgMax: positive where a is above b.
func greatest[T numeric](a, b T) int { return order(a, b) }

// least compares for ArgMin: positive where a is below b, or is NaN and b is not.
func least[T numeric](a, b T) int {
	if a != a || b != b {
		return order(a, b)
	}
	return order(b, a)
}

func argDef(name string, kernels numberTypes[argKernel]) *Def {
	return &Def{Name: name, Versions: []int64{1, 11, 12, 13},
		Attrs:  []AttrDef{intA("axis"), intA("keepdims"), intA("select_last_index").since(12)},
		Inputs: []Param{{Name: "data", Type: "T"}}, Outputs: []Param{{Name: "reduced", Type: "I"}},
		Types: map[string]TypeSet{"T": Numbers, "I": Set(onnxio.Int64)},
		Infer: inferArg, Eval: byNumber(kernels)}
}

func inferArg(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.Int64)
	if !shaped(c, 0) {
		return nil
	}
	s := c.In[0].Shape
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(s))
	if err != nil {
		return err
	}
	out := append([]onnxio.Dim{}, s[:axis]...)
	if c.Node.Int("keepdims", 1) != 0 {
		out = append(out, knownDim(1))
	}
	c.Set(0, onnxio.Int64, append(out, s[axis+1:]...))
	return nil
}

func argOf[T numeric](compare func(a, b T) int) argKernel {
	return func(c *Eval) error {
		x := c.In[0]
		axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
		if err != nil {
			return err
		}
		dims := append([]int64{}, x.Dims[:axis]...)
		if c.Node.Int("keepdims", 1) != 0 {
			dims = append(dims, 1)
		}
		y, err := c.Alloc(0, onnxio.Int64, append(dims, x.Dims[axis+1:]...)...)
		if err != nil {
			return err
		}
		v, to, last := onnxio.Data[T](x), onnxio.Data[int64](y), c.Node.Int("select_last_index", 0) != 0
		d, inner := int(x.Dims[axis]), sizeOf(x.Dims[axis+1:])
		if d == 0 && len(to) > 0 {
			return c.Node.Errorf("axis %d is empty", axis)
		}
		for i := range to {
			row, best := v[i/inner*d*inner+i%inner:], 0
			for k := 1; k < d; k++ {
				if o := compare(row[k*inner], row[best*inner]); o > 0 || last && o == 0 {
					best = k
				}
			}
			to[i] = int64(best)
		}
		return nil
	}
}
