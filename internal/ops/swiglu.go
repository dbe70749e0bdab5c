package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// SwiGLU is y = a sigmoid(alpha a) b, a gate of one shape with what it gates.

func init() {
	alpha := floatA("alpha")
	grad := gradDef("SwiGLUGrad", []string{"dy", "a", "b"}, []string{"da", "db"}, alpha)
	grad.Infer, grad.Tol = inferSameShapes, activationTol
	grad.Eval = byFloat(evalSwiGLUGrad[float32], evalSwiGLUGrad[float64])
	register(&Def{Name: "SwiGLU", Versions: []int64{28}, Attrs: []AttrDef{alpha}, Types: floatsT,
		Tol:    activationTol,
		Inputs: []Param{{Name: "A", Type: "T"}, {Name: "B", Type: "T"}}, Outputs: []Param{{Name: "Y",
			Type: "T"}},
		Infer: inferSameShapes, Eval: byFloat(evalSwiGLU[float32], evalSwiGLU[float64]), Grad: gradSwiGLU},
		grad)
}

func evalSwiGLU[T floating](c *Eval) error {
	a, b := c.In[0], c.In[1]
	if !equal(a.Dims, b.Dims) {
		return c.Node.Errorf("shapes %s and %s differ", dimsText(a.Dims), dimsText(b.Dims))
	}
	y, err := c.Alloc(0, a.Type, a.Dims...)
	if err != nil {
		return err
	}
	alpha := float64(c.Node.Float("alpha", 1))
	dst, value := onnxio.Data[T](y), onnxio.Data[T](b)
	for i, x := range onnxio.Data[T](a) {
		dst[i] = T(float64(x) * sigmoid(alpha*float64(x)) * float64(value[i]))
	}
	return nil
}

func gradSwiGLU(g *Grad) error {
	out, err := g.Emit(GradDomain, "SwiGLUGrad", 2, []string{g.DOut[0], g.In(0), g.In(1)}, g.Node.Attrs...)
	for i := 0; err == nil && i < len(g.Wants); i++ {
		if g.Wants[i] {
			g.DIn[i] = out[i]
		}
	}
	return err
}

// evalSwiGLUGrad, with s = sigmoid(alpha a): da = dy b (s + alpha a s (1-s)), db = dy a s.
func evalSwiGLUGrad[T floating](c *Eval) error {
	dy, a, b := c.In[0], c.In[1], c.In[2]
	if !equal(dy.Dims, a.Dims) || !equal(a.Dims, b.Dims) {
		return c.Node.Errorf("shapes %s, %s and %s differ", dimsText(dy.Dims), dimsText(a.Dims),
			dimsText(b.Dims))
	}
	da, err := c.Alloc(0, a.Type, a.Dims...)
	if err != nil {
		return err
	}
	db, err := c.Alloc(1, a.Type, a.Dims...)
	if err != nil {
		return err
	}
	alpha := float64(c.Node.Float("alpha", 1))
	d, gate, value := onnxio.Data[T](dy), onnxio.Data[T](a), onnxio.Data[T](b)
	dGate, dValue := onnxio.Data[T](da), onnxio.Data[T](db)
	for i := range d {
		x, v := float64(gate[i]), float64(d[i])
		s := sigmoid(alpha * x)
		dGate[i], dValue[i] = T(v*float64(value[i])*(s+alpha*x*s*(1-s))), T(v*x*s)
	}
	return nil
}
