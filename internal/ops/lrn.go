package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Normalisations without parameters: LRN, LpNormalization, MeanVarianceNormalization.

func init() {
	one := func(name string, versions []int64, attrs ...AttrDef) *Def {
		return &Def{Name: name, Versions: versions, Attrs: attrs, Types: floatsT, Tol: normTol,
			Infer:  inferSame,
			Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T"}}}
	}
	lrnAttrs := []AttrDef{intA("size").required(), floatA("alpha"), floatA("beta"), floatA("bias")}
	lpAttrs := []AttrDef{intA("axis"), intA("p")}
	lrn, lp := one("LRN", []int64{1, 13}, lrnAttrs...), one("LpNormalization", []int64{1, 22}, lpAttrs...)
	lp.Inputs[0].Name, lp.Outputs[0].Name = "input", "output"
	mvn := one("MeanVarianceNormalization", []int64{9, 13}, intsA("axes"))
	lrn.Eval, lrn.Grad = byFloat(evalLRN[float32], evalLRN[float64]), gradOfX("LRNGrad")
	lp.Eval, lp.Grad = byFloat(evalLpNorm[float32], evalLpNorm[float64]), gradOfX("LpNormalizationGrad")
	mvn.Eval = byFloat(evalMVN[float32], evalMVN[float64])
	lrnGrad := gradDef("LRNGrad", []string{"dy", "x"}, []string{"dx"}, lrnAttrs...)
	lrnGrad.Infer, lrnGrad.Eval, lrnGrad.Tol = inferSameShapes, byFloat(evalLRNGrad[float32],
		evalLRNGrad[float64]), normTol
	lpGrad := gradDef("LpNormalizationGrad", []string{"dy", "x"}, []string{"dx"}, lpAttrs...)
	lpGrad.Infer, lpGrad.Eval, lpGrad.Tol = inferSameShapes, byFloat(evalLpNormGrad[float32],
		evalLpNormGrad[float64]), normTol
	register(lrn, lp, mvn, lrnGrad, lpGrad)
}

// gradOfX is the gradient of an operator of one input by op(dy, x) with the same attributes.
func gradOfX(op string) func(*Grad) error {
	return func(g *Grad) (err error) {
		if g.Wants[0] {
			g.DIn[0], err = g.One(GradDomain, op, []string{g.DOut[0], g.In(0)}, g.Node.Attrs...)
		}
		return err
	}
}

// lrnParams are LRN's attributes and the planes of its input; back and ahead are how many channels before and
// after one its window holds.
type lrnParams struct {
	n, c, plane         int
	back, ahead         int
	alpha, beta, offset float64 // alpha already divided by size
}

func newLRN(n *Node, x []int64) (p lrnParams, err error) {
	size := n.Int("size", 0)
	if len(x) < 2 || size < 1 {
		return p, n.Errorf("input %s, size %d", dimsText(x), size)
	}
	p = lrnParams{n: int(x[0]), c: int(x[1]), plane: sizeOf(x[2:])}
	reach := min(size-1, 2*x[1]) // beyond the channels on both sides makes no difference
	p.back, p.ahead = int(reach/2), int(reach-reach/2)
	p.alpha = float64(n.Float("alpha", 1e-4)) / float64(size)
	p.beta, p.offset = float64(n.Float("beta", 0.75)), float64(n.Float("bias", 1))
	return p, nil
}

// base is bias + alpha/size * the sum of squares over the channels around channel k at element i of sample b.
func lrnBase[T floating](p *lrnParams, x []T, b, k, i int) float64 {
	sum := 0.0
	for j := max(0, k-p.back); j <= min(p.c-1, k+p.ahead); j++ {
		v := float64(x[(b*p.c+j)*p.plane+i])
		sum += v * v
	}
	return p.offset + p.alpha*sum
}

func evalLRN[T floating](c *Eval) error {
	x := c.In[0]
	p, err := newLRN(c.Node, x.Dims)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for at := range dst {
		b, k, i := at/(p.c*p.plane), at/p.plane%p.c, at%p.plane
		dst[at] = T(float64(src[at]) * math.Pow(lrnBase(&p, src, b, k, i), -p.beta))
	}
	return nil
}

// evalLRNGrad, with s the base of each element: dx = dy*s^-beta - 2*alpha*beta/size * x * sum of
// dy*x*s^(-beta-1) over the channels in whose window this one is.
func evalLRNGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	p, err := newLRN(c.Node, x.Dims)
	if err != nil {
		return err
	}
	if !equal(dy.Dims, x.Dims) {
		return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(x.Dims))
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src, grad := onnxio.Data[T](dx), onnxio.Data[T](x), onnxio.Data[T](dy)
	for at := range dst {
		b, k, i := at/(p.c*p.plane), at/p.plane%p.c, at%p.plane
		sum := 0.0
		for j := max(0, k-p.ahead); j <= min(p.c-1, k+p.back); j++ {
			o := (b*p.c+j)*p.plane + i
			sum += float64(grad[o]) * float64(src[o]) * math.Pow(lrnBase(&p, src, b, j, i), -p.beta-1)
		}
		dst[at] = T(float64(grad[at])*math.Pow(lrnBase(&p, src, b, k, i), -p.beta) -
			2*p.alpha*p.beta*float64(src[at])*sum)
	}
	return nil
}

// lpLines gives the lines of LpNormalization and its p.
func lpLines(n *Node, dims []int64) (ls lines, p int64, err error) {
	if p = n.Int("p", 2); p != 1 && p != 2 {
		return ls, p, n.Errorf("p %d is not 1 or 2", p)
	}
	axis, err := normAxis(n, len(dims))
	if err != nil {
		return ls, p, err
	}
	inner := sizeOf(dims[axis+1:])
	return lines{sizeOf(dims[:axis]) * inner, inner, int(dims[axis])}, p, nil
}

// lpNorm is the norm of a line.
func lpNorm[T floating](x []T, l line, p int64) float64 {
	sum := 0.0
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		if v := float64(x[i]); p == 1 {
			sum += math.Abs(v)
		} else {
			sum += v * v
		}
	}
	if p == 1 {
		return sum
	}
	return math.Sqrt(sum)
}

// evalLpNorm divides every line by its norm; a line of zeros stays.
func evalLpNorm[T floating](c *Eval) error {
	x := c.In[0]
	ls, p, err := lpLines(c.Node, x.Dims)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for j := 0; j < ls.count; j++ {
		l := ls.line(j)
		norm := lpNorm(src, l, p)
		if norm == 0 {
			norm = 1
		}
		for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
			dst[i] = T(float64(src[i]) / norm)
		}
	}
	return nil
}

// evalLpNormGrad, with y = x/norm and s = sum dy*y: dx = (dy - s*y)/norm for p 2, (dy
// - s*sign x)/norm for p 1.
func evalLpNormGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	ls, p, err := lpLines(c.Node, x.Dims)
	if err != nil {
		return err
	}
	if !equal(dy.Dims, x.Dims) {
		return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(x.Dims))
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src, grad := onnxio.Data[T](dx), onnxio.Data[T](x), onnxio.Data[T](dy)
	for j := 0; j < ls.count; j++ {
		l := ls.line(j)
		norm := lpNorm(src, l, p)
		if norm == 0 {
			norm = 1
		}
		sum := 0.0
		for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
			sum += float64(grad[i]) * float64(src[i]) / norm
		}
		for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
			v := float64(src[i]) / norm
			if p == 1 {
				v = step(v) - step(-v)
			}
			dst[i] = T((float64(grad[i]) - sum*v) / norm)
		}
	}
	return nil
}

// evalMVN is (x-mean)/(deviation+1e-9) over axes, default [0,2,3].
func evalMVN[T floating](c *Eval) error {
	x := c.In[0]
	rank := int64(len(x.Dims))
	reduced := make([]bool, rank)
	for _, a := range c.Node.Ints("axes", 0, 2, 3) {
		if a < -rank || a >= rank {
			return c.Node.Errorf("axis %d of input %s", a, dimsText(x.Dims))
		}
		reduced[(a+rank)%rank] = true
	}
	// The statistics' shape is x's with 1 for the reduced dimensions.
	kept := make([]int64, rank)
	for i, d := range x.Dims {
		if kept[i] = d; reduced[i] {
			kept[i] = 1
		}
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	mean, variance := make([]float64, sizeOf(kept)), make([]float64, sizeOf(kept))
	if len(src) == 0 {
		return nil
	}
	count := float64(len(src) / len(mean))
	for i, v := range src {
		mean[batchAt(i, x.Dims, kept)] += float64(v) / count
	}
	for i, v := range src {
		k := batchAt(i, x.Dims, kept)
		d := float64(v) - mean[k]
		variance[k] += d * d / count
	}
	for i, v := range src {
		k := batchAt(i, x.Dims, kept)
		dst[i] = T((float64(v) - mean[k]) / (math.Sqrt(variance[k]) + 1e-9))
	}
	return nil
}
