package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// BatchNormalization. Statistics are float64 sums in two passes; a float32 implementation loses what
// cancellation in x-mean costs it, hence the tolerance.
var normTol = Tolerance{Abs: 1e-5, Rel: 1e-4}

// UnbiasedAttr makes the running variance of a training BatchNormalization n/(n-1) times the biased one, as
// PyTorch's. The compiler alone sets it; no file has it.
const UnbiasedAttr = "cnnkit_unbiased"

func init() {
	stat := func(name string) Param { return Param{Name: name, Type: "T2", Optional: true} }
	saved := func(name string) Param {
		return Param{Name: name, Type: "T2", Optional: true, Since: 14, Internal: true}
	}
	forward := &Def{
		Name: "BatchNormalization", Versions: []int64{1, 6, 7, 9, 14, 15}, Weights: []int{1,
			2}, Running: []int{3, 4},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "scale", Type: "T1"}, {Name: "B", Type: "T1"},
			{Name: "input_mean", Type: "T2"}, {Name: "input_var", Type: "T2"}},
		Outputs: []Param{{Name: "Y", Type: "T"}, stat("running_mean"), stat("running_var"),
			stat("saved_mean").until(9), stat("saved_var").until(9), saved("saved_mean"), saved("saved_var")},
		Attrs: []AttrDef{floatA("epsilon"), floatA("momentum"), intA("is_test").until(6),
			intA("spatial").until(7),
			intsA("consumed_inputs").until(1).required(), intA("training_mode").since(14)},
		Types: map[string]TypeSet{"T": Floats, "T1": Floats, "T2": Floats},
		Infer: inferBatchNorm, Eval: byFloat(evalBatchNorm[float32], evalBatchNorm[float64]),
		Grad: gradBatchNorm, Tol: normTol,
	}
	backward := gradDef("BatchNormalizationGrad", []string{"dy", "x", "scale", "mean", "invstd"},
		[]string{"dx", "dscale", "dbias"}, floatA("epsilon"), intA("frozen"))
	backward.Infer, backward.Tol = inferBatchNormGrad, normTol
	backward.Eval = byFloat(evalBatchNormGrad[float32], evalBatchNormGrad[float64])
	register(forward, backward)
}

// BatchTraining says whether the node normalises with the batch's statistics: by training_mode since version
// 14, by the presence of statistics outputs in 7 and 9, by is_test before.
func BatchTraining(n *Node) bool {
	switch {
	case n.Since >= 14:
		return n.Int("training_mode", 0) != 0
	case n.Since >= 7:
		for _, o := range n.Outputs[min(1, len(n.Outputs)):] {
			if o != "" {
				return true
			}
		}
		return false
	}
	return n.Int("is_test", 0) == 0
}

// perActivation says whether statistics are per element of [C,H,W] instead of per channel
// (spatial=0, version 1-7).
func perActivation(n *Node) bool { return n.Since < 9 && n.Int("spatial", 1) == 0 }

func inferBatchNorm(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x := c.In[0]
	setLike(c, 0, x)
	stats := c.In[3].Type
	for i := 1; i < len(c.Out); i++ {
		c.SetType(i, stats)
	}
	if !x.HasShape {
		return nil
	}
	want := []onnxio.Dim{knownDim(1)}
	if len(x.Shape) >= 2 {
		want = []onnxio.Dim{x.Shape[1]}
		if perActivation(c.Node) {
			want = x.Shape[1:]
		}
	}
	for i := 1; i < 5; i++ {
		if shaped(c, i) && !agreeAll(c.In[i].Shape, want) {
			return c.Node.Errorf("%s %s with input %s", c.Node.InParams()[i].Name, shapeText(c.In[i].Shape),
				shapeText(x.Shape))
		}
	}
	if c.In[3].HasShape {
		want = c.In[3].Shape
	}
	for i := 1; i < len(c.Out); i++ {
		c.Set(i, stats, want)
	}
	return nil
}

// channels is the way through a tensor [N,C,...] one channel at a time.
type channels struct{ n, c, plane int }

func channelsOf(n *Node, dims []int64) channels {
	switch {
	case len(dims) < 2:
		return channels{sizeOf(dims), 1, 1}
	case perActivation(n):
		return channels{int(dims[0]), sizeOf(dims[1:]), 1}
	}
	return channels{int(dims[0]), int(dims[1]), sizeOf(dims[2:])}
}

// moments are mean and biased variance of channel k.
func moments[T floating](ch channels, x []T, k int) (mean, variance float64) {
	count := float64(ch.n * ch.plane)
	for b := 0; b < ch.n; b++ {
		for _, v := range x[(b*ch.c+k)*ch.plane:][:ch.plane] {
			mean += float64(v)
		}
	}
	mean /= count
	for b := 0; b < ch.n; b++ {
		for _, v := range x[(b*ch.c+k)*ch.plane:][:ch.plane] {
			d := float64(v) - mean
			variance += d * d
		}
	}
	return mean, variance / count
}

// setFloat writes element i of a floating tensor.
func setFloat(t *onnxio.Tensor, i int, v float64) {
	switch t.Type {
	case onnxio.Float:
		onnxio.Data[float32](t)[i] = float32(v)
	case onnxio.Double:
		onnxio.Data[float64](t)[i] = v
	}
}

func evalBatchNorm[T floating](c *Eval) error {
	n, x := c.Node, c.In[0]
	ch := channelsOf(n, x.Dims)
	for i := 1; i < 5; i++ {
		if c.In[i].Size() != int64(ch.c) || !wideFloats.Has(c.In[i].Type) {
			return n.Errorf("%s %v %s with input %s", n.InParams()[i].Name, c.In[i].Type,
				dimsText(c.In[i].Dims), dimsText(x.Dims))
		}
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	var out [5]*onnxio.Tensor
	for i := 1; i < len(out); i++ {
		if c.Wants(i) {
			if out[i], err = c.Alloc(i, c.In[3].Type, c.In[3].Dims...); err != nil {
				return err
			}
		}
	}
	training := BatchTraining(n)
	eps, momentum := float64(n.Float("epsilon", 1e-5)), float64(n.Float("momentum", 0.9))
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for k := 0; k < ch.c; k++ {
		mean, variance := floatAt(c.In[3], k), floatAt(c.In[4], k)
		nextMean, nextVar := mean, variance
		if training {
			mean, variance = moments(ch, src, k)
			running := variance
			if count := float64(ch.n * ch.plane); n.Int(UnbiasedAttr, 0) != 0 && count > 1 {
				running *= count / (count - 1)
			}
			nextMean, nextVar = nextMean*momentum+mean*(1-momentum), nextVar*momentum+running*(1-momentum)
		}
		saved := variance
		if n.Since >= 14 { // the private output of the compiler
			saved = 1 / math.Sqrt(variance+eps)
		}
		for i, v := range [...]float64{1: nextMean, 2: nextVar, 3: mean, 4: saved} {
			if out[i] != nil {
				setFloat(out[i], k, v)
			}
		}
		scale, bias := floatAt(c.In[1], k)/math.Sqrt(variance+eps), floatAt(c.In[2], k)
		for b := 0; b < ch.n; b++ {
			at := (b*ch.c + k) * ch.plane
			row := dst[at:][:ch.plane]
			for i, v := range src[at:][:ch.plane] {
				row[i] = T((float64(v)-mean)*scale + bias)
			}
		}
	}
	return nil
}

// wideFloats are the types floatAt reads.
var wideFloats = Set(onnxio.Float, onnxio.Double)

// gradBatchNorm: in training the batch's mean and deviation depend on x; with frozen statistics they do not.
func gradBatchNorm(g *Grad) error {
	n := g.Node
	if g.DOut[0] == "" {
		return nil // running statistics carry no gradient
	}
	in := []string{g.DOut[0], g.In(0), g.In(1)}
	attrs := []*onnxio.Attribute{onnxio.FloatAttr("epsilon", n.Float("epsilon", 1e-5))}
	if BatchTraining(n) {
		if n.Since < 14 {
			return n.Errorf("%w", &onnxio.UnsupportedError{Op: n.OpType, Opset: n.Since, Node: n.Name,
				Reason: "training needs opset 14"})
		}
		for i := 3; i < 5; i++ {
			s, err := g.Save(n, i)
			if err != nil {
				return err
			}
			in = append(in, s)
		}
	} else {
		if perActivation(n) {
			return n.Errorf("%w", &onnxio.UnsupportedError{Op: n.OpType, Opset: n.Since, Node: n.Name,
				Attr: "spatial", Reason: "no gradient"})
		}
		in = append(in, g.In(3), g.In(4))
		attrs = append(attrs, onnxio.IntAttr("frozen", 1))
	}
	out, err := g.Emit(GradDomain, "BatchNormalizationGrad", 3, in, attrs...)
	if err != nil {
		return err
	}
	for i, d := range out {
		if g.Wants[i] {
			g.DIn[i] = d
		}
	}
	return nil
}

func inferBatchNormGrad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[1])
	setLike(c, 1, c.In[2])
	setLike(c, 2, c.In[2])
	return nil
}

// evalBatchNormGrad, with h = (x-mean)*invstd and m elements in a channel: dbias = sum dy, dscale = sum
// dy*h, dx = scale*invstd*(dy - dbias/m - h*dscale/m); with frozen statistics dx = scale*invstd*dy, and the
// last input is the variance.
func evalBatchNormGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	ch := channelsOf(c.Node, x.Dims)
	if !equal(dy.Dims, x.Dims) {
		return c.Node.Errorf("dy %s, x %s", dimsText(dy.Dims), dimsText(x.Dims))
	}
	for i := 2; i < 5; i++ {
		if c.In[i].Size() != int64(ch.c) {
			return c.Node.Errorf("%s %s with x %s", c.Node.InParams()[i].Name, dimsText(c.In[i].Dims),
				dimsText(x.Dims))
		}
	}
	var out [3][]T
	for i, like := range []*onnxio.Tensor{x, c.In[2], c.In[2]} {
		t, err := c.Alloc(i, x.Type, like.Dims...)
		if err != nil {
			return err
		}
		out[i] = onnxio.Data[T](t)
	}
	frozen, eps := c.Node.Int("frozen", 0) != 0, float64(c.Node.Float("epsilon", 1e-5))
	scale, means, invs := onnxio.Data[T](c.In[2]), onnxio.Data[T](c.In[3]), onnxio.Data[T](c.In[4])
	for k := 0; k < ch.c; k++ {
		mean, inv := float64(means[k]), float64(invs[k])
		if frozen {
			inv = 1 / math.Sqrt(inv+eps)
		}
		dscale, dbias := channelGrad(ch, out[0], onnxio.Data[T](dy), onnxio.Data[T](x), k, mean, inv,
			float64(scale[k]), frozen)
		out[1][k], out[2][k] = T(dscale), T(dbias)
	}
	return nil
}

func channelGrad[T floating](ch channels, dx, dy, x []T, k int, mean, inv, scale float64,
	frozen bool) (dscale, dbias float64) {
	for b := 0; b < ch.n; b++ {
		at := (b*ch.c + k) * ch.plane
		g := dy[at:][:ch.plane]
		for i, v := range x[at:][:ch.plane] {
			d := float64(g[i])
			dbias += d
			dscale += d * (float64(v) - mean) * inv
		}
	}
	m := float64(ch.n * ch.plane)
	meanD, meanDH := dbias/m, dscale/m
	if frozen {
		meanD, meanDH = 0, 0
	}
	for b := 0; b < ch.n; b++ {
		at := (b*ch.c + k) * ch.plane
		g, dst := dy[at:][:ch.plane], dx[at:][:ch.plane]
		for i, v := range x[at:][:ch.plane] {
			dst[i] = T(scale * inv * (float64(g[i]) - meanD - (float64(v)-mean)*inv*meanDH))
		}
	}
	return dscale, dbias
}
