package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

func inferMatMul(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	a, b := c.In[0].Shape, c.In[1].Shape
	bad := func(why string) error {
		return c.Node.Errorf("cannot multiply %s and %s: %s", shapeText(a), shapeText(b), why)
	}
	if len(a) == 0 || len(b) == 0 {
		return bad("a scalar is not a matrix")
	}
	va, vb := len(a) == 1, len(b) == 1
	x, y := a, b
	if va {
		x = []onnxio.Dim{knownDim(1), a[0]}
	}
	if vb {
		y = []onnxio.Dim{b[0], knownDim(1)}
	}
	if !agree(x[len(x)-1], y[len(y)-2]) {
		return bad("inner dimensions differ")
	}
	batchX, batchY := x[:len(x)-2], y[:len(y)-2]
	shape := make([]onnxio.Dim, max(len(batchX), len(batchY)))
	for i := range shape {
		d, e := knownDim(1), knownDim(1)
		if j := i - len(shape) + len(batchX); j >= 0 {
			d = batchX[j]
		}
		if j := i - len(shape) + len(batchY); j >= 0 {
			e = batchY[j]
		}
		switch {
		case d.Known() && d.Value == 1:
			shape[i] = e
		case e.Known() && e.Value == 1:
			shape[i] = d
		case !agree(d, e):
			return bad("batch dimensions do not broadcast")
		case d.Known():
			shape[i] = d
		case e.Known(), d.Param == e.Param:
			shape[i] = e
		default:
			shape[i] = unknownDim
		}
	}
	if !va {
		shape = append(shape, x[len(x)-2])
	}
	if !vb {
		shape = append(shape, y[len(y)-1])
	}
	c.Set(0, c.In[0].Type, shape)
	return nil
}

func evalMatMul(c *Eval) error {
	return evalMatrix(c, matMul[float32, float64], matMul[float64, float64], matMul[int32, int32],
		matMul[int64, int64])
}

// maxRank bounds the shapes that kernels hold on their stack.
const maxMatMulRank = 8

func matMul[T, A number](c *Eval) error {
	n, ta, tb := c.Node, c.In[0], c.In[1]
	bad := func() error { return n.Errorf("cannot multiply %s and %s", dimsText(ta.Dims), dimsText(tb.Dims)) }
	if len(ta.Dims) == 0 || len(tb.Dims) == 0 || len(ta.Dims) > maxMatMulRank ||
		len(tb.Dims) > maxMatMulRank {
		return bad()
	}
	var bufA, bufB, bufY [maxMatMulRank + 2]int64
	da, db := append(bufA[:0], ta.Dims...), append(bufB[:0], tb.Dims...)
	if len(da) == 1 {
		da = append(da[:0], 1, ta.Dims[0])
	}
	if len(db) == 1 {
		db = append(db, 1)
	}
	rows, inner, cols := int(da[len(da)-2]), int(da[len(da)-1]), int(db[len(db)-1])
	if inner != int(db[len(db)-2]) {
		return bad()
	}
	da, db = da[:len(da)-2], db[:len(db)-2]
	rank := max(len(da), len(db))
	dy, batches := bufY[:rank], 1
	for i := range dy {
		x, y := dimFromEnd(da, rank-i), dimFromEnd(db, rank-i)
		if x != y && x != 1 && y != 1 {
			return bad()
		}
		dy[i] = x
		if x == 1 {
			dy[i] = y
		}
		batches *= int(dy[i])
	}
	shape := dy
	if len(ta.Dims) > 1 {
		shape = append(shape, int64(rows))
	}
	if len(tb.Dims) > 1 {
		shape = append(shape, int64(cols))
	}
	y, err := c.Alloc(0, ta.Type, shape...)
	if err != nil {
		return err
	}
	a, b, out := onnxio.Data[T](ta), onnxio.Data[T](tb), onnxio.Data[T](y)
	for i := 0; i < batches; i++ {
		ma := matrixOf(a[batchAt(i, dy, da)*rows*inner:], rows, inner, false)
		mb := matrixOf(b[batchAt(i, dy, db)*inner*cols:], inner, cols, false)
		product[T, A](out[i*rows*cols:][:rows*cols], ma, mb, 1, matrix[T]{}, 0)
	}
	return nil
}

// dimFromEnd is the i-th dimension from the end, counted from 1; 1 beyond the first.
func dimFromEnd(dims []int64, i int) int64 {
	if i > len(dims) {
		return 1
	}
	return dims[len(dims)-i]
}

// batchAt is the index into a batch of shape own of the i-th element of shape full,
// to which own is broadcast.
func batchAt(i int, full, own []int64) int {
	at, step := 0, 1
	for j := 1; j <= len(full); j++ {
		d := int(full[len(full)-j])
		if own := int(dimFromEnd(own, j)); own != 1 {
			at += i % d * step
			step *= own
		}
		i /= d
	}
	return at
}

// gradMatMul: dA = dY*B^T and dB = A^T*dY, summed over broadcast batches. Vectors are made matrices first.
func gradMatMul(g *Grad) (err error) {
	a, b, dy := g.In(0), g.In(1), g.DOut[0]
	da, db, dd := g.Dims(a), g.Dims(b), g.Dims(dy)
	if len(da) == 0 || len(db) == 0 {
		return g.Node.Errorf("gradient needs known shapes")
	}
	wantDims := append([]int64{}, dd...)
	if len(da) == 1 {
		if a, err = reshaped(g, a, append([]int64{1}, da...)); err != nil {
			return err
		}
		wantDims = append(wantDims[:max(len(db)-2, 0):max(len(db)-2, 0)],
			append([]int64{1}, wantDims[max(len(db)-2, 0):]...)...)
	}
	if len(db) == 1 {
		if b, err = reshaped(g, b, append(append([]int64{}, db...), 1)); err != nil {
			return err
		}
		wantDims = append(wantDims, 1)
	}
	if !equal(wantDims, dd) {
		if dy, err = reshaped(g, dy, wantDims); err != nil {
			return err
		}
	}
	if g.Wants[0] {
		if g.DIn[0], err = gradOperand(g, b, da, g.Dims(a), func(bt string) (string, error) {
			return g.One("", "MatMul", []string{dy, bt})
		}); err != nil {
			return err
		}
	}
	if g.Wants[1] {
		g.DIn[1], err = gradOperand(g, a, db, g.Dims(b), func(at string) (string, error) {
			return g.One("", "MatMul", []string{at, dy})
		})
	}
	return err
}

// gradOperand multiplies with the other operand transposed, sums to the shape as a matrix
// and restores the own shape.
func gradOperand(g *Grad, other string, own, asMatrix []int64, mul func(string) (string, error)) (string,
	error) {
	rank := len(g.Dims(other))
	perm := make([]int64, rank)
	for i := range perm {
		perm[i] = int64(i)
	}
	perm[rank-1], perm[rank-2] = perm[rank-2], perm[rank-1]
	t, err := g.One("", "Transpose", []string{other}, onnxio.IntsAttr("perm", perm...))
	if err != nil {
		return "", err
	}
	d, err := mul(t)
	if err != nil {
		return "", err
	}
	if !equal(g.Dims(d), asMatrix) {
		if d, err = g.One(GradDomain, "SumTo", []string{d},
			onnxio.IntsAttr("shape", asMatrix...)); err != nil {
			return "", err
		}
	}
	if !equal(asMatrix, own) {
		return reshaped(g, d, own)
	}
	return d, nil
}

// reshaped gives a value another shape.
func reshaped(g *Grad, name string, dims []int64) (string, error) {
	return g.One("", "Reshape", []string{name, g.Const(onnxio.Int64s(append([]int64{}, dims...)))})
}
