package ops

import (
	"bytes"

	"github.com/cnnkit/cnnkit/onnxio"
)

// NonZero and Compress pick the elements that hold something, or that a condition names: how many is known
// only while running, unless the condition is a constant.

func init() {
	register(
		&Def{Name: "NonZero", Versions: []int64{9, 13},
			Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "I"}},
			Types: map[string]TypeSet{"T": basicTypes, "I": Set(onnxio.Int64)},
			Infer: inferNonZero, Eval: evalNonZero},
		&Def{Name: "Compress", Versions: []int64{9, 11, 28}, Attrs: []AttrDef{intA("axis")},
			Inputs:  []Param{{Name: "input", Type: "T"}, {Name: "condition", Type: "B"}},
			Outputs: []Param{{Name: "output", Type: "T"}},
			Types:   map[string]TypeSet{"T": basicTypes, "B": Bools},
			Infer:   inferCompress, Eval: evalCompress},
	)
}

// basicTypes are the element types that ONNX had first, and bfloat16.
var basicTypes = Numbers | Bools | Set(onnxio.String, onnxio.Complex64, onnxio.Complex128)

func inferNonZero(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	rank := unknownDim
	if shaped(c, 0) {
		rank = knownDim(int64(len(c.In[0].Shape)))
	}
	count := unknownDim
	if t := c.In[0].Const; t != nil && hasData(t) && len(t.Raw) <= maxFoldedBytes {
		at, err := nonZeros(c.Node, t)
		if err != nil {
			return err
		}
		count = knownDim(int64(len(at)))
	}
	c.Set(0, onnxio.Int64, []onnxio.Dim{rank, count})
	return nil
}

// nonZeros are the indices of the elements that are not zero: NaN is not, -0 is, an empty string is.
func nonZeros(n *Node, t *onnxio.Tensor) (at []int, err error) {
	if t.Type == onnxio.String {
		for i, s := range t.Strings {
			if len(s) > 0 {
				at = append(at, i)
			}
		}
		return at, nil
	}
	switch t.Type {
	case onnxio.Float:
		return nonZerosOf(onnxio.Data[float32](t)), nil
	case onnxio.Double:
		return nonZerosOf(onnxio.Data[float64](t)), nil
	case onnxio.Complex64:
		return nonZerosOf(onnxio.Data[complex64](t)), nil
	case onnxio.Complex128:
		return nonZerosOf(onnxio.Data[complex128](t)), nil
	case onnxio.Float16, onnxio.BFloat16:
		return nonZerosOf(widen(t).Float32s()), nil
	}
	switch t.Type.Bits() {
	case 8:
		return nonZerosOf(t.Raw), nil
	case 16:
		return nonZerosOf(onnxio.Data[uint16](t)), nil
	case 32:
		return nonZerosOf(onnxio.Data[uint32](t)), nil
	case 64:
		return nonZerosOf(onnxio.Data[uint64](t)), nil
	}
	return nil, n.Errorf("element type %v is not implemented", t.Type)
}

func nonZerosOf[T comparable](v []T) []int {
	var zero T
	count := 0
	for _, x := range v {
		if x != zero {
			count++
		}
	}
	at := make([]int, 0, count)
	for i, x := range v {
		if x != zero {
			at = append(at, i)
		}
	}
	return at
}

// evalNonZero writes the coordinates of the elements, one row for each dimension. A
// scalar has no coordinates.
func evalNonZero(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	at, err := nonZeros(c.Node, x)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, onnxio.Int64, int64(len(x.Dims)), int64(len(at)))
	if err != nil {
		return err
	}
	to, rest := onnxio.Data[int64](y), at // rest is what the axes to the left make of an index
	for axis := len(x.Dims) - 1; axis >= 0; axis-- {
		d := int(x.Dims[axis])
		for i, p := range rest {
			if axis == 0 {
				to[i] = int64(p)
				continue
			}
			rest[i] = p / d
			to[axis*len(at)+i] = int64(p - rest[i]*d)
		}
	}
	return nil
}

// compressAxis is the axis and whether there is one: without, the input is flattened.
func compressAxis(n *Node, rank int) (axis int, has bool, err error) {
	a := n.Attr("axis")
	if a == nil {
		return 0, false, nil
	}
	axis, err = axisOf(n, a.I, rank)
	return axis, true, err
}

func inferCompress(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if shaped(c, 1) && len(c.In[1].Shape) != 1 {
		return c.Node.Errorf("condition must be a vector, not %s", shapeText(c.In[1].Shape))
	}
	count := unknownDim
	if t := c.In[1].Const; t != nil && t.Type == onnxio.Bool && hasData(t) {
		count = knownDim(int64(bytes.Count(t.Raw, []byte{1})))
	}
	if c.Node.Attr("axis") == nil {
		c.Set(0, c.In[0].Type, []onnxio.Dim{count})
		return nil
	}
	if !shaped(c, 0) {
		return nil
	}
	axis, _, err := compressAxis(c.Node, len(c.In[0].Shape))
	if err != nil {
		return err
	}
	out := append([]onnxio.Dim{}, c.In[0].Shape...)
	out[axis] = count
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalCompress(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, condition := c.In[0], c.In[1]
	axis, has, err := compressAxis(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	dims := x.Dims
	if !has {
		dims = []int64{x.Size()}
	}
	if condition.Type != onnxio.Bool || len(condition.Dims) != 1 || condition.Dims[0] > dims[axis] {
		return c.Node.Errorf("condition %v %s for dimension %d of %s", condition.Type,
			dimsText(condition.Dims), axis,
			dimsText(x.Dims))
	}
	var picked []int64
	for i, b := range condition.Raw {
		if b != 0 {
			picked = append(picked, int64(i))
		}
	}
	return pickAlong(c, 0, x, dims, axis, picked)
}

// pickAlong makes output i of the given indices of x along an axis, x seen with shape dims.
func pickAlong(c *Eval, i int, x *onnxio.Tensor, dims []int64, axis int, picked []int64) error {
	shape := append([]int64{}, dims...)
	shape[axis] = int64(len(picked))
	y, err := c.Alloc(i, x.Type, shape...)
	if err != nil {
		return err
	}
	outer, d, inner := sizeOf(dims[:axis]), int(dims[axis]), sizeOf(dims[axis+1:])
	if x.Type == onnxio.String {
		pickRows(y.Strings, x.Strings, outer, d, inner, picked)
		return nil
	}
	es, err := elementSize(c, x.Type)
	if err == nil {
		pickRows(y.Raw, x.Raw, outer, d, inner*int(es), picked)
	}
	return err
}

// pickRows copies the picked ones of d rows of each block.
func pickRows[T any](to, from []T, outer, d, row int, picked []int64) {
	at := 0
	for o := range outer {
		for _, p := range picked {
			copy(to[at:][:row], from[(o*d+int(p))*row:])
			at += row
		}
	}
}
