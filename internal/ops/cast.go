package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Cast and CastLike: between numbers of every type, bools and strings.

func init() {
	types := Numbers | Bools | narrows | Set(onnxio.String)
	def := &Def{
		Name: "Cast", Versions: []int64{1, 6, 9, 13, 19, 21, 23, 24, 25, 28},
		Attrs: []AttrDef{{Name: "to", Type: onnxio.AttrInt, Required: true, Since: 6},
			intA("saturate").since(19),
			stringA("round_mode").since(24)}, Check: checkCast,
		Inputs: []Param{{Name: "input", Type: "T1"}}, Outputs: []Param{{Name: "output", Type: "T2"}},
		Types: map[string]TypeSet{"T1": types, "T2": types},
		Infer: func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			to := onnxio.DataType(c.Node.Int("to", 0))
			if !types.Has(to) {
				return c.Node.Errorf("cannot cast to %v", to)
			}
			c.SetType(0, to)
			if shaped(c, 0) {
				c.Set(0, to, c.In[0].Shape)
			}
			kept := Indices.Has(to) || to == onnxio.Double || to == onnxio.Float &&
				exactInFloat(c.In[0].Elems)
			if kept && c.Out[0] != nil && c.In[0].Const == nil {
				c.Out[0].Elems = c.In[0].Elems
			}
			return nil
		},
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			to := onnxio.DataType(c.Node.Int("to", 0))
			if !types.Has(to) {
				return c.Node.Errorf("cannot cast to %v", to)
			}
			out, err := c.Alloc(0, to, c.In[0].Dims...)
			if err != nil {
				return err
			}
			return convert(c.Node, out, c.In[0], conversionOf(c.Node))
		},
		Grad: func(g *Grad) (err error) {
			if g.Wants[0] && Floats.Has(g.Value(g.In(0)).Type) {
				g.DIn[0], err = g.One("", "Cast", []string{g.DOut[0]},
					onnxio.IntAttr("to", int64(g.Value(g.In(0)).Type)))
			}
			return err
		},
	}
	like := *def
	like.Name, like.Versions = "CastLike", []int64{15, 19, 21, 23, 24, 25}
	like.Attrs = []AttrDef{intA("saturate").since(19), stringA("round_mode").since(24)}
	like.Inputs = []Param{{Name: "input", Type: "T1"}, {Name: "target_type", Type: "T2", Flat: true}}
	like.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.SetType(0, c.In[1].Type)
		if shaped(c, 0) {
			c.Set(0, c.In[1].Type, c.In[0].Shape)
		}
		return nil
	}
	like.Eval = func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		out, err := c.Alloc(0, c.In[1].Type, c.In[0].Dims...)
		if err != nil {
			return err
		}
		return convert(c.Node, out, c.In[0], conversionOf(c.Node))
	}
	register(def, &like)
}

// exactInFloat reports whether dimensions survive float32. A symbol does: it stands for no batch or side of
// 2^24.
func exactInFloat(dims []onnxio.Dim) bool {
	for _, d := range dims {
		if d.Value > 1<<24 {
			return false
		}
	}
	return true
}

// conversion is how numbers become ones of a type that does not hold them.
type conversion struct {
	// nearest rounds floats that become integers; by default they are truncated.
	nearest bool
	// wrap makes what is beyond a float8 type infinity or NaN; by default it becomes the largest number.
	wrap bool
	// scale is how float8e8m0 rounds: up, down or nearest.
	scale string
}

// conversionOf reads the attributes of Cast and CastLike.
func conversionOf(n *Node) conversion {
	return conversion{wrap: n.Int("saturate", 1) == 0, scale: n.Str("round_mode", "up")}
}

// checkCast refuses a rounding mode that ONNX does not know.
func checkCast(n *Node) error {
	switch s := n.Str("round_mode", "up"); s {
	case "up", "down", "nearest":
		return nil
	default:
		return n.Errorf("round_mode %q is not up, down or nearest", s)
	}
}

// cast converts the elements of src to dst's type. Floats become integers by truncation, or rounded to
// nearest when round is set.
func cast(n *Node, dst, src *onnxio.Tensor, round bool) error {
	return convert(n, dst, src, conversion{nearest: round, scale: "up"})
}

// convert is cast in full. Elements of storage types pass through a wider type, some thousands at a time.
func convert(n *Node, dst, src *onnxio.Tensor, how conversion) error {
	switch {
	case !hasData(src):
		return n.Errorf("the elements of a %v are not there", src.Type)
	case dst.Type == src.Type:
		copy(dst.Raw, src.Raw)
		copy(dst.Strings, src.Strings)
		return nil
	case dst.Type == onnxio.String, src.Type == onnxio.String:
		return castText(n, dst, src, how)
	case stored(dst.Type), stored(src.Type):
		return castStored(n, dst, src, how)
	}
	return castPlain(n, dst, src, how.nearest)
}

// castPlain converts between the types that Go computes in.
func castPlain(n *Node, dst, src *onnxio.Tensor, round bool) error {
	if dst.Type == src.Type {
		copy(dst.Raw, src.Raw)
		return nil
	}
	switch src.Type {
	case onnxio.Float:
		return castFrom[float32](n, dst, src, round)
	case onnxio.Double:
		return castFrom[float64](n, dst, src, round)
	case onnxio.Int8:
		return castFrom[int8](n, dst, src, round)
	case onnxio.Int16:
		return castFrom[int16](n, dst, src, round)
	case onnxio.Int32:
		return castFrom[int32](n, dst, src, round)
	case onnxio.Int64:
		return castFrom[int64](n, dst, src, round)
	case onnxio.Uint8, onnxio.Bool:
		bytes := *src
		bytes.Type = onnxio.Uint8
		return castFrom[uint8](n, dst, &bytes, round)
	case onnxio.Uint16:
		return castFrom[uint16](n, dst, src, round)
	case onnxio.Uint32:
		return castFrom[uint32](n, dst, src, round)
	case onnxio.Uint64:
		return castFrom[uint64](n, dst, src, round)
	}
	return n.Errorf("cannot cast from %v", src.Type)
}

func castFrom[S numeric](n *Node, dst, src *onnxio.Tensor, round bool) error {
	from := onnxio.Data[S](src)
	switch dst.Type {
	case onnxio.Float:
		convertTo[S, float32](dst, from, false)
	case onnxio.Double:
		convertTo[S, float64](dst, from, false)
	case onnxio.Int8:
		convertTo[S, int8](dst, from, round)
	case onnxio.Int16:
		convertTo[S, int16](dst, from, round)
	case onnxio.Int32:
		convertTo[S, int32](dst, from, round)
	case onnxio.Int64:
		convertTo[S, int64](dst, from, round)
	case onnxio.Uint8:
		convertTo[S, uint8](dst, from, round)
	case onnxio.Uint16:
		convertTo[S, uint16](dst, from, round)
	case onnxio.Uint32:
		convertTo[S, uint32](dst, from, round)
	case onnxio.Uint64:
		convertTo[S, uint64](dst, from, round)
	case onnxio.Bool:
		to := onnxio.Data[bool](dst)
		for i, v := range from {
			to[i] = v != 0
		}
	default:
		return n.Errorf("cannot cast to %v", dst.Type)
	}
	return nil
}

func convertTo[S, D numeric](dst *onnxio.Tensor, from []S, round bool) {
	to := onnxio.Data[D](dst)
	for i, v := range from {
		if round {
			v = S(math.Round(float64(v)))
		}
		to[i] = D(v)
	}
}

// asFloat64 is a float64 copy of a numeric tensor.
func asFloat64(c *Eval, t *onnxio.Tensor) (*onnxio.Tensor, error) {
	out := onnxio.NewTensor(onnxio.Double, t.Dims...)
	return out, cast(c.Node, out, t, false)
}
