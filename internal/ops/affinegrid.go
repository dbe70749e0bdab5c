package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// AffineGrid: the places of a grid over a picture, from -1 to 1 along each axis, moved by an affine map for
// each picture: what GridSample takes. theta is [N,2,3] or [N,3,4], size is [N,C,H,W] or [N,C,D,H,W].

func init() {
	register(&Def{Name: "AffineGrid", Versions: []int64{20}, Attrs: []AttrDef{intA("align_corners")},
		Inputs:  []Param{{Name: "theta", Type: "T1"}, {Name: "size", Type: "T2"}},
		Outputs: []Param{{Name: "grid", Type: "T1"}},
		Types:   map[string]TypeSet{"T1": Floats, "T2": Set(onnxio.Int64)}, Tol: reduceTol,
		Infer: inferAffineGrid,
		Eval:  byFloat(evalAffineGrid[float32], evalAffineGrid[float64]), Grad: gradAffineGrid})
}

func inferAffineGrid(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	rank := int64(-1)
	if shaped(c, 0) {
		s := c.In[0].Shape
		if len(s) != 3 || s[1].Known() && (s[1].Value != 2 && s[1].Value != 3 ||
			!agree(s[2], knownDim(s[1].Value+1))) {
			return c.Node.Errorf("theta must be [N,2,3] or [N,3,4], not %s", shapeText(s))
		}
		if s[1].Known() {
			rank = s[1].Value
		}
	}
	size, known := c.In[1].Known()
	if !known && rank >= 0 {
		size, known = slices.Repeat([]onnxio.Dim{unknownDim}, int(rank)+2), true
	}
	if !known {
		return nil
	}
	if len(size) != 4 && len(size) != 5 || rank >= 0 && int64(len(size)) != rank+2 {
		return c.Node.Errorf("theta %s with size %s", shapeText(c.In[0].Shape), shapeText(size))
	}
	out := append([]onnxio.Dim{size[0]}, size[2:]...)
	if shaped(c, 0) {
		if !agree(size[0], c.In[0].Shape[0]) {
			return c.Node.Errorf("theta %s with size %s", shapeText(c.In[0].Shape), shapeText(size))
		}
		out[0] = merge(size[0], c.In[0].Shape[0])
	}
	c.Set(0, c.In[0].Type, append(out, knownDim(int64(len(size)-2))))
	return nil
}

// gridBase is the places before they are moved, [P,r+1]: innermost coordinate first, then 1.
func gridBase(spatial []int64, align bool) []float64 {
	r := len(spatial)
	base := make([]float64, sizeOf(spatial)*(r+1))
	s := strides(spatial)
	for p := range len(base) / (r + 1) {
		row := base[p*(r+1):][:r+1]
		row[r] = 1
		for a, d := range spatial {
			i := float64(int64(p) / s[a] % d)
			switch {
			case !align:
				row[r-1-a] = (2*i+1)/float64(d) - 1
			case d > 1:
				row[r-1-a] = 2*i/float64(d-1) - 1
			}
		}
	}
	return base
}

// gridSizes checks theta and size and gives the spatial sizes.
func gridSizes(n *Node, theta, size []int64) ([]int64, error) {
	r := int64(len(size)) - 2
	if r != 2 && r != 3 || !equal(theta, []int64{size[0], r, r + 1}) {
		return nil, n.Errorf(
			"theta %s with size %v; [N,2,3] with [N,C,H,W] or [N,3,4] with [N,C,D,H,W] are wanted",
			dimsText(theta), size)
	}
	return size[2:], nil
}

func evalAffineGrid[T floating](c *Eval) error {
	size, ok := intsOf(c.In[1])
	if !ok {
		return c.Node.Errorf("size is %v", c.In[1].Type)
	}
	spatial, err := gridSizes(c.Node, c.In[0].Dims, size)
	if err != nil {
		return err
	}
	r := len(spatial)
	y, err := c.Alloc(0, c.In[0].Type, append(append([]int64{size[0]}, spatial...), int64(r))...)
	if err != nil || y.Size() == 0 {
		return err
	}
	theta, to := onnxio.Data[T](c.In[0]), onnxio.Data[T](y)
	base := gridBase(spatial, c.Node.Int("align_corners", 0) != 0)
	places := len(base) / (r + 1)
	for i := range to {
		n, p := i/r/places, i/r%places
		row, at := theta[(n*r+i%r)*(r+1):][:r+1], base[p*(r+1):]
		sum := 0.0
		for k, t := range row {
			sum += float64(t) * at[k]
		}
		to[i] = T(sum)
	}
	return nil
}

// gradAffineGrid is dgrid, seen as [N,r,P], times the places [P,r+1].
func gradAffineGrid(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	dy := g.Dims(g.DOut[0])
	r := len(dy) - 2
	spatial := dy[1 : r+1]
	base := gridBase(spatial, g.Node.Int("align_corners", 0) != 0)
	places := onnxio.FromSlice(onnxio.Double, base, int64(sizeOf(spatial)), int64(r+1))
	if t := g.Value(g.DOut[0]).Type; t != onnxio.Double {
		other := onnxio.NewTensor(t, places.Dims...)
		if err := cast(g.Node, other, places, false); err != nil {
			return err
		}
		places = other
	}
	d, err := reshaped(g, g.DOut[0], []int64{dy[0], places.Dims[0], int64(r)})
	if err != nil {
		return err
	}
	if d, err = g.One("", "Transpose", []string{d}, onnxio.IntsAttr("perm", 0, 2, 1)); err != nil {
		return err
	}
	g.DIn[0], err = two(g, "MatMul", d, g.Const(places))
	return err
}
