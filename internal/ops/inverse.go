package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Inverse and CDist of com.microsoft.

func init() {
	register(
		contrib(&Def{Name: "Inverse", Inputs: formals("X T"), Outputs: formals("Y T"),
			Types: map[string]TypeSet{"T": Set(onnxio.Float16, onnxio.Float, onnxio.Double)},
			Tol:   Tolerance{1e-4, 1e-3},
			Infer: inferInverse, Eval: byFloat(evalInverse[float32], evalInverse[float64])}),
		contrib(&Def{Name: "CDist", Inputs: formals("A T, B T"), Outputs: formals("C T"), Tol: convTol,
			Attrs: []AttrDef{stringA("metric")}, Types: map[string]TypeSet{"T": wideFloats},
			Infer: inferCDist, Eval: byFloat(evalCDist[float32], evalCDist[float64])}))
}

func inferInverse(c *Infer) error {
	if err := inferSame(c); err != nil || !c.In[0].HasShape {
		return err
	}
	s := c.In[0].Shape
	if len(s) < 2 || !agree(s[len(s)-1], s[len(s)-2]) {
		return c.Node.Errorf("%s are no square matrices", shapeText(s))
	}
	return nil
}

func evalInverse[T floating](c *Eval) error {
	x := c.In[0]
	rank := len(x.Dims)
	if rank < 2 || x.Dims[rank-1] != x.Dims[rank-2] {
		return c.Node.Errorf("%s are no square matrices", dimsText(x.Dims))
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	n := int(x.Dims[rank-1])
	from, to := onnxio.Data[T](x), onnxio.Data[T](y)
	for at := 0; at < len(from); at += n * n {
		if !invert(to[at:][:n*n], from[at:][:n*n], n) {
			return c.Node.Errorf("matrix %d is singular", at/(n*n))
		}
	}
	return nil
}

// invert eliminates with the greatest pivot of each column, in float64; false for a singular matrix.
func invert[T floating](dst, src []T, n int) bool {
	a := make([]float64, n*2*n) // [src | identity]
	for r := range n {
		for k := range n {
			a[r*2*n+k] = float64(src[r*n+k])
		}
		a[r*2*n+n+r] = 1
	}
	row := func(r int) []float64 { return a[r*2*n:][:2*n] }
	for k := range n {
		pivot := k
		for r := k + 1; r < n; r++ {
			if math.Abs(row(r)[k]) > math.Abs(row(pivot)[k]) {
				pivot = r
			}
		}
		p := row(pivot)[k]
		if p == 0 || p != p {
			return false
		}
		for i := range 2 * n {
			row(k)[i], row(pivot)[i] = row(pivot)[i], row(k)[i]
			row(k)[i] /= p
		}
		for r := range n {
			if f := row(r)[k]; r != k && f != 0 {
				for i, v := range row(k) {
					row(r)[i] -= f * v
				}
			}
		}
	}
	for r := range n {
		for k := range n {
			dst[r*n+k] = T(a[r*2*n+n+k])
		}
	}
	return true
}

func inferCDist(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if _, err := squared(c.Node); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	a, b := c.In[0].Shape, c.In[1].Shape
	if len(a) != 2 || len(b) != 2 || !agree(a[1], b[1]) {
		return c.Node.Errorf("distances of %s to %s", shapeText(a), shapeText(b))
	}
	c.Set(0, c.In[0].Type, []onnxio.Dim{a[0], b[0]})
	return nil
}

// squared reports whether distances are left squared.
func squared(n *Node) (bool, error) {
	switch m := n.Str("metric", "sqeuclidean"); m {
	case "sqeuclidean":
		return true, nil
	case "euclidean":
		return false, nil
	default:
		return false, n.Errorf("metric %q is not implemented", m)
	}
}

func evalCDist[T floating](c *Eval) error {
	a, b := c.In[0], c.In[1]
	square, err := squared(c.Node)
	if err != nil {
		return err
	}
	if len(a.Dims) != 2 || len(b.Dims) != 2 || a.Dims[1] != b.Dims[1] {
		return c.Node.Errorf("distances of %s to %s", dimsText(a.Dims), dimsText(b.Dims))
	}
	y, err := c.Alloc(0, a.Type, a.Dims[0], b.Dims[0])
	if err != nil {
		return err
	}
	p, q, to, d := onnxio.Data[T](a), onnxio.Data[T](b), onnxio.Data[T](y), int(a.Dims[1])
	for i := range to {
		u, v := p[i/int(b.Dims[0])*d:][:d], q[i%int(b.Dims[0])*d:][:d]
		sum := 0.0
		for k := range u {
			diff := float64(u[k]) - float64(v[k])
			sum += diff * diff
		}
		if !square {
			sum = math.Sqrt(sum)
		}
		to[i] = T(sum)
	}
	return nil
}
