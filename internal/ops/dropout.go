package ops

import (
	"hash/fnv"

	"github.com/cnnkit/cnnkit/onnxio"
)

func init() {
	grad := gradDef("DropoutGrad", []string{"dy"}, []string{"dx"})
	grad.Inputs = append(grad.Inputs, Param{Name: "mask", Type: "M"}, Param{Name: "ratio", Type: "R",
		Optional: true})
	grad.Types = map[string]TypeSet{"T": Floats, "M": Bools, "R": Floats}
	grad.Infer, grad.Eval = inferSame, byFloat(evalDropoutGrad[float32], evalDropoutGrad[float64])
	register(&Def{
		Name: "Dropout", Versions: []int64{1, 6, 7, 10, 12, 13, 22},
		Inputs: []Param{{Name: "data", Type: "T"}, {Name: "ratio", Type: "T1", Optional: true, Since: 12},
			{Name: "training_mode", Type: "T2", Optional: true, Since: 12}},
		Outputs: []Param{{Name: "output", Type: "T"}, {Name: "mask", Type: "M", Optional: true}},
		Attrs: []AttrDef{floatA("ratio").until(10), intA("is_test").until(6),
			intsA("consumed_inputs").until(1),
			intA("seed").since(12)},
		Types:  map[string]TypeSet{"T": Floats, "T1": Floats, "T2": Bools, "M": Bools | Floats},
		Check:  checkDropout,
		Random: true, Infer: inferDropout, Eval: byFloat(evalDropout[float32], evalDropout[float64]),
		Grad: gradDropout,
	}, grad)
}

func checkDropout(n *Node) error {
	if r := n.Float("ratio", 0.5); n.Since < 12 && !(r >= 0 && r < 1) {
		return n.Errorf("ratio %v is not in [0,1)", r)
	}
	return nil
}

// maskType is the mask's type: bool since version 10, the data's before.
func maskType(n *Node, data onnxio.DataType) onnxio.DataType {
	if n.Since >= 10 {
		return onnxio.Bool
	}
	return data
}

func inferDropout(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x := c.In[0]
	setLike(c, 0, x)
	t := maskType(c.Node, x.Type)
	if x.HasShape {
		c.Set(1, t, x.Shape)
	} else {
		c.SetType(1, t)
	}
	for i := 1; i < 3; i++ {
		if shaped(c, i) && len(c.In[i].Shape) > 1 {
			return c.Node.Errorf("%s is not a scalar but %s", c.Node.InParams()[i].Name,
				shapeText(c.In[i].Shape))
		}
	}
	return nil
}

// dropping is the probability of dropping an element: 0 outside training. Versions 7 and 10 know no training.
func dropping(c *Eval) (float64, error) {
	n := c.Node
	ratio := float64(n.Float("ratio", 0.5))
	if n.Since >= 12 {
		ratio = 0.5
		if c.Has(1) && c.In[1].Size() == 1 {
			ratio = floatAt(c.In[1], 0)
		}
	}
	training := false
	switch {
	case n.Since >= 12:
		training = c.Has(2) && c.In[2].Size() == 1 && onnxio.Data[bool](c.In[2])[0]
	case n.Since < 7:
		training = n.Int("is_test", 0) == 0
	}
	if !training {
		return 0, nil
	}
	if !(ratio >= 0 && ratio < 1) {
		return 0, n.Errorf("ratio %v is not in [0,1)", ratio)
	}
	return ratio, nil
}

// evalDropout zeroes elements with probability ratio and divides the others by 1-ratio. Element i is
// kept or not by a hash of the seed, the node and i, whatever thread computes it; of a part of a
// batch, i is the whole batch's.
func evalDropout[T floating](c *Eval) error {
	x := c.In[0]
	ratio, err := dropping(c)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	var keep []bool
	var keepT []T
	if c.Wants(1) {
		mask, err := c.Alloc(1, maskType(c.Node, x.Type), x.Dims...)
		if err != nil {
			return err
		}
		if mask.Type == onnxio.Bool {
			keep = onnxio.Data[bool](mask)
		} else {
			keepT = onnxio.Data[T](mask)
		}
	}
	key, before := dropoutKey(c), c.before(int(x.Size()))
	scale := 1 / (1 - ratio)
	dst := onnxio.Data[T](y)
	for i, v := range onnxio.Data[T](x) {
		kept := ratio == 0 || uniform(key, uint64(before+i)) >= ratio
		if kept {
			dst[i] = T(float64(v) * scale)
		} else {
			dst[i] = 0
		}
		if keep != nil {
			keep[i] = kept
		} else if keepT != nil {
			keepT[i] = 0
			if kept {
				keepT[i] = 1
			}
		}
	}
	return nil
}

// before is the number of elements that the images before the part's have, of a tensor whose part has size.
func (c *Eval) before(size int) int {
	if c.Images == 0 || size%c.Images != 0 {
		return 0
	}
	return c.First * (size / c.Images)
}

// dropoutKey mixes the seeds of the run and of the node with its output's name, so that two nodes differ.
func dropoutKey(c *Eval) uint64 {
	h := fnv.New64a()
	if len(c.Node.Outputs) > 0 {
		h.Write([]byte(c.Node.Outputs[0]))
	}
	return mix64(mix64(c.Seed^uint64(c.Node.Int("seed", 0))*0x9e3779b97f4a7c15) ^ h.Sum64())
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uniform is the i-th number in [0,1) of the stream key.
func uniform(key, i uint64) float64 {
	return float64(mix64(key+(i+1)*0x9e3779b97f4a7c15)>>40) / (1 << 24)
}

// floatAt is element i of a floating tensor.
func floatAt(t *onnxio.Tensor, i int) float64 {
	switch t.Type {
	case onnxio.Float:
		return float64(onnxio.Data[float32](t)[i])
	case onnxio.Double:
		return onnxio.Data[float64](t)[i]
	}
	return 0
}

// gradDropout passes the gradient through the mask of the forward run; outside
// training Dropout is the identity.
func gradDropout(g *Grad) error {
	if !g.Wants[0] || g.DOut[0] == "" {
		return nil
	}
	n := g.Node
	training := n.Since < 7 && n.Int("is_test", 0) == 0
	if mode := g.In(2); n.Since >= 12 && mode != "" {
		t := g.Value(mode).Const
		if t == nil || t.Type != onnxio.Bool || t.Size() != 1 {
			return n.Errorf("gradient needs training_mode to be a constant")
		}
		training = onnxio.Data[bool](t)[0]
	}
	if !training {
		g.DIn[0] = g.DOut[0]
		return nil
	}
	if n.Since < 12 {
		return n.Errorf("%w", &onnxio.UnsupportedError{Op: n.OpType, Opset: n.Since, Node: n.Name,
			Reason: "training needs opset 12"})
	}
	mask, err := g.Save(n, 1)
	if err != nil {
		return err
	}
	g.DIn[0], err = g.One(GradDomain, "DropoutGrad", []string{g.DOut[0], mask, g.In(1)})
	return err
}

// evalDropoutGrad is dx = dy/(1-ratio) where mask, else 0.
func evalDropoutGrad[T floating](c *Eval) error {
	dy, mask := c.In[0], c.In[1]
	if mask.Type != onnxio.Bool || !equal(dy.Dims, mask.Dims) {
		return c.Node.Errorf("dy %s with mask %v %s", dimsText(dy.Dims), mask.Type, dimsText(mask.Dims))
	}
	ratio := 0.5
	if c.Has(2) && c.In[2].Size() == 1 {
		ratio = floatAt(c.In[2], 0)
	}
	dx, err := c.Alloc(0, dy.Type, dy.Dims...)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](dx), onnxio.Data[T](dy)
	scale := 1 / (1 - ratio)
	for i, kept := range onnxio.Data[bool](mask) {
		dst[i] = 0
		if kept {
			dst[i] = T(float64(src[i]) * scale)
		}
	}
	return nil
}
