package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Softmax, LogSoftmax and Hardmax. Before version 13 they flatten the input to two dimensions at axis
// (default 1) and work on rows; since then they work along the one dimension axis (default -1).

func init() {
	axis := intA("axis")
	family := func(name string) *Def {
		return &Def{Name: name, Versions: []int64{1, 11, 13}, Attrs: []AttrDef{axis}, Types: floatsT,
			Tol:    activationTol,
			Inputs: []Param{{Name: "input", Type: "T"}}, Outputs: []Param{{Name: "output", Type: "T"}},
			Infer: inferSoftmax}
	}
	softmax, logSoftmax, hardmax := family("Softmax"), family("LogSoftmax"), family("Hardmax")
	softmax.Eval = byFloat(alongAxis(softmaxLine[float32]), alongAxis(softmaxLine[float64]))
	softmax.Grad = gradSoftmax("SoftmaxGrad")
	logSoftmax.Eval = byFloat(alongAxis(logSoftmaxLine[float32]), alongAxis(logSoftmaxLine[float64]))
	logSoftmax.Grad = gradSoftmax("LogSoftmaxGrad")
	hardmax.Eval, hardmax.Tol = byFloat(alongAxis(hardmaxLine[float32]), alongAxis(hardmaxLine[float64])),
		Tolerance{}
	grad := func(name string) *Def {
		d := gradDef(name, []string{"dy", "y"}, []string{"dx"}, axis, intA("flatten"))
		d.Infer, d.Tol = inferSameShapes, activationTol
		return d
	}
	softmaxGrad, logSoftmaxGrad := grad("SoftmaxGrad"), grad("LogSoftmaxGrad")
	softmaxGrad.Eval = byFloat(alongAxisGrad(softmaxGradLine[float32]),
		alongAxisGrad(softmaxGradLine[float64]))
	logSoftmaxGrad.Eval = byFloat(alongAxisGrad(logSoftmaxGradLine[float32]),
		alongAxisGrad(logSoftmaxGradLine[float64]))
	register(softmax, logSoftmax, hardmax, softmaxGrad, logSoftmaxGrad)
}

// flattens says whether the node works on rows of the flattened input. Gradients carry it as an attribute.
func flattens(n *Node) bool {
	if n.Domain == GradDomain {
		return n.Int("flatten", 0) != 0
	}
	return n.Since < 13
}

// softmaxAxis is the axis of a node over an input of the given rank.
func softmaxAxis(n *Node, rank int) (int, error) {
	def := int64(-1)
	if flattens(n) {
		def = 1
	}
	axis, r := n.Int("axis", def), int64(rank)
	limit := r - 1
	if flattens(n) {
		limit = r // rows of one element
	}
	if axis < -r || axis > max(limit, 0) {
		return 0, n.Errorf("axis %d of an input of %d dimensions", axis, rank)
	}
	if axis < 0 {
		axis += r
	}
	return int(axis), nil
}

func inferSoftmax(c *Infer) error {
	if err := inferSame(c); err != nil || !c.In[0].HasShape {
		return err
	}
	_, err := softmaxAxis(c.Node, len(c.In[0].Shape))
	return err
}

// line is length elements at at, at+by, at+2*by, ...
type line struct{ at, by, length int }

// lines is how many lines a tensor has along an axis; line i of them.
type lines struct{ count, inner, length int }

func (l lines) line(i int) line {
	return line{i/l.inner*l.inner*l.length + i%l.inner, l.inner, l.length}
}

func linesOf(n *Node, dims []int64) (l lines, err error) {
	axis, err := softmaxAxis(n, len(dims))
	if err != nil {
		return l, err
	}
	if flattens(n) {
		return lines{sizeOf(dims[:axis]), 1, sizeOf(dims[axis:])}, nil
	}
	if len(dims) == 0 {
		return lines{1, 1, 1}, nil
	}
	outer, inner := sizeOf(dims[:axis]), sizeOf(dims[axis+1:])
	return lines{outer * inner, inner, int(dims[axis])}, nil
}

func alongAxis[T floating](f func(y, x []T, l line)) func(*Eval) error {
	return func(c *Eval) error {
		x := c.In[0]
		ls, err := linesOf(c.Node, x.Dims)
		if err != nil {
			return err
		}
		y, err := c.Alloc(0, x.Type, x.Dims...)
		if err != nil || ls.length == 0 {
			return err
		}
		dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
		for i := 0; i < ls.count; i++ {
			f(dst, src, ls.line(i))
		}
		return nil
	}
}

func alongAxisGrad[T floating](f func(dx, dy, y []T, l line)) func(*Eval) error {
	return func(c *Eval) error {
		dy, y := c.In[0], c.In[1]
		if !equal(dy.Dims, y.Dims) {
			return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(y.Dims))
		}
		ls, err := linesOf(c.Node, y.Dims)
		if err != nil {
			return err
		}
		dx, err := c.Alloc(0, y.Type, y.Dims...)
		if err != nil {
			return err
		}
		d, g, v := onnxio.Data[T](dx), onnxio.Data[T](dy), onnxio.Data[T](y)
		for i := 0; i < ls.count; i++ {
			f(d, g, v, ls.line(i))
		}
		return nil
	}
}

// peak is the largest element of a line and the index within it of the first such.
func peak[T floating](x []T, l line) (best T, at int) {
	best = x[l.at]
	for k, i := 1, l.at+l.by; k < l.length; k, i = k+1, i+l.by {
		if x[i] > best {
			best, at = x[i], k
		}
	}
	return best, at
}

// expSum is the sum of exp(x - top).
func expSum[T floating](x []T, l line, top T) float64 {
	sum := 0.0
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		sum += math.Exp(float64(x[i]) - float64(top))
	}
	return sum
}

// softmaxLine is y = exp(x-max) / sum exp(x-max).
func softmaxLine[T floating](y, x []T, l line) {
	top, _ := peak(x, l)
	sum := expSum(x, l, top)
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		y[i] = T(math.Exp(float64(x[i])-float64(top)) / sum)
	}
}

// logSoftmaxLine is y = x - max - log sum exp(x-max).
func logSoftmaxLine[T floating](y, x []T, l line) {
	top, _ := peak(x, l)
	shift := float64(top) + math.Log(expSum(x, l, top))
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		y[i] = T(float64(x[i]) - shift)
	}
}

// hardmaxLine is 1 at the first maximum, 0 elsewhere.
func hardmaxLine[T floating](y, x []T, l line) {
	_, at := peak(x, l)
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		y[i] = 0
		if k == at {
			y[i] = 1
		}
	}
}

// softmaxGradLine is dx = y * (dy - sum dy*y).
func softmaxGradLine[T floating](dx, dy, y []T, l line) {
	sum := 0.0
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		sum += float64(dy[i]) * float64(y[i])
	}
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		dx[i] = T(float64(y[i]) * (float64(dy[i]) - sum))
	}
}

// logSoftmaxGradLine is dx = dy - exp(y) * sum dy.
func logSoftmaxGradLine[T floating](dx, dy, y []T, l line) {
	sum := 0.0
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		sum += float64(dy[i])
	}
	for k, i := 0, l.at; k < l.length; k, i = k+1, i+l.by {
		dx[i] = T(float64(dy[i]) - math.Exp(float64(y[i]))*sum)
	}
}

func gradSoftmax(op string) func(*Grad) error {
	return func(g *Grad) (err error) {
		if !g.Wants[0] {
			return nil
		}
		axis, err := softmaxAxis(g.Node, len(g.Dims(g.Out(0))))
		if err != nil {
			return err
		}
		g.DIn[0], err = g.One(GradDomain, op, []string{g.DOut[0], g.Out(0)},
			onnxio.IntAttr("axis", int64(axis)),
			flagAttr("flatten", flattens(g.Node)))
		return err
	}
}
