package check

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// sizes bounds the operators that make much out of little.
func (c *checker) sizes(s *scope, i int, n *onnxio.Node, version int64) {
	x := s.input(n, 0)
	switch n.OpType {
	case "ConstantOfShape":
		shape, ok := x.ints()
		elem := onnxio.Float
		if a := n.Attr("value"); a != nil && a.T != nil {
			elem = a.T.Type
		}
		if ok {
			c.bytes(s.node(i), elem, shape)
		}
	case "Expand":
		if shape, ok := s.input(n, 1).ints(); ok {
			c.bytes(s.node(i), x.elem, shape)
		}
	case "RandomNormal", "RandomUniform":
		c.bytes(s.node(i), onnxio.DataType(n.Int("dtype", int64(onnxio.Float))), n.Ints("shape"))
	case "Tile":
		c.tile(s, i, n, x)
	case "Range":
		c.rangeCount(s, i, n, x)
	case "Resize", "Upsample":
		c.resize(s, i, n, x, version)
	case "Pad":
		c.pad(s, i, n, x)
	case "Reshape":
		c.reshape(s, i, n, x)
	case "OneHot":
		if depth, ok := s.input(n, 1).ints(); ok && len(depth) == 1 {
			c.bytes(s.node(i), s.input(n, 2).elem, append(certain(x.dims), depth[0]))
		}
	}
}

// certain are the dimensions that are numbers.
func certain(dims []int64) []int64 {
	var out []int64
	for _, d := range dims {
		if d >= 0 {
			out = append(out, d)
		}
	}
	return out
}

// scaled multiplies the dimensions that are known by factors, one each; +Inf where that is beyond int64.
func (c *checker) scaled(s *scope, i int, elem onnxio.DataType, dims []int64, factors []float64) {
	var out []int64
	for j, f := range factors {
		d := int64(1)
		if j < len(dims) && dims[j] >= 0 {
			d = dims[j]
		}
		v := float64(d) * f
		switch {
		case math.IsNaN(v) || v < 0:
			c.bad(s.node(i), "scale %v of a dimension of %d", f, d)
			return
		case v > math.MaxInt64/2:
			v = math.MaxInt64 / 2
		}
		out = append(out, int64(v))
	}
	c.bytes(s.node(i), elem, out)
}

func (c *checker) tile(s *scope, i int, n *onnxio.Node, x *known) {
	repeats, ok := s.input(n, 1).ints()
	if !ok {
		return
	}
	if x.ranked && len(repeats) != len(x.dims) {
		c.bad(s.node(i), "%d repeats for an input of rank %d", len(repeats), len(x.dims))
		return
	}
	factors := make([]float64, len(repeats))
	for j, r := range repeats {
		factors[j] = float64(r)
	}
	c.scaled(s, i, x.elem, x.dims, factors)
}

func (c *checker) rangeCount(s *scope, i int, n *onnxio.Node, start *known) {
	v := make([]float64, 3)
	for j, k := range []*known{start, s.input(n, 1), s.input(n, 2)} {
		f, ok := k.floats()
		if d, isInt := k.ints(); isInt && len(d) == 1 {
			f, ok = []float64{float64(d[0])}, true
		}
		if !ok || len(f) != 1 {
			return
		}
		v[j] = f[0]
	}
	if v[2] == 0 || math.IsNaN(v[0]+v[1]+v[2]) {
		c.bad(s.node(i), "a range from %v to %v in steps of %v", v[0], v[1], v[2])
		return
	}
	c.scaled(s, i, start.elem, nil, []float64{max(0, math.Ceil((v[1]-v[0])/v[2]))})
}

// resize looks at sizes (input 3) and scales: input 2, or 1 for Upsample and the
// first Resize, or an attribute.
func (c *checker) resize(s *scope, i int, n *onnxio.Node, x *known, version int64) {
	if sizes, ok := s.input(n, 3).ints(); ok && len(sizes) > 0 {
		c.bytes(s.node(i), x.elem, sizes)
	}
	at := 2
	if n.OpType == "Upsample" || version < 11 {
		at = 1
	}
	scales, ok := s.input(n, at).floats()
	if a := n.Attr("scales"); a != nil && a.Type == onnxio.AttrFloats {
		scales, ok = nil, true
		for _, f := range a.Floats {
			scales = append(scales, float64(f))
		}
	}
	if !ok || len(scales) == 0 {
		return
	}
	for _, f := range scales {
		if !(f > 0) {
			c.bad(s.node(i), "scales %v", scales)
			return
		}
	}
	if n.Attr("axes") == nil { // then scales are per dimension
		c.scaled(s, i, x.elem, x.dims, scales)
	} else {
		c.scaled(s, i, x.elem, nil, scales)
	}
}

func (c *checker) pad(s *scope, i int, n *onnxio.Node, x *known) {
	pads, ok := s.input(n, 1).ints()
	for _, name := range []string{"pads", "paddings"} {
		if a := n.Attr(name); a != nil {
			pads, ok = a.Ints, true
		}
	}
	if !ok {
		return
	}
	for _, p := range pads {
		if p < -maxExtent || p > maxExtent {
			c.bad(s.node(i), "pads %v", pads)
			return
		}
	}
	axes := s.input(n, 3)
	if len(pads)%2 != 0 || x.ranked && len(n.Inputs) < 4 && len(pads) != 2*len(x.dims) {
		c.bad(s.node(i), "%d pads for an input of rank %d", len(pads), len(x.dims))
		return
	}
	if axes.elem != onnxio.Undefined || len(n.Inputs) > 3 {
		return // which dimensions they are for is a matter of inference
	}
	var out []int64
	for j := range len(pads) / 2 {
		d := pads[j] + pads[j+len(pads)/2]
		if j < len(x.dims) && x.dims[j] >= 0 {
			d += min(x.dims[j], math.MaxInt64/2)
		}
		out = append(out, max(d, 0))
	}
	c.bytes(s.node(i), x.elem, out)
}

// reshape checks the target: no number below -1, at most one -1, and as many elements as the
// input where both are known.
func (c *checker) reshape(s *scope, i int, n *onnxio.Node, x *known) {
	shape, ok := s.input(n, 1).ints()
	if a := n.Attr("shape"); a != nil {
		shape, ok = a.Ints, true
	}
	if !ok {
		return
	}
	open, zeros := 0, 0
	var fixed []int64
	for _, d := range shape {
		switch {
		case d < -1:
			c.bad(s.node(i), "shape %v", shape)
			return
		case d == -1:
			open++
		case d == 0:
			zeros++
		default:
			fixed = append(fixed, d)
		}
	}
	switch {
	case open > 1:
		c.bad(s.node(i), "shape %v has more than one -1", shape)
		return
	case open > 0 && zeros > 0 && n.Int("allowzero", 0) != 0:
		c.bad(s.node(i), "shape %v has both 0 and -1 with allowzero", shape)
		return
	}
	c.bytes(s.node(i), x.elem, fixed)
	if !x.ranked || len(certain(x.dims)) != len(x.dims) || open+zeros > 0 {
		return
	}
	have, err1 := onnxio.CheckedBytes(onnxio.Uint8, x.dims)
	want, err2 := onnxio.CheckedBytes(onnxio.Uint8, shape)
	if err1 == nil && err2 == nil && have != want {
		c.bad(s.node(i), "cannot reshape %v to %v", x.dims, shape)
	}
}
