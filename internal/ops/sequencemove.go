package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// ReverseSequence and TensorScatter, which move elements along a time axis.

func init() {
	lengths := Set(onnxio.Int64)
	register(
		&Def{Name: "ReverseSequence", Versions: []int64{10, 28}, Attrs: []AttrDef{intA("batch_axis"),
			intA("time_axis")},
			Inputs:  []Param{{Name: "input", Type: "T"}, {Name: "sequence_lens", Type: "I"}},
			Outputs: []Param{{Name: "Y", Type: "T"}}, Types: map[string]TypeSet{"T": All, "I": lengths},
			Infer: inferReverseSequence, Eval: moving(evalReverseSequence), Grad: gradReverseSequence},
		&Def{Name: "TensorScatter", Versions: []int64{24}, Attrs: []AttrDef{intA("axis"), stringA("mode")},
			Inputs: []Param{formal("past_cache", "T"), formal("update", "T"),
				formal("write_indices", "I").optional()},
			Outputs: []Param{{Name: "present_cache", Type: "T"}}, Types: map[string]TypeSet{"T": All,
				"I": lengths},
			Infer: inferTensorScatter, Eval: moving(evalTensorScatter)},
	)
}

// sequenceAxes are batch_axis and time_axis: 0 and 1 in either order.
func sequenceAxes(n *Node, rank int) (batch, time int, err error) {
	b, t := n.Int("batch_axis", 1), n.Int("time_axis", 0)
	if b < 0 || b > 1 || t != 1-b {
		return 0, 0, n.Errorf("batch_axis %d and time_axis %d are not 0 and 1", b, t)
	}
	if rank < 2 {
		return 0, 0, n.Errorf("input has %d dimensions; it needs two", rank)
	}
	return int(b), int(t), nil
}

func inferReverseSequence(c *Infer) error {
	if err := inferSame(c); err != nil || !shaped(c, 0) {
		return err
	}
	batch, _, err := sequenceAxes(c.Node, len(c.In[0].Shape))
	if err == nil && shaped(c, 1) && !agreeAll(c.In[1].Shape, c.In[0].Shape[batch:batch+1]) {
		return c.Node.Errorf("sequence_lens %s with input %s", shapeText(c.In[1].Shape),
			shapeText(c.In[0].Shape))
	}
	return err
}

// evalReverseSequence reverses the first sequence_lens[n] steps of batch element n.
func evalReverseSequence(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	batch, time, err := sequenceAxes(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	lens, ok := intsOf(c.In[1])
	if !ok || !equal(c.In[1].Dims, x.Dims[batch:batch+1]) {
		return c.Node.Errorf("sequence_lens %s with input %s", dimsText(c.In[1].Dims), dimsText(x.Dims))
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil || len(x.Raw) == 0 {
		return err
	}
	s := strides(x.Dims)
	row := s[1] * es // a step of a batch element
	for n, length := range lens {
		if length < 0 || length > x.Dims[time] {
			return c.Node.Errorf("sequence_lens[%d] is %d of %d steps", n, length, x.Dims[time])
		}
		for t := range x.Dims[time] {
			from := t
			if t < length {
				from = length - 1 - t
			}
			base := int64(n) * s[batch]
			copy(y.Raw[(base+t*s[time])*es:][:row], x.Raw[(base+from*s[time])*es:])
		}
	}
	return nil
}

// gradReverseSequence reverses again.
func gradReverseSequence(g *Grad) (err error) {
	if g.Wants[0] {
		g.DIn[0], err = g.One("", "ReverseSequence", []string{g.DOut[0], g.In(1)}, g.Node.Attrs...)
	}
	return err
}

// cacheAxis is TensorScatter's axis over a cache of shape dims, which the update's shape must fit.
func cacheAxis(n *Node, cache, update []onnxio.Dim) (int, error) {
	axis, err := axisOf(n, n.Int("axis", -2), len(cache))
	if err != nil {
		return 0, err
	}
	if axis == 0 {
		return 0, n.Errorf("axis 0 is the batch")
	}
	fits := len(update) == len(cache)
	for i := 0; fits && i < len(cache); i++ {
		fits = agree(cache[i], update[i]) || i == axis && update[i].Value <= cache[i].Value
	}
	if !fits {
		return 0, n.Errorf("update %s does not fit cache %s", shapeText(update), shapeText(cache))
	}
	if mode := n.Str("mode", "linear"); mode != "linear" && mode != "circular" {
		return 0, n.Errorf("mode %q is not linear or circular", mode)
	}
	return axis, nil
}

func inferTensorScatter(c *Infer) error {
	if err := inferSame(c); err != nil || !shaped(c, 0, 1) {
		return err
	}
	cache := c.In[0].Shape
	_, err := cacheAxis(c.Node, cache, c.In[1].Shape)
	if err == nil && shaped(c, 2) && !agreeAll(c.In[2].Shape, cache[:1]) {
		return c.Node.Errorf("write_indices %s with cache %s", shapeText(c.In[2].Shape), shapeText(cache))
	}
	return err
}

// evalTensorScatter writes the update over the cache from write_indices[b] on, with mode circular beyond the
// end from the beginning again.
func evalTensorScatter(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	cache, update := c.In[0], c.In[1]
	axis, err := cacheAxis(c.Node, knownDims(cache.Dims), knownDims(update.Dims))
	if err != nil {
		return err
	}
	es, err := elementSize(c, cache.Type)
	if err != nil {
		return err
	}
	var starts []int64
	if c.Has(2) {
		if starts, _ = intsOf(c.In[2]); !equal(c.In[2].Dims, cache.Dims[:1]) {
			return c.Node.Errorf("write_indices %s with cache %s", dimsText(c.In[2].Dims),
				dimsText(cache.Dims))
		}
	}
	y, err := c.Alloc(0, cache.Type, cache.Dims...)
	if err != nil {
		return err
	}
	copy(y.Raw, cache.Raw)
	if len(update.Raw) == 0 {
		return nil
	}
	length, room := update.Dims[axis], cache.Dims[axis]
	row := strides(cache.Dims)[axis] * es
	lines := int64(sizeOf(cache.Dims[:axis]))
	perBatch := lines / cache.Dims[0]
	for line := range lines {
		start := int64(0)
		if starts != nil {
			start = starts[line/perBatch]
		}
		if c.Node.Str("mode", "linear") == "circular" {
			start = modInt(start, room)
		} else if start < 0 || start > room-length {
			return c.Node.Errorf("write_indices[%d] is %d: %d steps do not fit in %d",
				line/perBatch, start, length, room)
		}
		for t := range length {
			to := (line*room + (start+t)%room) * row
			copy(y.Raw[to:][:row], update.Raw[(line*length+t)*row:])
		}
	}
	return nil
}
