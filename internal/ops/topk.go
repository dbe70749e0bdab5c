package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TopK: the k largest or smallest elements along an axis and where they were. Equal elements keep their
// order. NaN counts as the largest, as in PyTorch.

func init() {
	register(&Def{Name: "TopK", Versions: []int64{1, 10, 11, 24},
		Attrs: []AttrDef{intA("axis"), intA("k").required().until(9), intA("largest").since(11),
			intA("sorted").since(11)},
		Inputs:  []Param{{Name: "X", Type: "T"}, {Name: "K", Type: "K", Since: 10}},
		Outputs: []Param{{Name: "Values", Type: "T"}, {Name: "Indices", Type: "I"}},
		Types:   map[string]TypeSet{"T": Numbers, "K": Set(onnxio.Int64), "I": Set(onnxio.Int64)},
		Infer:   inferTopK, Eval: evalTopK, Grad: gradTopK})
}

// topKCount is k from the attribute of version 1 or the input's list.
func topKCount(n *Node, list []int64) (int64, error) {
	if a := n.Attr("k"); a != nil {
		list = []int64{a.I}
	}
	if len(list) != 1 || list[0] < 0 {
		return 0, n.Errorf("K must be one number and not negative, not %v", list)
	}
	return list[0], nil
}

func inferTopK(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	c.SetType(1, onnxio.Int64)
	if !shaped(c, 0) {
		return nil
	}
	s := c.In[0].Shape
	axis, err := axisOf(c.Node, c.Node.Int("axis", -1), len(s))
	if err != nil {
		return err
	}
	out := slices.Clone(s)
	out[axis] = unknownDim
	if list, present, known := c.listOf("", 1); known && (present || c.Node.Attr("k") != nil) {
		k, err := topKCount(c.Node, list)
		if err != nil {
			return err
		}
		if s[axis].Known() && k > s[axis].Value {
			return c.Node.Errorf("K is %d, axis %d of %s is shorter", k, axis, shapeText(s))
		}
		out[axis] = knownDim(k)
	}
	c.Set(0, c.In[0].Type, out)
	c.Set(1, onnxio.Int64, out)
	return nil
}

var topKKernels = numberTypes[func(*Eval, int, int64) error]{topK[float32], topK[float64],
	intTypes[func(*Eval, int, int64) error]{topK[int8], topK[int16], topK[int32], topK[int64], topK[uint8],
		topK[uint16], topK[uint32], topK[uint64]}}

func evalTopK(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if isHalf(c.In[0].Type) {
		return widened(c, evalTopK)
	}
	dims := c.In[0].Dims
	axis, err := axisOf(c.Node, c.Node.Int("axis", -1), len(dims))
	if err != nil {
		return err
	}
	list, _ := c.listOf("", 1)
	k, err := topKCount(c.Node, list)
	if err != nil {
		return err
	}
	if k > dims[axis] {
		return c.Node.Errorf("K is %d, axis %d of %s is shorter", k, axis, dimsText(dims))
	}
	kernel, ok := topKKernels.of(c.In[0].Type)
	if !ok {
		return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
	}
	return kernel(c, axis, k)
}

// order compares as cmp.Compare does, with NaN above all.
func order[T numeric](a, b T) int {
	switch {
	case a < b, b != b && a == a:
		return -1
	case a > b, a != a && b == b:
		return 1
	}
	return 0
}

func topK[T numeric](c *Eval, axis int, k int64) error {
	x := c.In[0]
	dims := slices.Clone(x.Dims)
	dims[axis] = k
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	where, err := c.Alloc(1, onnxio.Int64, dims...)
	if err != nil {
		return err
	}
	from, to, at := onnxio.Data[T](x), onnxio.Data[T](y), onnxio.Data[int64](where)
	sign := -1
	if c.Node.Int("largest", 1) == 0 {
		sign = 1
	}
	d, inner := int(x.Dims[axis]), sizeOf(x.Dims[axis+1:])
	index := make([]int, d)
	for row := range sizeOf(x.Dims[:axis]) * inner {
		first := row/inner*d*inner + row%inner
		for i := range index {
			index[i] = i
		}
		front(index, int(k), func(a, b int) int {
			if o := order(from[first+a*inner], from[first+b*inner]); o != 0 {
				return sign * o
			}
			return a - b
		})
		out := row/inner*int(k)*inner + row%inner
		for i, p := range index[:k] {
			to[out+i*inner], at[out+i*inner] = from[first+p*inner], int64(p)
		}
	}
	return nil
}

// front puts the first k of a list in an order at its front, in that order. A few of many go through a heap
// of k, whose root is the last of them, so that most of the list costs one comparison.
func front(list []int, k int, compare func(a, b int) int) {
	if k > len(list)/8 {
		slices.SortFunc(list, compare)
		return
	}
	heap := list[:k]
	for i := k/2 - 1; i >= 0; i-- {
		sink(heap, i, compare)
	}
	for i := k; k > 0 && i < len(list); i++ {
		if compare(list[i], heap[0]) < 0 {
			heap[0], list[i] = list[i], heap[0]
			sink(heap, 0, compare)
		}
	}
	slices.SortFunc(heap, compare)
}

// sink moves the element at i of a heap down to where none below it comes later in the order.
func sink(heap []int, i int, compare func(a, b int) int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && compare(heap[child+1], heap[child]) > 0 {
			child++
		}
		if compare(heap[child], heap[i]) <= 0 {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// gradTopK gives dy of the values back to where they were; the indices have no gradient.
func gradTopK(g *Grad) error {
	if !g.Wants[0] || g.DOut[0] == "" {
		return nil
	}
	where, err := g.Save(g.Node, 1)
	if err != nil {
		return err
	}
	g.DIn[0], err = scatterBack(g, g.DOut[0], where, g.Node.Int("axis", -1))
	return err
}
