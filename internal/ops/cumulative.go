package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// CumSum and CumProd: running sums and products along an axis that is an input.

func init() {
	attrs := []AttrDef{intA("exclusive"), intA("reverse")}
	types := Floats | Set(onnxio.Int32, onnxio.Int64, onnxio.Uint32, onnxio.Uint64)
	def := func(name string, versions []int64, eval func(*Eval) error, grad func(*Grad) error) *Def {
		return &Def{Name: name, Versions: versions, Attrs: attrs,
			Inputs:  []Param{{Name: "x", Type: "T"}, {Name: "axis", Type: "T2"}},
			Outputs: []Param{{Name: "y", Type: "T"}}, Types: map[string]TypeSet{"T": types, "T2": Indices},
			Tol: reduceTol, Infer: inferSame, Eval: eval, Grad: grad}
	}
	grad := gradDef("CumProdGrad", []string{"dy", "x"}, []string{"dx"}, attrs...)
	grad.Inputs = append(grad.Inputs, Param{Name: "axis", Type: "T2"})
	grad.Types, grad.Tol, grad.Infer = map[string]TypeSet{"T": Floats, "T2": Indices}, reduceTol, inferSame
	grad.Eval = byFloat(evalCumProdGrad[float32], evalCumProdGrad[float64])
	register(def("CumSum", []int64{11, 14}, byNumber(runningSums), gradCumSum),
		def("CumProd", []int64{26}, byNumber(runningProducts), gradCumProd), grad)
}

var (
	runningSums = numberTypes[func(*Eval) error]{running(0, add[float32]), running(0, add[float64]),
		intTypes[func(*Eval) error]{
			running(0, add[int8]), running(0, add[int16]), running(0, add[int32]), running(0, add[int64]),
			running(0, add[uint8]), running(0, add[uint16]), running(0, add[uint32]),
			running(0, add[uint64])}}
	runningProducts = numberTypes[func(*Eval) error]{running(1, mul[float32]), running(1, mul[float64]),
		intTypes[func(*Eval) error]{
			running(1, mul[int8]), running(1, mul[int16]), running(1, mul[int32]), running(1, mul[int64]),
			running(1, mul[uint8]), running(1, mul[uint16]), running(1, mul[uint32]),
			running(1, mul[uint64])}}
)

// runs are the rows of a tensor along one axis, each walked from its first or last element.
type runs struct {
	d, inner, count, step int
	reverse, exclusive    bool
}

func runsOf(n *Node, dims []int64, axis *onnxio.Tensor) (l runs, err error) {
	list, ok := intsOf(axis)
	if !ok || len(list) != 1 {
		return l, n.Errorf("axis must be one number")
	}
	a, err := axisOf(n, list[0], len(dims))
	if err != nil {
		return l, err
	}
	l.d, l.inner = int(dims[a]), sizeOf(dims[a+1:])
	l.count, l.step = sizeOf(dims[:a])*l.inner, l.inner
	l.exclusive, l.reverse = n.Int("exclusive", 0) != 0, n.Int("reverse", 0) != 0
	if l.reverse {
		l.step = -l.inner
	}
	return l, nil
}

// start is the index of the first element of a row.
func (l *runs) start(row int) int {
	at := row/l.inner*l.d*l.inner + row%l.inner
	if l.reverse {
		at += (l.d - 1) * l.inner
	}
	return at
}

func running[T numeric](start T, join func(a, b T) T) func(*Eval) error {
	return func(c *Eval) error {
		x := c.In[0]
		l, err := runsOf(c.Node, x.Dims, c.In[1])
		if err != nil {
			return err
		}
		y, err := c.Alloc(0, x.Type, x.Dims...)
		if err != nil {
			return err
		}
		from, to := onnxio.Data[T](x), onnxio.Data[T](y)
		for row := range l.count {
			at, acc := l.start(row), start
			for range l.d {
				before := acc
				acc = join(acc, from[at])
				if to[at] = acc; l.exclusive {
					to[at] = before
				}
				at += l.step
			}
		}
		return nil
	}
}

// gradCumSum sums the other way.
func gradCumSum(g *Grad) (err error) {
	if g.Wants[0] {
		g.DIn[0], err = g.One("", "CumSum", []string{g.DOut[0], g.In(1)},
			onnxio.IntAttr("exclusive", g.Node.Int("exclusive", 0)),
			onnxio.IntAttr("reverse", 1-g.Node.Int("reverse", 0)))
	}
	return err
}

func gradCumProd(g *Grad) (err error) {
	if g.Wants[0] {
		g.DIn[0], err = g.One(GradDomain, "CumProdGrad", []string{g.DOut[0], g.In(0), g.In(1)},
			g.Node.Attrs...)
	}
	return err
}

// evalCumProdGrad multiplies what comes before an element by r, the sum of dy over the products that it
// is in, each without the element and what comes before it: r[i] = dy[i] + x[i+1]*r[i+1]. Nothing is
// divided, so zeros do no harm.
func evalCumProdGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	if !equal(dy.Dims, x.Dims) {
		return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(x.Dims))
	}
	l, err := runsOf(c.Node, x.Dims, c.In[2])
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	d, from, to := onnxio.Data[T](dy), onnxio.Data[T](x), onnxio.Data[T](y)
	for row := range l.count {
		at, before := l.start(row), 1.0
		for range l.d {
			to[at] = T(before)
			before *= float64(from[at])
			at += l.step
		}
		r := 0.0
		for range l.d {
			at -= l.step
			if l.exclusive {
				to[at] *= T(r)
				r = float64(d[at]) + r*float64(from[at])
			} else {
				r += float64(d[at])
				to[at] *= T(r)
				r *= float64(from[at])
			}
		}
	}
	return nil
}
