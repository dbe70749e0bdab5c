package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// CumSum: running sums along an axis that is an input.

func init() {
	register(&Def{Name: "CumSum", Versions: []int64{11, 14}, Attrs: []AttrDef{intA("exclusive"), intA("reverse")},
		Inputs: []Param{{Name: "x", Type: "T"}, {Name: "axis", Type: "T2"}}, Outputs: []Param{{Name: "y", Type: "T"}},
		Types: map[string]TypeSet{"T": Floats | Set(onnxio.Int32, onnxio.Int64, onnxio.Uint32, onnxio.Uint64), "T2": Indices},
		Tol:   reduceTol, Infer: inferSame, Eval: evalCumSum, Grad: gradCumSum})
}

// gradCumSum sums the other way.
func gradCumSum(g *Grad) (err error) {
	if g.Wants[0] {
		g.DIn[0], err = g.One("", "CumSum", []string{g.DOut[0], g.In(1)}, onnxio.IntAttr("exclusive", g.Node.Int("exclusive", 0)),
			onnxio.IntAttr("reverse", 1-g.Node.Int("reverse", 0)))
	}
	return err
}

func evalCumSum(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	switch t := c.In[0].Type; t {
	case onnxio.Float16, onnxio.BFloat16:
		return widened(c, evalCumSum)
	case onnxio.Float:
		return cumSum[float32](c)
	case onnxio.Double:
		return cumSum[float64](c)
	case onnxio.Int32:
		return cumSum[int32](c)
	case onnxio.Int64:
		return cumSum[int64](c)
	case onnxio.Uint32:
		return cumSum[uint32](c)
	case onnxio.Uint64:
		return cumSum[uint64](c)
	default:
		return c.Node.Errorf("element type %v is not implemented", t)
	}
}

func cumSum[T numeric](c *Eval) error {
	x := c.In[0]
	list, ok := intsOf(c.In[1])
	if !ok || len(list) != 1 {
		return c.Node.Errorf("axis must be one number")
	}
	axis, err := axisOf(c.Node, list[0], len(x.Dims))
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	from, to := onnxio.Data[T](x), onnxio.Data[T](y)
	d, inner := int(x.Dims[axis]), sizeOf(x.Dims[axis+1:])
	exclusive, reverse := c.Node.Int("exclusive", 0) != 0, c.Node.Int("reverse", 0) != 0
	for row := range sizeOf(x.Dims[:axis]) * inner {
		at, step := row/inner*d*inner+row%inner, inner
		if reverse {
			at, step = at+(d-1)*inner, -inner
		}
		var sum T
		for range d {
			before := sum
			sum += from[at]
			if to[at] = sum; exclusive {
				to[at] = before
			}
			at += step
		}
	}
	return nil
}
