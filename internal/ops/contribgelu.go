package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// The forms of GELU in com.microsoft: Gelu, BiasGelu (both exact), FastGelu (by tanh) and QuickGelu (by a
// sigmoid). The bias of the middle two belongs to the last axis.

func init() {
	tanh := &Node{Node: &onnxio.Node{Attrs: []*onnxio.Attribute{onnxio.StringAttr("approximate", "tanh")}}}
	quick := func(n *Node) func(float64) float64 {
		alpha := float64(quickAlpha(n))
		return func(x float64) float64 { return x * sigmoid(alpha*x) }
	}
	exact := func(*Node) func(float64) float64 { return gelu(&Node{Node: &onnxio.Node{}}) }
	fast := func(*Node) func(float64) float64 { return gelu(tanh) }
	def := func(name, inputs string, f func(*Node) func(float64) float64, gradient string) *Def {
		return contrib(&Def{Name: name, Inputs: formals(inputs), Outputs: formals("Y T"), Types: floatsT,
			Tol: activationTol, Infer: inferBiased, Eval: byFloat(evalBiased[float32](f),
				evalBiased[float64](f)),
			Grad: func(g *Grad) error { return gradBiased(g, gradient) }})
	}
	bias, sigmoidal := def("BiasGelu", "A T, B T", exact, "GeluGrad"), def("QuickGelu", "X T", quick,
		"SwishGrad")
	bias.Outputs, sigmoidal.Attrs = formals("C T"), []AttrDef{floatA("alpha")}
	register(def("Gelu", "X T", exact, "GeluGrad"), bias, def("FastGelu", "X T, bias? T", fast, "GeluGrad"),
		sigmoidal)
}

func quickAlpha(n *Node) float32 { return n.Float("alpha", 1.702) }

// inferBiased checks that a bias has the length of the last axis.
func inferBiased(c *Infer) error {
	if err := inferSame(c); err != nil || !shaped(c, 0, 1) {
		return err
	}
	s, b := c.In[0].Shape, c.In[1].Shape
	if len(s) == 0 || len(b) != 1 || !agree(b[0], s[len(s)-1]) {
		return c.Node.Errorf("bias %s of %s", shapeText(b), shapeText(s))
	}
	return nil
}

func evalBiased[T floating](f func(*Node) func(float64) float64) func(*Eval) error {
	return func(c *Eval) error {
		x, bias := c.In[0], optional[T](c, 1)
		if c.Has(1) && (len(x.Dims) == 0 || !equal(c.In[1].Dims, x.Dims[len(x.Dims)-1:])) {
			return c.Node.Errorf("bias %s of %s", dimsText(c.In[1].Dims), dimsText(x.Dims))
		}
		y, err := c.Alloc(0, x.Type, x.Dims...)
		if err != nil {
			return err
		}
		at, to := f(c.Node), onnxio.Data[T](y)
		for i, v := range onnxio.Data[T](x) {
			if bias != nil {
				v += bias[i%len(bias)]
			}
			to[i] = T(at(float64(v)))
		}
		return nil
	}
}

// gradBiased is the gradient of the function at x + bias; a bias gets its sum over the other axes.
func gradBiased(g *Grad, gradient string) (err error) {
	v := g.In(0)
	if g.In(1) != "" {
		if v, err = two(g, "Add", v, g.In(1)); err != nil {
			return err
		}
	}
	var attrs []*onnxio.Attribute
	switch g.Node.OpType {
	case "FastGelu":
		attrs = append(attrs, onnxio.StringAttr("approximate", "tanh"))
	case "QuickGelu":
		attrs = append(attrs, onnxio.FloatAttr("alpha", quickAlpha(g.Node)))
	}
	d, err := g.One(GradDomain, gradient, []string{g.DOut[0], v}, attrs...)
	if err != nil {
		return err
	}
	if g.Wants[0] {
		g.DIn[0] = d
	}
	if len(g.Wants) > 1 && g.Wants[1] {
		g.DIn[1], err = sumTo(g, d, g.In(1))
	}
	return err
}
