package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Scatter, ScatterElements and ScatterND write updates into a copy of data at places that an index names;
// GatherND reads such places. The index of ScatterElements has an element for each update, that of the ND
// operators a tuple of coordinates for each block of trailing dimensions.

func init() {
	types := map[string]TypeSet{"T": All, "I": Indices}
	reduction := stringA("reduction").since(16)
	inputs := []Param{{Name: "data", Type: "T"}, {Name: "indices", Type: "I"}, {Name: "updates", Type: "T"}}
	elements := func(name string, versions []int64, attrs ...AttrDef) *Def {
		return &Def{Name: name, Versions: versions, Attrs: append(attrs, intA("axis")), Inputs: inputs,
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: types, Infer: inferScatterElements,
			Eval: scattering(evalScatterElements),
			Grad: gradScatterElements}
	}
	register(elements("Scatter", []int64{9, 11}), elements("ScatterElements", []int64{11, 13, 16, 18},
		reduction),
		&Def{Name: "ScatterND", Versions: []int64{11, 13, 16, 18}, Attrs: []AttrDef{reduction},
			Inputs:  inputs,
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: types, Infer: inferScatterND,
			Eval: scattering(evalScatterND), Grad: gradScatterND},
		&Def{Name: "GatherND", Versions: []int64{11, 12, 13}, Attrs: []AttrDef{intA("batch_dims").since(12)},
			Inputs:  inputs[:2],
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: types, Infer: inferGatherND,
			Eval: moving(evalGatherND), Grad: gradGatherND})
}

func inferScatterElements(c *Infer) error {
	if err := inferSame(c); err != nil {
		return err
	}
	if shaped(c, 1, 2) && !agreeAll(c.In[1].Shape, c.In[2].Shape) {
		return c.Node.Errorf("indices %s and updates %s differ", shapeText(c.In[1].Shape),
			shapeText(c.In[2].Shape))
	}
	return nil
}

func evalScatterElements(c *Eval) error {
	x, index, updates := c.In[0], c.In[1], c.In[2]
	y, join, err := scattered(c, evalScatterElements)
	if err != nil || join == nil {
		return err
	}
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
	if err != nil {
		return err
	}
	list, err := elementIndex(c.Node, x.Dims, index, axis)
	if err != nil {
		return err
	}
	if !equal(index.Dims, updates.Dims) {
		return c.Node.Errorf("indices %s and updates %s differ", dimsText(index.Dims), dimsText(updates.Dims))
	}
	copy(y.Raw, x.Raw)
	s := strides(x.Dims)
	along, last, i := s[axis], len(s)-1, int64(0)
	s[axis] = 0 // the index says where along the axis
	walk(index.Dims, [][]int64{s}, func(n int64, at []int64) {
		for k := range n {
			join(at[0]+k*s[last]+list[i]*along, i)
			i++
		}
	})
	return nil
}

// elementIndex checks an index that has the rank of the data it points into, and no dimension beyond the
// data's except along the axis; it gives its elements counted from the front.
func elementIndex(n *Node, dims []int64, index *onnxio.Tensor, axis int) ([]int64, error) {
	list, ok := intsOf(index)
	fits := ok && len(index.Dims) == len(dims)
	for i := 0; fits && i < len(dims); i++ {
		fits = i == axis || index.Dims[i] <= dims[i]
	}
	if !fits {
		return nil, n.Errorf("indices %v %s do not fit %s", index.Type, dimsText(index.Dims), dimsText(dims))
	}
	return fromFront(n, list, dims[axis])
}

// fromFront replaces indices counted from the end of a dimension, and refuses those outside it.
func fromFront(n *Node, list []int64, d int64) ([]int64, error) {
	out := slices.Clone(list)
	for i, v := range out {
		if v < 0 {
			out[i] += d
		}
		if out[i] < 0 || out[i] >= d {
			return nil, n.Errorf("index %d is out of range for dimension %d", v, d)
		}
	}
	return out, nil
}

// scattering is moving for the scatters, which cannot join elements of which only stand-ins are at hand.
func scattering(kernel func(*Eval) error) func(*Eval) error {
	move := moving(kernel)
	return func(c *Eval) error {
		how := c.Node.Str("reduction", "none")
		if c.Has(0) && how != "none" && (packed(c.In[0].Type) || c.In[0].Type == onnxio.String) {
			return c.Node.Errorf("reduction %q of %v is not implemented", how, c.In[0].Type)
		}
		return move(c)
	}
}

// scattered makes output 0 like data, and gives how element i of the updates joins element at of the output.
// Half floats that are added run widened, by again; then join is nil.
func scattered(c *Eval, again func(*Eval) error) (y *onnxio.Tensor, join func(at, i int64), err error) {
	if err := evalReady(c); err != nil {
		return nil, nil, err
	}
	how := c.Node.Str("reduction", "none")
	if isHalf(c.In[0].Type) && how != "none" {
		return nil, nil, widened(c, again)
	}
	es, err := elementSize(c, c.In[0].Type)
	if err != nil {
		return nil, nil, err
	}
	if y, err = c.Alloc(0, c.In[0].Type, c.In[0].Dims...); err != nil {
		return nil, nil, err
	}
	updates := c.In[2]
	if how == "none" {
		return y, func(at, i int64) { copy(y.Raw[at*es:][:es], updates.Raw[i*es:]) }, nil
	}
	kernels, ok := scatterKernels.of(y.Type)
	if !ok {
		return nil, nil, c.Node.Errorf("reduction %q of %v is not implemented", how, y.Type)
	}
	if join = kernels(how, y, updates); join == nil {
		return nil, nil, c.Node.Errorf("reduction %q is unknown", how)
	}
	return y, join, nil
}

// numberTypes is one instance of a generic kernel for each numeric type.
type numberTypes[F any] struct {
	f32, f64 F
	ints     intTypes[F]
}

// of is the instance for t; ok is false for the half types, bools and strings.
func (k numberTypes[F]) of(t onnxio.DataType) (F, bool) {
	switch t {
	case onnxio.Float:
		return k.f32, true
	case onnxio.Double:
		return k.f64, true
	}
	return k.ints.of(t)
}

// byNumber dispatches a kernel on the type of input 0; half types are widened around the float32 one.
func byNumber(k numberTypes[func(*Eval) error]) func(*Eval) error {
	return func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		for _, t := range c.In {
			if t != nil && isHalf(t.Type) {
				return widened(c, byNumber(k))
			}
		}
		kernel, ok := k.of(c.In[0].Type)
		if !ok {
			return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
		}
		return kernel(c)
	}
}

var scatterKernels = numberTypes[func(how string, y, updates *onnxio.Tensor) func(at,
	i int64)]{joining[float32], joining[float64],
	intTypes[func(how string, y, updates *onnxio.Tensor) func(at, i int64)]{joining[int8], joining[int16],
		joining[int32], joining[int64],
		joining[uint8], joining[uint16], joining[uint32], joining[uint64]}}

func joining[T numeric](how string, y, updates *onnxio.Tensor) func(at, i int64) {
	f := map[string]func(a, b T) T{"add": add[T], "mul": mul[T], "max": greaterOf[T], "min": lesserOf[T]}[how]
	if f == nil {
		return nil
	}
	to, from := onnxio.Data[T](y), onnxio.Data[T](updates)
	return func(at, i int64) { to[at] = f(to[at], from[i]) }
}

// tuples reads an index whose last dimension holds coordinates of the first dimensions of a block tensor.
type tuples struct {
	list  []int64
	n     int64 // number of tuples
	width int64 // coordinates of each
	dims  []int64
	block int64 // elements of what a tuple points at
}

// tuplesOf checks index against dims, the dimensions that it points into.
func tuplesOf(n *Node, index *onnxio.Tensor, dims []int64) (t tuples, err error) {
	list, ok := intsOf(index)
	if !ok || len(index.Dims) == 0 {
		return t, n.Errorf("indices %v %s are no list of coordinates", index.Type, dimsText(index.Dims))
	}
	last := len(index.Dims) - 1
	if t.width = index.Dims[last]; t.width > int64(len(dims)) {
		return t, n.Errorf("indices %s have more coordinates than %s dimensions", dimsText(index.Dims),
			dimsText(dims))
	}
	t.list, t.n, t.dims, t.block = list, int64(sizeOf(index.Dims[:last])), dims, int64(sizeOf(dims[t.width:]))
	return t, nil
}

// at is the offset in elements of the block that tuple i points at.
func (t *tuples) at(n *Node, i int64) (int64, error) {
	at := int64(0)
	for k, v := range t.list[i*t.width:][:t.width] {
		d := t.dims[k]
		if v < 0 {
			v += d
		}
		if v < 0 || v >= d {
			return 0, n.Errorf("indices %v are out of range for %s", t.list[i*t.width:][:t.width],
				dimsText(t.dims))
		}
		at = at*d + v
	}
	return at * t.block, nil
}

// tupleShape is the shape of what an index of tuples picks from data: [indices but the last..., data after
// the tuple...]. ok is false when it is not known.
func tupleShape(n *Node, data, index []onnxio.Dim, batch int) (out []onnxio.Dim, ok bool, err error) {
	if len(index) == 0 {
		return nil, false, n.Errorf("indices are a scalar")
	}
	last := index[len(index)-1]
	if batch < 0 || batch >= len(index) || batch > len(data) {
		return nil, false, n.Errorf("batch_dims %d with data %s and indices %s", batch, shapeText(data),
			shapeText(index))
	}
	if !last.Known() {
		return nil, false, nil
	}
	if last.Value > int64(len(data)-batch) {
		return nil, false, n.Errorf("indices %s have more coordinates than %s dimensions", shapeText(index),
			shapeText(data))
	}
	out = append(out, index[:len(index)-1]...)
	return append(out, data[batch+int(last.Value):]...), true, nil
}

func inferScatterND(c *Infer) error {
	if err := inferSame(c); err != nil || !shaped(c, 0, 1) {
		return err
	}
	want, ok, err := tupleShape(c.Node, c.In[0].Shape, c.In[1].Shape, 0)
	if err == nil && ok && shaped(c, 2) && !agreeAll(want, c.In[2].Shape) {
		return c.Node.Errorf("updates %s where data %s and indices %s want %s", shapeText(c.In[2].Shape),
			shapeText(c.In[0].Shape),
			shapeText(c.In[1].Shape), shapeText(want))
	}
	return err
}

func evalScatterND(c *Eval) error {
	x, updates := c.In[0], c.In[2]
	y, join, err := scattered(c, evalScatterND)
	if err != nil || join == nil {
		return err
	}
	t, err := tuplesOf(c.Node, c.In[1], x.Dims)
	if err != nil {
		return err
	}
	if updates.Size() != t.n*t.block {
		return c.Node.Errorf("updates %s do not fit data %s and indices %s", dimsText(updates.Dims),
			dimsText(x.Dims), dimsText(c.In[1].Dims))
	}
	copy(y.Raw, x.Raw)
	for i := range t.n {
		at, err := t.at(c.Node, i)
		if err != nil {
			return err
		}
		for k := range t.block {
			join(at+k, i*t.block+k)
		}
	}
	return nil
}

func inferGatherND(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	batch := c.Node.Int("batch_dims", 0)
	if batch < 0 || batch > int64(len(c.In[0].Shape)) {
		return c.Node.Errorf("batch_dims %d of %s", batch, shapeText(c.In[0].Shape))
	}
	out, ok, err := tupleShape(c.Node, c.In[0].Shape, c.In[1].Shape, int(batch))
	if err == nil && ok {
		c.Set(0, c.In[0].Type, out)
	}
	return err
}

func evalGatherND(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, index, n := c.In[0], c.In[1], c.Node
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	batch := int(min(max(n.Int("batch_dims", 0), -1), 1<<10))
	dims, ok, err := tupleShape(n, knownDims(x.Dims), knownDims(index.Dims), batch)
	if err != nil {
		return err
	}
	if !ok || !equal(x.Dims[:batch], index.Dims[:batch]) {
		return n.Errorf("data %s and indices %s differ in batch_dims %d", dimsText(x.Dims),
			dimsText(index.Dims), batch)
	}
	t, err := tuplesOf(n, index, x.Dims[batch:])
	if err != nil {
		return err
	}
	shape, _ := (&Value{Shape: dims, HasShape: true}).Dims()
	y, err := c.Alloc(0, x.Type, shape...)
	if err != nil {
		return err
	}
	per, size := t.n/max(int64(sizeOf(x.Dims[:batch])), 1), int64(sizeOf(x.Dims[batch:]))
	for i := range t.n {
		at, err := t.at(n, i)
		if err != nil {
			return err
		}
		copy(y.Raw[i*t.block*es:][:t.block*es], x.Raw[(i/per*size+at)*es:])
	}
	return nil
}

// zerosLike is a constant of zeros with the type and shape of a value.
func zerosLike(g *Grad, name string) string {
	return g.Const(onnxio.NewTensor(g.Value(name).Type, g.Dims(name)...))
}

// gradScatter is the gradient of the scatters that replace or add: updates get what they wrote, read back by
// gather; data gets the rest, with zeros written over what was replaced.
func gradScatter(g *Grad, gather string, attrs ...*onnxio.Attribute) (err error) {
	how := g.Node.Str("reduction", "none")
	if how != "none" && how != "add" {
		return g.Node.Errorf("no gradient for reduction %q", how)
	}
	dy, index := g.DOut[0], g.In(1)
	if g.Wants[0] {
		if g.DIn[0] = dy; how == "none" {
			scatter := "ScatterElements"
			if gather == "GatherND" {
				scatter = "ScatterND"
			}
			if g.DIn[0], err = g.One("", scatter, []string{dy, index, zerosLike(g, g.In(2))},
				attrs...); err != nil {
				return err
			}
		}
	}
	if g.Wants[2] {
		g.DIn[2], err = g.One("", gather, []string{dy, index}, attrs...)
	}
	return err
}

func gradScatterElements(g *Grad) error {
	return gradScatter(g, "GatherElements", onnxio.IntAttr("axis", g.Node.Int("axis", 0)))
}

func gradScatterND(g *Grad) error { return gradScatter(g, "GatherND") }

func gradGatherND(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	if b := g.Node.Int("batch_dims", 0); b != 0 {
		return g.Node.Errorf("no gradient for batch_dims %d", b)
	}
	g.DIn[0], err = g.One("", "ScatterND", []string{zerosLike(g, g.In(0)), g.In(1), g.DOut[0]},
		onnxio.StringAttr("reduction", "add"))
	return err
}

// scatterBack is the gradient of operators that pick elements along an axis: dy added into zeros at indices.
func scatterBack(g *Grad, dy, indices string, axis int64) (string, error) {
	return g.One("", "ScatterElements", []string{zerosLike(g, g.In(0)), indices, dy},
		onnxio.IntAttr("axis", axis),
		onnxio.StringAttr("reduction", "add"))
}
