package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

func init() {
	global := func(name string) *Def {
		return &Def{Name: name, Versions: []int64{1, 22}, Types: floatsT, Tol: averageTol, Infer: inferGlobal,
			Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T"}}}
	}
	average, largest, lp := global("GlobalAveragePool"), global("GlobalMaxPool"), global("GlobalLpPool")
	average.Eval = byFloat(evalGlobal(globalMean[float32]), evalGlobal(globalMean[float64]))
	average.Grad = gradGlobalAveragePool
	largest.Eval = byFloat(evalGlobal(globalMax[float32]), evalGlobal(globalMax[float64]))
	largest.Grad = gradGlobalMaxPool
	lp.Versions = []int64{1, 2, 22}
	lp.Attrs = []AttrDef{floatA("p").until(1), intA("p").since(2)}
	lp.Eval = byFloat(evalGlobal(globalLp[float32]), evalGlobal(globalLp[float64]))
	register(average, largest, lp)
}

func inferGlobal(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x := c.In[0]
	c.SetType(0, x.Type)
	if !x.HasShape {
		return nil
	}
	if len(x.Shape) < 2 {
		return c.Node.Errorf("input of shape %s, not [N,C,...]", shapeText(x.Shape))
	}
	shape := append([]onnxio.Dim{}, x.Shape[:2]...)
	for range x.Shape[2:] {
		shape = append(shape, knownDim(1))
	}
	c.Set(0, x.Type, shape)
	return nil
}

// evalGlobal reduces every plane to one number.
func evalGlobal[T floating](reduce func(n *Node, plane []T) T) func(*Eval) error {
	return func(c *Eval) error {
		x := c.In[0]
		if len(x.Dims) < 2 {
			return c.Node.Errorf("input of shape %s, not [N,C,...]", dimsText(x.Dims))
		}
		var dims [8]int64
		shape := append(dims[:0], x.Dims...)
		for i := range shape[2:] {
			shape[2+i] = 1
		}
		y, err := c.Alloc(0, x.Type, shape...)
		if err != nil {
			return err
		}
		src, size := onnxio.Data[T](x), sizeOf(x.Dims[2:])
		for i, dst := 0, onnxio.Data[T](y); i < len(dst); i++ {
			dst[i] = reduce(c.Node, src[i*size:][:size])
		}
		return nil
	}
}

func globalMean[T floating](_ *Node, plane []T) T {
	sum := 0.0
	for _, v := range plane {
		sum += float64(v)
	}
	return T(sum / float64(len(plane)))
}

func globalMax[T floating](_ *Node, plane []T) T {
	best := T(math.Inf(-1))
	for _, v := range plane {
		if v > best || v != v {
			best = v
		}
	}
	return best
}

func globalLp[T floating](n *Node, plane []T) T {
	p := float64(n.Int("p", 2))
	if a := n.Attr("p"); a != nil && a.Type == onnxio.AttrFloat {
		p = float64(a.F)
	}
	sum := 0.0
	for _, v := range plane {
		sum += math.Pow(math.Abs(float64(v)), p)
	}
	return T(math.Pow(sum, 1/p))
}

// globalAttrs is the geometry of a pool whose window is the whole plane of shape x.
func globalAttrs(x []int64) []*onnxio.Attribute {
	ones, zeros := make([]int64, len(x)-2), make([]int64, 2*(len(x)-2))
	for i := range ones {
		ones[i] = 1
	}
	return []*onnxio.Attribute{
		onnxio.IntsAttr("kernel_shape", x[2:]...),
		onnxio.IntsAttr("strides", ones...),
		onnxio.IntsAttr("dilations", ones...),
		onnxio.IntsAttr("pads", zeros...),
	}
}

func gradGlobalAveragePool(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	x := g.Dims(g.In(0))
	if len(x) < 3 {
		return g.Node.Errorf("gradient needs a known shape [N,C,...], not %s", dimsText(x))
	}
	attrs := append(globalAttrs(x), onnxio.IntAttr("count_include_pad", 0),
		onnxio.IntsAttr("input_shape", x...))
	g.DIn[0], err = g.One(GradDomain, "AveragePoolGrad", []string{g.DOut[0]}, attrs...)
	return err
}

func gradGlobalMaxPool(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	x := g.Dims(g.In(0))
	if len(x) < 3 {
		return g.Node.Errorf("gradient needs a known shape [N,C,...], not %s", dimsText(x))
	}
	g.DIn[0], err = g.One(GradDomain, "MaxPoolGrad", []string{g.DOut[0], g.In(0), g.Out(0)},
		globalAttrs(x)...)
	return err
}
