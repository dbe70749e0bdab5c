package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Matrix products: float64 sums rounded once, as for convolutions.

func init() {
	types := map[string]TypeSet{"T": Floats | Set(onnxio.Int32, onnxio.Int64, onnxio.Uint32, onnxio.Uint64)}
	register(&Def{
		Name: "Gemm", Versions: []int64{1, 6, 7, 9, 11, 13}, Weights: []int{0, 1, 2},
		Inputs: []Param{{Name: "A", Type: "T"}, {Name: "B", Type: "T"}, {Name: "C", Type: "T", Until: 9},
			{Name: "C", Type: "T", Optional: true, Since: 11}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Attrs: []AttrDef{floatA("alpha"), floatA("beta"), intA("transA"), intA("transB"),
			intA("broadcast").until(6)},
		Types: types, Tol: convTol, Infer: inferGemm, Eval: evalGemm, Grad: gradGemm,
	}, &Def{
		Name: "MatMul", Versions: []int64{1, 9, 13}, Weights: []int{0, 1},
		Inputs: []Param{{Name: "A", Type: "T"}, {Name: "B", Type: "T"}}, Outputs: []Param{{Name: "Y",
			Type: "T"}},
		Types: types, Tol: convTol, Infer: inferMatMul, Eval: evalMatMul, Grad: gradMatMul,
	})
}

func inferGemm(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !c.Has(2) && c.Node.Since < 11 {
		return c.Node.Errorf("input C is missing; it is optional since opset 11")
	}
	a, b := c.In[0], c.In[1]
	c.SetType(0, a.Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	if len(a.Shape) != 2 || len(b.Shape) != 2 {
		return c.Node.Errorf("cannot multiply %s and %s: not matrices", shapeText(a.Shape),
			shapeText(b.Shape))
	}
	m, k, n, k2 := a.Shape[0], a.Shape[1], b.Shape[1], b.Shape[0]
	if c.Node.Int("transA", 0) != 0 {
		m, k = k, m
	}
	if c.Node.Int("transB", 0) != 0 {
		n, k2 = k2, n
	}
	if !agree(k, k2) {
		return c.Node.Errorf("cannot multiply %s and %s (transA %d, transB %d): inner dimensions %s",
			shapeText(a.Shape), shapeText(b.Shape), c.Node.Int("transA", 0), c.Node.Int("transB", 0),
			shapeText([]onnxio.Dim{k, k2}))
	}
	if shaped(c, 2) {
		s := c.In[2].Shape
		fits := len(s) <= 2
		for i, want := range []onnxio.Dim{n, m} {
			if j := len(s) - 1 - i; fits && j >= 0 && !agree(s[j], want) && s[j].Value != 1 {
				fits = false
			}
		}
		if !fits {
			return c.Node.Errorf("cannot broadcast C of shape %s to %s", shapeText(s),
				shapeText([]onnxio.Dim{m, n}))
		}
	}
	c.Set(0, a.Type, []onnxio.Dim{m, n})
	return nil
}

// evalMatrix dispatches a kernel over the types of matrix products; integers wrap around.
func evalMatrix(c *Eval, f32, f64, i32, i64 func(*Eval) error) error {
	if err := evalReady(c); err != nil {
		return err
	}
	switch c.In[0].Type {
	case onnxio.Int32, onnxio.Uint32: // the low bits do not depend on the sign
		return i32(c)
	case onnxio.Int64, onnxio.Uint64:
		return i64(c)
	}
	return byFloat(f32, f64)(c)
}

func evalGemm(c *Eval) error {
	return evalMatrix(c, gemm[float32, float64], gemm[float64, float64], gemm[int32, int32],
		gemm[int64, int64])
}

type number interface {
	float32 | float64 | int32 | int64
}

// matrix is a strided view of a row-major matrix.
type matrix[T number] struct {
	data         []T
	rows, cols   int
	rowBy, colBy int
}

func matrixOf[T number](data []T, rows, cols int, transposed bool) matrix[T] {
	m := matrix[T]{data, rows, cols, cols, 1}
	if transposed {
		m.rows, m.cols, m.rowBy, m.colBy = cols, rows, 1, cols
	}
	return m
}

func gemm[T, A number](c *Eval) error {
	n, ta, tb := c.Node, c.In[0], c.In[1]
	if len(ta.Dims) != 2 || len(tb.Dims) != 2 {
		return n.Errorf("cannot multiply %s and %s: not matrices", dimsText(ta.Dims), dimsText(tb.Dims))
	}
	a := matrixOf(onnxio.Data[T](ta), int(ta.Dims[0]), int(ta.Dims[1]), n.Int("transA", 0) != 0)
	b := matrixOf(onnxio.Data[T](tb), int(tb.Dims[0]), int(tb.Dims[1]), n.Int("transB", 0) != 0)
	if a.cols != b.rows {
		return n.Errorf("cannot multiply %s and %s", dimsText(ta.Dims), dimsText(tb.Dims))
	}
	y, err := c.Alloc(0, ta.Type, int64(a.rows), int64(b.cols))
	if err != nil {
		return err
	}
	add := matrix[T]{}
	if c.Has(2) {
		var ok bool
		if add, ok = addend(onnxio.Data[T](c.In[2]), c.In[2].Dims, a.rows, b.cols); !ok {
			return n.Errorf("cannot broadcast C of shape %s to %s", dimsText(c.In[2].Dims), dimsText(y.Dims))
		}
	}
	product[T, A](onnxio.Data[T](y), a, b, n.Float("alpha", 1), add, n.Float("beta", 1))
	return nil
}

// addend views Gemm's C as rows by cols, strides 0 where it is broadcast.
func addend[T number](data []T, dims []int64, rows, cols int) (m matrix[T], ok bool) {
	m = matrix[T]{data: data, rows: rows, cols: cols}
	if len(dims) > 2 {
		return m, false
	}
	r, k := 1, 1
	if len(dims) > 0 {
		k = int(dims[len(dims)-1])
	}
	if len(dims) > 1 {
		r = int(dims[0])
	}
	if (r != 1 && r != rows) || (k != 1 && k != cols) {
		return m, false
	}
	if k != 1 {
		m.colBy = 1
	}
	if r != 1 {
		m.rowBy = k
	}
	return m, true
}

// product is y = alpha*a*b + beta*add, sums in A; add without data is no addend.
func product[T, A number](y []T, a, b matrix[T], alpha float32, add matrix[T], beta float32) {
	var acc [tile]A
	for i := 0; i < a.rows; i++ {
		for lo := 0; lo < b.cols; lo += tile {
			sum := acc[:min(tile, b.cols-lo)]
			clear(sum)
			if b.colBy == 1 {
				addRows(sum, a, i, b, lo)
			} else {
				for j := range sum {
					sum[j] = dotOf[T, A](a, i, b, lo+j)
				}
			}
			out := y[i*b.cols+lo:][:len(sum)]
			for j, s := range sum {
				if alpha != 1 {
					s = A(float64(alpha) * float64(s))
				}
				if add.data != nil && beta != 0 {
					v := A(add.data[i*add.rowBy+(lo+j)*add.colBy])
					if beta != 1 {
						v = A(float64(beta) * float64(v))
					}
					s += v
				}
				out[j] = T(s)
			}
		}
	}
}

// addRows adds a[i,k]*b[k,lo+j] over k to sum[j].
func addRows[T, A number](sum []A, a matrix[T], i int, b matrix[T], lo int) {
	for k := 0; k < a.cols; k++ {
		f := A(a.data[i*a.rowBy+k*a.colBy])
		for j, v := range b.data[k*b.rowBy+lo:][:len(sum)] {
			sum[j] += f * A(v)
		}
	}
}

// dotOf is the sum over k of a[i,k]*b[k,j].
func dotOf[T, A number](a matrix[T], i int, b matrix[T], j int) (sum A) {
	ai, bi := i*a.rowBy, j*b.colBy
	for k := 0; k < a.cols; k++ {
		sum += A(a.data[ai]) * A(b.data[bi])
		ai += a.colBy
		bi += b.rowBy
	}
	return sum
}

// gradGemm: with A' and B' as multiplied, dA' = alpha*dY*B'^T, dB' = alpha*A'^T*dY and dC = beta*dY summed
// over what was broadcast. A transposed operand swaps the factors.
func gradGemm(g *Grad) (err error) {
	n, dy := g.Node, g.DOut[0]
	alpha := onnxio.FloatAttr("alpha", n.Float("alpha", 1))
	transA, transB := n.Int("transA", 0) != 0, n.Int("transB", 0) != 0
	gemm := func(x, y string, tx, ty bool) (string, error) {
		return g.One("", "Gemm", []string{x, y}, alpha, flagAttr("transA", tx), flagAttr("transB", ty))
	}
	if g.Wants[0] {
		if transA {
			g.DIn[0], err = gemm(g.In(1), dy, transB, true)
		} else {
			g.DIn[0], err = gemm(dy, g.In(1), false, !transB)
		}
		if err != nil {
			return err
		}
	}
	if g.Wants[1] {
		if transB {
			g.DIn[1], err = gemm(dy, g.In(0), true, transA)
		} else {
			g.DIn[1], err = gemm(g.In(0), dy, !transA, false)
		}
		if err != nil {
			return err
		}
	}
	if len(g.Wants) < 3 || !g.Wants[2] {
		return nil
	}
	d := dy
	if beta := n.Float("beta", 1); beta != 1 {
		if d, err = scaled(g, d, float64(beta)); err != nil {
			return err
		}
	}
	g.DIn[2], err = sumTo(g, d, g.In(2))
	return err
}

func flagAttr(name string, on bool) *onnxio.Attribute {
	if on {
		return onnxio.IntAttr(name, 1)
	}
	return onnxio.IntAttr(name, 0)
}

// scaled multiplies a value by a constant.
func scaled(g *Grad, name string, by float64) (string, error) {
	return g.One("", "Mul", []string{name, g.Const(floatScalar(g.Value(name).Type, by))})
}

// floatScalar is a rank-0 tensor of a floating type.
func floatScalar(t onnxio.DataType, v float64) *onnxio.Tensor {
	if t == onnxio.Double {
		return onnxio.Scalar(t, v)
	}
	return onnxio.Scalar(onnxio.Float, float32(v))
}
