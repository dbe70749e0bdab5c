package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Range: start, start+delta, ... up to limit, which is not reached. Its length is
// max(ceil((limit-start)/delta), 0).

func init() {
	register(&Def{Name: "Range", Versions: []int64{11, 27}, Attrs: []AttrDef{intA("stash_type").since(27)},
		Inputs:  []Param{{Name: "start", Type: "T"}, {Name: "limit", Type: "T"}, {Name: "delta", Type: "T"}},
		Outputs: []Param{{Name: "output", Type: "T"}}, Tol: arithmeticTol,
		Types: map[string]TypeSet{"T": Floats | Set(onnxio.Int16, onnxio.Int32, onnxio.Int64)},
		Infer: inferRange, Eval: evalRange})
}

// inferRange gives the exact length where the three numbers are known, and the symbol n for Range(0, n, 1).
func inferRange(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	for i, v := range c.In[:3] {
		if dims, ok := v.Dims(); ok && sizeOf(dims) != 1 {
			return c.Node.Errorf("%s must be a scalar, not %s", c.Node.Def.Inputs[i].Name, dimsText(dims))
		}
	}
	length := unknownDim
	if n, ok, err := constantLength(c); err != nil {
		return err
	} else if ok {
		length = knownDim(n)
	} else if d, ok := symbolicLength(c.Node, c.In); ok {
		length = d
	}
	c.Set(0, c.In[0].Type, []onnxio.Dim{length})
	return nil
}

// constantLength is the length where all three inputs are constants.
func constantLength(c *Infer) (n int64, ok bool, err error) {
	ev := &Eval{Node: c.Node}
	for _, v := range c.In[:3] {
		if v.Const == nil || v.Const.Size() != 1 || !hasData(v.Const) || v.Const.Type != c.In[0].Const.Type {
			return 0, false, nil
		}
		ev.In = append(ev.In, v.Const)
	}
	for i, t := range ev.In {
		if isHalf(t.Type) {
			ev.In[i] = widen(t)
		}
	}
	switch ev.In[0].Type {
	case onnxio.Float:
		n, err = lengthOf[float32](ev)
	case onnxio.Double:
		n, err = lengthOf[float64](ev)
	case onnxio.Int16:
		n, err = lengthOf[int16](ev)
	case onnxio.Int32:
		n, err = lengthOf[int32](ev)
	case onnxio.Int64:
		n, err = lengthOf[int64](ev)
	default:
		return 0, false, nil
	}
	return n, err == nil, err
}

// symbolicLength is the length where the numbers are dimensions, some of them symbols.
func symbolicLength(n *Node, in []*Value) (onnxio.Dim, bool) {
	var v [3]onnxio.Dim
	for i := range v {
		list, ok := in[i].Known()
		if !ok || len(list) != 1 {
			return unknownDim, false
		}
		v[i] = list[0]
	}
	switch start, limit, delta := v[0], v[1], v[2]; {
	case start.Known() && limit.Known() && delta.Known():
		count, err := intLength(n, start.Value, limit.Value, delta.Value)
		return knownDim(count), err == nil
	case start.Known() && start.Value == 0 && delta.Known() && delta.Value == 1:
		return limit, true
	}
	return unknownDim, false
}

// lengthOf is the number of elements of a Range of three scalars.
func lengthOf[T numeric](c *Eval) (int64, error) {
	var v [3]T
	for i, t := range c.In[:3] {
		v[i] = onnxio.Data[T](t)[0]
	}
	if !Floats.Has(c.In[0].Type) {
		return intLength(c.Node, int64(v[0]), int64(v[1]), int64(v[2]))
	}
	if v[2] == 0 {
		return 0, c.Node.Errorf("delta is 0")
	}
	n := math.Ceil((float64(v[1]) - float64(v[0])) / float64(v[2]))
	if !(n < MaxBytes) {
		return 0, c.Node.Errorf("from %v to %v by %v has no end", v[0], v[1], v[2])
	}
	return int64(max(n, 0)), nil
}

func intLength(n *Node, start, limit, delta int64) (int64, error) {
	span, step := uint64(limit)-uint64(start), uint64(delta) // wrapping, both are exact as uint64
	switch {
	case delta == 0:
		return 0, n.Errorf("delta is 0")
	case delta > 0 && limit <= start, delta < 0 && limit >= start:
		return 0, nil
	case delta < 0:
		span, step = -span, -step
	}
	count := (span-1)/step + 1
	if count > MaxBytes {
		return 0, n.Errorf("from %d to %d by %d is too long", start, limit, delta)
	}
	return int64(count), nil
}

func evalRange(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	for _, t := range c.In[:3] {
		if t.Size() != 1 {
			return c.Node.Errorf("start, limit and delta must be scalars")
		}
	}
	switch t := c.In[0].Type; t {
	case onnxio.Float16, onnxio.BFloat16:
		return widened(c, evalRange)
	case onnxio.Float:
		return rangeOf[float32](c)
	case onnxio.Double:
		return rangeOf[float64](c)
	case onnxio.Int16:
		return rangeOf[int16](c)
	case onnxio.Int32:
		return rangeOf[int32](c)
	case onnxio.Int64:
		return rangeOf[int64](c)
	default:
		return c.Node.Errorf("element type %v is not implemented", t)
	}
}

func rangeOf[T numeric](c *Eval) error {
	n, err := lengthOf[T](c)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, n)
	if err != nil {
		return err
	}
	start, delta := onnxio.Data[T](c.In[0])[0], onnxio.Data[T](c.In[2])[0]
	to := onnxio.Data[T](y)
	for i := range to {
		to[i] = start + T(i)*delta
	}
	return nil
}
