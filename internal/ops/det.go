package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Det: the determinants of square matrices, by elimination in float64.

func init() {
	grad := gradDef("DetGrad", []string{"dy", "x"}, []string{"dx"})
	grad.Infer, grad.Eval, grad.Tol = inferLikeSecond, byFloat(evalDetGrad[float32],
		evalDetGrad[float64]), reduceTol
	register(&Def{Name: "Det", Versions: []int64{11, 22},
		Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T"}}, Types: floatsT,
		Tol: reduceTol, Infer: inferDet, Eval: byFloat(evalDet[float32], evalDet[float64]),
		Grad: func(g *Grad) (err error) {
			if g.Wants[0] {
				g.DIn[0], err = g.One(GradDomain, "DetGrad", []string{g.DOut[0], g.In(0)})
			}
			return err
		}}, grad)
}

func inferDet(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	s := c.In[0].Shape
	if len(s) < 2 || !agree(s[len(s)-1], s[len(s)-2]) {
		return c.Node.Errorf("%s is no square matrix, nor a batch of them", shapeText(s))
	}
	c.Set(0, c.In[0].Type, s[:len(s)-2])
	return nil
}

// squareSide is the side of the matrices that a tensor of shape dims holds.
func squareSide(n *Node, dims []int64) (int, error) {
	r := len(dims)
	if r < 2 || dims[r-1] != dims[r-2] {
		return 0, n.Errorf("%s is no square matrix, nor a batch of them", dimsText(dims))
	}
	return int(dims[r-1]), nil
}

func evalDet[T floating](c *Eval) error {
	x := c.In[0]
	n, err := squareSide(c.Node, x.Dims)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims[:len(x.Dims)-2]...)
	if err != nil {
		return err
	}
	from, to, m := onnxio.Data[T](x), onnxio.Data[T](y), make([]float64, n*n)
	for i := range to {
		for k, v := range from[i*n*n:][:n*n] {
			m[k] = float64(v)
		}
		to[i] = T(determinant(m, n))
	}
	return nil
}

// determinant eliminates in place, with partial pivoting. That of no rows is 1.
func determinant(m []float64, n int) float64 {
	det := 1.0
	for k := range n {
		pivot := k
		for i := k + 1; i < n; i++ {
			if v := math.Abs(m[i*n+k]); v > math.Abs(m[pivot*n+k]) || v != v {
				pivot = i
			}
		}
		if pivot != k {
			det = -det
			for j := range n {
				m[k*n+j], m[pivot*n+j] = m[pivot*n+j], m[k*n+j]
			}
		}
		p := m[k*n+k]
		if det *= p; p == 0 {
			return det
		}
		for i := k + 1; i < n; i++ {
			f := m[i*n+k] / p
			for j := k; j < n; j++ {
				m[i*n+j] -= f * m[k*n+j]
			}
		}
	}
	return det
}

// maxCofactors bounds the side of a matrix whose cofactors are determinants of their own.
const maxCofactors = 64

// evalDetGrad is dy times the cofactors: the derivative of a determinant by an element is the determinant
// without its row and column, signed. That needs no inverse, so singular matrices have gradients too.
func evalDetGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	n, err := squareSide(c.Node, x.Dims)
	if err != nil {
		return err
	}
	if !equal(dy.Dims, x.Dims[:len(x.Dims)-2]) {
		return c.Node.Errorf("dy %s for %s", dimsText(dy.Dims), dimsText(x.Dims))
	}
	if n > maxCofactors {
		return c.Node.Errorf("no gradient for matrices of more than %d rows", maxCofactors)
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	from, to, minor := onnxio.Data[T](x), onnxio.Data[T](dx), make([]float64, 0, n*n)
	for i, d := range onnxio.Data[T](dy) {
		m := from[i*n*n:][:n*n]
		for k := range m {
			minor = minor[:0]
			for at, v := range m {
				if at/n != k/n && at%n != k%n {
					minor = append(minor, float64(v))
				}
			}
			v := determinant(minor, n-1)
			if (k/n+k%n)%2 != 0 {
				v = -v
			}
			to[i*n*n+k] = T(float64(d) * v)
		}
	}
	return nil
}
