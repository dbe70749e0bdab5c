package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Normalisations over contiguous rows: InstanceNormalization (a row is a plane), GroupNormalization (a
// group's planes), LayerNormalization and RMSNormalization (the trailing dimensions). Statistics are float64
// sums in two passes, computed in float32 or better whatever stash_type says.

func init() {
	eps := floatA("epsilon")
	scaled := func(name string, versions []int64, infer func(*Infer) error, attrs ...AttrDef) *Def {
		return &Def{Name: name, Versions: versions, Types: floatsT, Tol: normTol, Weights: []int{1, 2},
			Infer: infer, Attrs: append(attrs, eps),
			Inputs:  []Param{{Name: "X", Type: "T"}, {Name: "scale", Type: "T"}, {Name: "B", Type: "T"}},
			Outputs: []Param{{Name: "Y", Type: "T"}}, Grad: gradRows,
			Eval: byFloat(evalRows[float32], evalRows[float64])}
	}
	instance := scaled("InstanceNormalization", []int64{1, 6, 22}, inferRows,
		intsA("consumed_inputs").until(1))
	instance.Inputs[0].Name, instance.Outputs[0].Name = "input", "output"
	group := scaled("GroupNormalization", []int64{18, 21}, inferRows, intA("num_groups").required(),
		intA("stash_type").since(21))
	group.Inputs[2].Name = "bias"
	layer := scaled("LayerNormalization", []int64{17}, inferLayerNorm, intA("axis"), intA("stash_type"))
	layer.Inputs[1].Name, layer.Inputs[2].Optional = "Scale", true
	layer.Outputs = append(layer.Outputs, Param{Name: "Mean", Type: "U", Optional: true},
		Param{Name: "InvStdDev", Type: "U", Optional: true})
	layer.Types = map[string]TypeSet{"T": Floats, "U": Floats}
	rms := scaled("RMSNormalization", []int64{23}, inferRows, intA("axis"), intA("stash_type"))
	rms.Inputs, rms.Weights = rms.Inputs[:2], []int{1}
	grad := gradDef("RowNormalizationGrad", []string{"dy", "x", "scale"},
		[]string{"dx", "dscale", "dbias"}, eps,
		intA("size").required(), intA("inner").required(), intA("count").required(), intA("rms"))
	grad.Infer, grad.Tol = inferRowsGrad, normTol
	grad.Eval = byFloat(evalRowsGrad[float32], evalRowsGrad[float64])
	register(instance, group, layer, rms, grad)
}

// rowNorm is how a tensor divides into rows, and which element of scale and bias belongs to element i of
// the tensor: i/inner%count.
type rowNorm struct {
	rows, size   int
	inner, count int
	rms          bool // no mean is subtracted
	eps          float64
}

// newRowNorm reads a node's rows over an input of shape x.
func newRowNorm(n *Node, x []int64) (r rowNorm, err error) {
	bad := func() (rowNorm, error) { return r, n.Errorf("input of shape %s", dimsText(x)) }
	r.eps, r.rms = float64(n.Float("epsilon", 1e-5)), n.OpType == "RMSNormalization"
	switch n.OpType {
	case "InstanceNormalization":
		if len(x) < 3 {
			return bad()
		}
		r.size = sizeOf(x[2:])
		r.inner, r.count = r.size, int(x[1])
	case "GroupNormalization":
		if len(x) < 2 {
			return bad()
		}
		g := n.Int("num_groups", 0)
		if g < 1 || x[1]%g != 0 {
			return r, n.Errorf("input %s in %d groups", dimsText(x), g)
		}
		plane := sizeOf(x[2:])
		r.size = int(x[1]/g) * plane
		r.inner, r.count = plane, int(x[1])
		if n.Since < 21 { // one scale for each group
			r.inner, r.count = r.size, int(g)
		}
	default:
		axis, err := normAxis(n, len(x))
		if err != nil {
			return r, err
		}
		// rows without elements have statistics, which are no numbers
		r.rows, r.size = sizeOf(x[:axis]), sizeOf(x[axis:])
		r.inner, r.count = 1, r.size
	}
	if r.size > 0 {
		r.rows = sizeOf(x) / r.size
	}
	r.inner = max(r.inner, 1)
	return r, nil
}

// normAxis is the first normalised axis of LayerNormalization and RMSNormalization.
func normAxis(n *Node, rank int) (int, error) {
	axis := n.Int("axis", -1)
	if axis < -int64(rank) || axis >= int64(rank) {
		return 0, n.Errorf("axis %d of an input of %d dimensions", axis, rank)
	}
	if axis < 0 {
		axis += int64(rank)
	}
	return int(axis), nil
}

func inferRows(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[0])
	if dims, ok := c.In[0].Dims(); ok {
		r, err := newRowNorm(c.Node, dims)
		if err != nil {
			return err
		}
		for i := 1; i < len(c.In); i++ {
			if s, ok := c.In[i].Dims(); ok {
				if !r.fits(dims, s) {
					return c.Node.Errorf("%s %s with input %s", c.Node.InParams()[i].Name, dimsText(s),
						dimsText(dims))
				}
			}
		}
	}
	return nil
}

// stashType is the type of LayerNormalization's statistics.
func stashType(n *Node) onnxio.DataType { return onnxio.DataType(n.Int("stash_type", 1)) }

func inferLayerNorm(c *Infer) error {
	if err := inferRows(c); err != nil {
		return err
	}
	stash := stashType(c.Node)
	c.SetType(1, stash)
	c.SetType(2, stash)
	if !c.In[0].HasShape {
		return nil
	}
	axis, err := normAxis(c.Node, len(c.In[0].Shape))
	if err != nil {
		return err
	}
	shape := append([]onnxio.Dim{}, c.In[0].Shape[:axis]...)
	for range c.In[0].Shape[axis:] {
		shape = append(shape, knownDim(1))
	}
	c.Set(1, stash, shape)
	c.Set(2, stash, shape)
	return nil
}

// rowMoments are the mean (0 for RMS) and 1/sqrt(mean square deviation + eps) of a row.
func rowMoments[T floating](r *rowNorm, x []T) (mean, inv float64) {
	if !r.rms {
		for _, v := range x {
			mean += float64(v)
		}
		mean /= float64(len(x))
	}
	sum := 0.0
	for _, v := range x {
		d := float64(v) - mean
		sum += d * d
	}
	return mean, 1 / math.Sqrt(sum/float64(len(x))+r.eps)
}

// fits reports whether scale or bias of shape s serves an input of shape x: as many elements as there are,
// one for all, or for rows of trailing dimensions the last ones of x, which are repeated.
func (r *rowNorm) fits(x, s []int64) bool {
	n, err := onnxio.CheckedBytes(onnxio.Uint8, s)
	if err != nil {
		return false
	}
	for len(s) > 0 && s[0] == 1 {
		s = s[1:]
	}
	suffix := r.inner == 1 && len(s) <= len(x) && r.size%max(int(n), 1) == 0 && equal(s, x[len(x)-len(s):])
	return n == 1 || n == int64(r.count) || n > 0 && suffix
}

// broadcastAt is where scale or bias v has what belongs to element i.
func broadcastAt[T floating](r *rowNorm, v []T, i int) (at int) {
	return i / r.inner % min(r.count, len(v))
}

func evalRows[T floating](c *Eval) error {
	x := c.In[0]
	r, err := newRowNorm(c.Node, x.Dims)
	if err != nil {
		return err
	}
	scale, bias := onnxio.Data[T](c.In[1]), optional[T](c, 2)
	for i := 1; i < len(c.In); i++ {
		if c.Has(i) && !r.fits(x.Dims, c.In[i].Dims) {
			return c.Node.Errorf("%s %s with input %s", c.Node.InParams()[i].Name, dimsText(c.In[i].Dims),
				dimsText(x.Dims))
		}
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	means, invs, err := allocStats(c)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for row := 0; row < r.rows; row++ {
		at := row * r.size
		mean, inv := rowMoments(&r, src[at:][:r.size])
		if means != nil {
			setFloat(means, row, mean)
		}
		if invs != nil {
			setFloat(invs, row, inv)
		}
		for i := at; i < at+r.size; i++ {
			v := (float64(src[i]) - mean) * inv * float64(scale[broadcastAt(&r, scale, i)])
			if bias != nil {
				v += float64(bias[broadcastAt(&r, bias, i)])
			}
			dst[i] = T(v)
		}
	}
	return nil
}

// allocStats allocates LayerNormalization's optional statistics.
func allocStats(c *Eval) (mean, inv *onnxio.Tensor, err error) {
	if !c.Wants(1) && !c.Wants(2) {
		return nil, nil, nil
	}
	axis, err := normAxis(c.Node, len(c.In[0].Dims))
	if err != nil {
		return nil, nil, err
	}
	shape := append([]int64{}, c.In[0].Dims...)
	for i := axis; i < len(shape); i++ {
		shape[i] = 1
	}
	stash := stashType(c.Node)
	if !wideFloats.Has(stash) {
		return nil, nil, c.Node.Errorf("stash_type %v is not implemented", stash)
	}
	if c.Wants(1) {
		if mean, err = c.Alloc(1, stash, shape...); err != nil {
			return nil, nil, err
		}
	}
	if c.Wants(2) {
		inv, err = c.Alloc(2, stash, shape...)
	}
	return mean, inv, err
}

func gradRows(g *Grad) error {
	for _, d := range g.DOut[1:] {
		if d != "" {
			return g.Node.Errorf("the mean and the inverse deviation have no gradient")
		}
	}
	r, err := newRowNorm(g.Node, g.Dims(g.In(0)))
	if err != nil {
		return err
	}
	out, err := g.Emit(GradDomain, "RowNormalizationGrad", 3, []string{g.DOut[0], g.In(0), g.In(1)},
		onnxio.FloatAttr("epsilon", g.Node.Float("epsilon", 1e-5)), onnxio.IntAttr("size", int64(r.size)),
		onnxio.IntAttr("inner", int64(r.inner)), onnxio.IntAttr("count", int64(r.count)),
		flagAttr("rms", r.rms))
	if err != nil {
		return err
	}
	for i, d := range out {
		if i < len(g.Wants) && g.Wants[i] {
			if i == 2 && !equal(g.Dims(d), g.Dims(g.In(2))) {
				return g.Node.Errorf("gradient needs scale %s and bias %s of one shape",
					dimsText(g.Dims(g.In(1))), dimsText(g.Dims(g.In(2))))
			}
			g.DIn[i] = d
		}
	}
	return nil
}

func inferRowsGrad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[1])
	setLike(c, 1, c.In[2])
	setLike(c, 2, c.In[2])
	return nil
}

// evalRowsGrad, with h = (x-mean)*inv and g = dy*scale: dx = inv*(g - mean g - h*mean(g*h)), without mean g
// for RMS; dscale = sum dy*h, dbias = sum dy over the elements that share one.
func evalRowsGrad[T floating](c *Eval) error {
	n, dy, x, s := c.Node, c.In[0], c.In[1], c.In[2]
	r := rowNorm{size: int(n.Int("size", 1)), inner: int(n.Int("inner", 1)), count: int(n.Int("count", 1)),
		rms: n.Int("rms", 0) != 0, eps: float64(n.Float("epsilon", 1e-5))}
	if !equal(dy.Dims, x.Dims) || r.size < 1 || r.inner < 1 || r.count < 1 || sizeOf(x.Dims)%r.size != 0 ||
		!r.fits(x.Dims, s.Dims) {
		return n.Errorf("dy %s, x %s, scale %s in rows of %d", dimsText(dy.Dims), dimsText(x.Dims),
			dimsText(s.Dims), r.size)
	}
	r.rows = sizeOf(x.Dims) / r.size
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dscale, err := c.Alloc(1, x.Type, s.Dims...)
	if err != nil {
		return err
	}
	dbias, err := c.Alloc(2, x.Type, s.Dims...)
	if err != nil {
		return err
	}
	ds, db := make([]float64, s.Size()), make([]float64, s.Size())
	for row := 0; row < r.rows; row++ {
		rowGrad(&r, row, onnxio.Data[T](dx), ds, db, onnxio.Data[T](dy), onnxio.Data[T](x), onnxio.Data[T](s))
	}
	for i := range ds {
		onnxio.Data[T](dscale)[i], onnxio.Data[T](dbias)[i] = T(ds[i]), T(db[i])
	}
	return nil
}

func rowGrad[T floating](r *rowNorm, row int, dx []T, dscale, dbias []float64, dy, x, scale []T) {
	at := row * r.size
	mean, inv := rowMoments(r, x[at:][:r.size])
	sumG, sumGH := 0.0, 0.0
	for i := at; i < at+r.size; i++ {
		k := broadcastAt(r, scale, i)
		d, h := float64(dy[i]), (float64(x[i])-mean)*inv
		dscale[k] += d * h
		dbias[k] += d
		sumG += d * float64(scale[k])
		sumGH += d * float64(scale[k]) * h
	}
	meanG, meanGH := sumG/float64(r.size), sumGH/float64(r.size)
	if r.rms {
		meanG = 0
	}
	for i := at; i < at+r.size; i++ {
		g := float64(dy[i]) * float64(scale[broadcastAt(r, scale, i)])
		dx[i] = T(inv * (g - meanG - (float64(x[i])-mean)*inv*meanGH))
	}
}
