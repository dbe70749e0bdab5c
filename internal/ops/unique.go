package ops

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Unique: the distinct elements of a tensor, or its distinct slices along an axis. NaN equals NaN and is the
// greatest, as in NumPy; complex numbers compare by real part, then imaginary part.

func init() {
	register(&Def{Name: "Unique", Versions: []int64{11, 28}, Attrs: []AttrDef{intA("axis"), intA("sorted")},
		Inputs: []Param{{Name: "X", Type: "T"}},
		Outputs: []Param{{Name: "Y", Type: "T"}, {Name: "indices", Type: "I", Optional: true},
			{Name: "inverse_indices", Type: "I", Optional: true},
			{Name: "counts", Type: "I", Optional: true}},
		Types: map[string]TypeSet{"T": basicTypes, "I": Set(onnxio.Int64)},
		Infer: inferUnique, Eval: evalUnique})
}

func inferUnique(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	total := unknownDim // how many elements or slices there are
	switch {
	case c.Node.Attr("axis") == nil:
		c.Set(0, c.In[0].Type, []onnxio.Dim{unknownDim})
		if shaped(c, 0) {
			total = sizeOfDims(c.In[0].Shape)
		}
	case shaped(c, 0):
		axis, _, err := compressAxis(c.Node, len(c.In[0].Shape))
		if err != nil {
			return err
		}
		total = c.In[0].Shape[axis]
		out := slices.Clone(c.In[0].Shape)
		out[axis] = unknownDim
		c.Set(0, c.In[0].Type, out)
	}
	c.Set(1, onnxio.Int64, []onnxio.Dim{unknownDim})
	c.Set(2, onnxio.Int64, []onnxio.Dim{total})
	c.Set(3, onnxio.Int64, []onnxio.Dim{unknownDim})
	return nil
}

func evalUnique(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	axis, has, err := compressAxis(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	dims := x.Dims
	if !has {
		dims = []int64{x.Size()}
	}
	compare, err := comparison(c.Node, x)
	if err != nil {
		return err
	}
	first, inverse, counts := distinct(dims, axis, compare, c.Node.Int("sorted", 1) != 0)
	if err := pickAlong(c, 0, x, dims, axis, first); err != nil {
		return err
	}
	for i, list := range [][]int64{first, inverse, counts} {
		if !c.Wants(i + 1) {
			continue
		}
		y, err := c.Alloc(i+1, onnxio.Int64, int64(len(list)))
		if err != nil {
			return err
		}
		copy(onnxio.Data[int64](y), list)
	}
	return nil
}

// distinct finds the distinct ones of the slices along an axis: where each first occurs, which one every
// slice is, and how often each occurs.
func distinct(dims []int64, axis int, compare func(i, j int) int, sorted bool) (first, inverse,
	counts []int64) {
	outer, d, inner := sizeOf(dims[:axis]), int(dims[axis]), sizeOf(dims[axis+1:])
	slice := func(a, b int64) int { // compares two slices element by element
		for o := range outer {
			p, q := (o*d+int(a))*inner, (o*d+int(b))*inner
			for k := range inner {
				if r := compare(p+k, q+k); r != 0 {
					return r
				}
			}
		}
		return 0
	}
	order := make([]int64, d)
	for i := range order {
		order[i] = int64(i)
	}
	slices.SortFunc(order, func(a, b int64) int { return cmp.Or(slice(a, b), cmp.Compare(a, b)) })
	inverse = make([]int64, d)
	for i, p := range order {
		if i == 0 || slice(order[i-1], p) != 0 {
			first, counts = append(first, p), append(counts, 0)
		}
		inverse[p] = int64(len(first) - 1)
		counts[len(counts)-1]++
	}
	if sorted {
		return first, inverse, counts
	}
	return byOccurrence(first, inverse, counts)
}

// byOccurrence puts what distinct found in the order of first occurrence.
func byOccurrence(first, inverse, counts []int64) (f, inv, n []int64) {
	place := make([]int, len(first)) // place[k] is the k-th to occur
	for i := range place {
		place[i] = i
	}
	slices.SortFunc(place, func(a, b int) int { return cmp.Compare(first[a], first[b]) })
	moved := make([]int64, len(first))
	for to, from := range place {
		moved[from] = int64(to)
		f, n = append(f, first[from]), append(n, counts[from])
	}
	for i, v := range inverse {
		inverse[i] = moved[v]
	}
	return f, inverse, n
}

var comparisons = numberTypes[func(*onnxio.Tensor) func(i, j int) int]{comparing[float32], comparing[float64],
	intTypes[func(*onnxio.Tensor) func(i, j int) int]{
		comparing[int8], comparing[int16], comparing[int32], comparing[int64],
		comparing[uint8], comparing[uint16], comparing[uint32], comparing[uint64]}}

func comparing[T numeric](t *onnxio.Tensor) func(i, j int) int {
	v := onnxio.Data[T](t)
	return func(i, j int) int { return order(v[i], v[j]) }
}

// comparison compares two elements of a tensor by their indices.
func comparison(n *Node, t *onnxio.Tensor) (func(i, j int) int, error) {
	view := *t
	switch t.Type {
	case onnxio.String:
		return func(i, j int) int { return bytes.Compare(t.Strings[i], t.Strings[j]) }, nil
	case onnxio.Float16, onnxio.BFloat16:
		view = *widen(t)
	case onnxio.Bool:
		view.Type = onnxio.Uint8
	case onnxio.Complex64, onnxio.Complex128:
		view.Type, view.Dims = onnxio.Float, append([]int64{2}, t.Dims...)
		if t.Type == onnxio.Complex128 {
			view.Type = onnxio.Double
		}
		parts, err := comparison(n, &view)
		return func(i, j int) int {
			if r := parts(2*i, 2*j); r != 0 {
				return r
			}
			return parts(2*i+1, 2*j+1)
		}, err
	}
	compare, ok := comparisons.of(view.Type)
	if !ok {
		return nil, n.Errorf("element type %v is not implemented", t.Type)
	}
	return compare(&view), nil
}
