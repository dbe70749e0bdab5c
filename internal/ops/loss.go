package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Losses over classes: x is [N,C,d1,...], the target [N,d1,...] of class numbers, the weight [C].
// Position p of the target has loss -weight[t]*x[n,t,d], nothing where t is ignore_index; "mean" divides
// the sum by the weights' sum.

func init() {
	attrs := []AttrDef{stringA("reduction"), intA("ignore_index")}
	types := map[string]TypeSet{"T": Floats, "Tind": Indices}
	target := Param{Name: "target", Type: "Tind"}
	weight := Param{Name: "weight", Type: "T", Optional: true}
	nll := &Def{
		Name: "NegativeLogLikelihoodLoss", Versions: []int64{12, 13, 22},
		Inputs: []Param{{Name: "input", Type: "T"}, target, weight}, Outputs: []Param{{Name: "loss",
			Type: "T"}},
		Attrs: attrs, Types: types, Tol: averageTol, Check: checkReduction, Infer: inferLoss,
		Eval: byFloat(evalNLL[float32], evalNLL[float64]), Grad: gradNLL,
	}
	cross := &Def{
		Name: "SoftmaxCrossEntropyLoss", Versions: []int64{12, 13},
		Inputs: []Param{{Name: "scores", Type: "T"}, {Name: "labels", Type: "Tind"},
			{Name: "weights", Type: "T", Optional: true}},
		Outputs: []Param{{Name: "output", Type: "T"}, {Name: "log_prob", Type: "T", Optional: true}},
		Attrs:   attrs, Types: types, Tol: averageTol, Check: checkReduction, Infer: inferLoss,
		Eval: byFloat(evalCrossEntropy[float32], evalCrossEntropy[float64]), Grad: gradCrossEntropy,
	}
	grad := func(name, x string) *Def {
		d := gradDef(name, []string{"dloss", x}, []string{"dx"}, attrs...)
		d.Inputs = append(d.Inputs, target, weight)
		d.Types, d.Tol = types, averageTol
		d.Infer = func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			setLike(c, 0, c.In[1])
			return nil
		}
		return d
	}
	nllGrad, crossGrad := grad("NegativeLogLikelihoodLossGrad", "x"), grad("SoftmaxCrossEntropyLossGrad",
		"log_prob")
	nllGrad.Eval = byFloat(evalLossGrad(nllGradKernel[float32]), evalLossGrad(nllGradKernel[float64]))
	crossGrad.Eval = byFloat(evalLossGrad(crossEntropyGradKernel[float32]),
		evalLossGrad(crossEntropyGradKernel[float64]))
	register(nll, cross, nllGrad, crossGrad)
}

func checkReduction(n *Node) error {
	switch r := n.Str("reduction", "mean"); r {
	case "mean", "sum", "none":
		return nil
	default:
		return n.Errorf("reduction %q is not none, mean or sum", r)
	}
}

func inferLoss(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := checkReduction(c.Node); err != nil {
		return err
	}
	x, target := c.In[0], c.In[1]
	if c.SetType(0, x.Type); x.HasShape {
		c.Set(1, x.Type, x.Shape)
	} else {
		c.SetType(1, x.Type)
	}
	if shaped(c, 0, 1) {
		fits := len(x.Shape) >= 2 && len(target.Shape) == len(x.Shape)-1 && agree(x.Shape[0], target.Shape[0])
		for i := 2; fits && i < len(x.Shape); i++ {
			fits = agree(x.Shape[i], target.Shape[i-1])
		}
		if !fits {
			return c.Node.Errorf("input %s with target %s", shapeText(x.Shape), shapeText(target.Shape))
		}
		if err := inferBias(c, 2, x.Shape[1]); err != nil {
			return err
		}
	}
	if c.Node.Str("reduction", "mean") != "none" {
		c.Set(0, x.Type, nil)
	} else if target.HasShape {
		c.Set(0, x.Type, target.Shape)
	}
	return nil
}

// loss is the data of a loss over n samples of c classes and inner positions.
type loss[T floating] struct {
	n, c, inner int
	target      *onnxio.Tensor
	weight      []T
	ignore      int64
	ignores     bool
	reduction   string
}

// newLoss checks the inputs of a loss: the scores, the target and the weight.
func newLoss[T floating](c *Eval, x, target, weight int) (l loss[T], err error) {
	n := c.Node
	if err := checkReduction(n); err != nil {
		return l, err
	}
	s, t := c.In[x].Dims, c.In[target].Dims
	if len(s) < 2 || len(t) != len(s)-1 || s[0] != t[0] || !equal(s[2:], t[1:]) {
		return l, n.Errorf("input %s with target %s", dimsText(s), dimsText(t))
	}
	l = loss[T]{n: int(s[0]), c: int(s[1]), inner: sizeOf(s[2:]), target: c.In[target],
		weight: optional[T](c, weight)}
	if typ := l.target.Type; typ != onnxio.Int32 && typ != onnxio.Int64 {
		return l, n.Errorf("target of type %v", typ)
	}
	if l.weight != nil && len(l.weight) != l.c {
		return l, n.Errorf("weight %s for %d classes", dimsText(c.In[weight].Dims), l.c)
	}
	if a := n.Attr("ignore_index"); a != nil {
		l.ignore, l.ignores = a.I, true
	}
	l.reduction = n.Str("reduction", "mean")
	for i := 0; i < l.n*l.inner; i++ {
		if t := l.class(i); t < 0 && !(l.ignores && t == l.ignore) || t >= int64(l.c) &&
			!(l.ignores && t == l.ignore) {
			return l, n.Errorf("target %d at position %d is not one of %d classes", t, i, l.c)
		}
	}
	return l, nil
}

func (l *loss[T]) class(i int) int64 {
	if l.target.Type == onnxio.Int32 {
		return int64(onnxio.Data[int32](l.target)[i])
	}
	return onnxio.Data[int64](l.target)[i]
}

// pick gives position i's weight and the index of its class in the scores; 0 and -1 when it is ignored.
func (l *loss[T]) pick(i int) (w float64, at int) {
	t := l.class(i)
	if l.ignores && t == l.ignore {
		return 0, -1
	}
	w = 1
	if l.weight != nil {
		w = float64(l.weight[t])
	}
	return w, (i/l.inner*l.c+int(t))*l.inner + i%l.inner
}

// weightSum is the divisor of the mean.
func (l *loss[T]) weightSum() float64 {
	sum := 0.0
	for i := 0; i < l.n*l.inner; i++ {
		w, _ := l.pick(i)
		sum += w
	}
	return sum
}

// reduce writes the loss from log probabilities, logp(at) for each class index at.
func (l *loss[T]) reduce(c *Eval, typ onnxio.DataType, logp func(i, at int) float64) error {
	if l.reduction == "none" {
		y, err := c.Alloc(0, typ, l.target.Dims...)
		if err != nil {
			return err
		}
		dst := onnxio.Data[T](y)
		for i := range dst {
			dst[i] = 0
			if w, at := l.pick(i); at >= 0 {
				dst[i] = T(-w * logp(i, at))
			}
		}
		return nil
	}
	y, err := c.Alloc(0, typ)
	if err != nil {
		return err
	}
	sum := 0.0
	for i := 0; i < l.n*l.inner; i++ {
		if w, at := l.pick(i); at >= 0 {
			sum -= w * logp(i, at)
		}
	}
	if l.reduction == "mean" {
		sum /= l.weightSum()
	}
	onnxio.Data[T](y)[0] = T(sum)
	return nil
}

func evalNLL[T floating](c *Eval) error {
	l, err := newLoss[T](c, 0, 1, 2)
	if err != nil {
		return err
	}
	x := onnxio.Data[T](c.In[0])
	return l.reduce(c, c.In[0].Type, func(_, at int) float64 { return float64(x[at]) })
}

func evalCrossEntropy[T floating](c *Eval) error {
	l, err := newLoss[T](c, 0, 1, 2)
	if err != nil {
		return err
	}
	x := onnxio.Data[T](c.In[0])
	ls := lines{l.n * l.inner, l.inner, l.c}
	if c.Wants(1) {
		y, err := c.Alloc(1, c.In[0].Type, c.In[0].Dims...)
		if err != nil {
			return err
		}
		for i := 0; i < ls.count && l.c > 0; i++ {
			logSoftmaxLine(onnxio.Data[T](y), x, ls.line(i))
		}
	}
	return l.reduce(c, c.In[0].Type, func(i, at int) float64 {
		row := ls.line(i)
		top, _ := peak(x, row)
		return float64(x[at]) - float64(top) - math.Log(expSum(x, row, top))
	})
}

// evalLossGrad runs a kernel that is given, per position, the gradient of its summed loss already multiplied
// by its weight and divided for the mean.
func evalLossGrad[T floating](kernel func(l *loss[T], dx, x []T, i, at int, d float64)) func(*Eval) error {
	return func(c *Eval) error {
		l, err := newLoss[T](c, 1, 2, 3)
		if err != nil {
			return err
		}
		d := onnxio.Data[T](c.In[0])
		want := 1
		if l.reduction == "none" {
			want = l.n * l.inner
		}
		if len(d) != want {
			return c.Node.Errorf("dloss %s for target %s, reduction %s", dimsText(c.In[0].Dims),
				dimsText(l.target.Dims), l.reduction)
		}
		dx, err := c.Alloc(0, c.In[1].Type, c.In[1].Dims...)
		if err != nil {
			return err
		}
		dst, x := onnxio.Data[T](dx), onnxio.Data[T](c.In[1])
		clear(dst)
		scale := 1.0
		if l.reduction == "mean" {
			scale = 1 / l.weightSum()
		}
		for i := 0; i < l.n*l.inner; i++ {
			w, at := l.pick(i)
			if at < 0 {
				continue
			}
			g := float64(d[0])
			if l.reduction == "none" {
				g = float64(d[i])
			}
			kernel(&l, dst, x, i, at, g*w*scale)
		}
		return nil
	}
}

func nllGradKernel[T floating](_ *loss[T], dx, _ []T, _, at int, d float64) { dx[at] = T(-d) }

// crossEntropyGradKernel is d * (softmax - onehot) along the classes.
func crossEntropyGradKernel[T floating](l *loss[T], dx, logp []T, i, at int, d float64) {
	row := lines{l.n * l.inner, l.inner, l.c}.line(i)
	for k, j := 0, row.at; k < row.length; k, j = k+1, j+row.by {
		p := math.Exp(float64(logp[j]))
		if j == at {
			p--
		}
		dx[j] = T(d * p)
	}
}

// lossAttrs are the attributes of a loss, passed on to its gradient.
func lossAttrs(n *Node) []*onnxio.Attribute {
	attrs := []*onnxio.Attribute{onnxio.StringAttr("reduction", n.Str("reduction", "mean"))}
	if a := n.Attr("ignore_index"); a != nil {
		attrs = append(attrs, a)
	}
	return attrs
}

func gradNLL(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	g.DIn[0], err = g.One(GradDomain, "NegativeLogLikelihoodLossGrad", lossInputs(g, g.In(0)),
		lossAttrs(g.Node)...)
	return err
}

// lossInputs are dloss, x, the target and, when there is one, the weight.
func lossInputs(g *Grad, x string) []string {
	in := []string{g.DOut[0], x, g.In(1)}
	if w := g.In(2); w != "" {
		in = append(in, w)
	}
	return in
}

// gradCrossEntropy: through log_prob's own gradient, when it has one, flows what LogSoftmax's does.
func gradCrossEntropy(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	logp, err := g.Save(g.Node, 1)
	if err != nil {
		return err
	}
	var parts []string
	if g.DOut[0] != "" {
		d, err := g.One(GradDomain, "SoftmaxCrossEntropyLossGrad", lossInputs(g, logp), lossAttrs(g.Node)...)
		if err != nil {
			return err
		}
		parts = append(parts, d)
	}
	if len(g.DOut) > 1 && g.DOut[1] != "" {
		d, err := g.One(GradDomain, "LogSoftmaxGrad", []string{g.DOut[1], logp}, onnxio.IntAttr("axis", 1))
		if err != nil {
			return err
		}
		parts = append(parts, d)
	}
	if len(parts) == 1 {
		g.DIn[0] = parts[0]
		return nil
	}
	g.DIn[0], err = g.One("", "Add", parts)
	return err
}
