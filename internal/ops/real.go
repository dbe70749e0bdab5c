package ops

import (
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// floating are the types the neural-network kernels compute in; the half types are
// widened to float32 around them.
type floating interface{ float32 | float64 }

// tile is the length of the float64 accumulator rows that kernels keep on their stack.
const tile = 256

// byFloat dispatches a kernel on the type of input 0. Half types are storage: inputs are widened, the float32
// kernel runs, outputs of the first input's type variable are narrowed.
func byFloat(f32, f64 func(*Eval) error) func(*Eval) error {
	return func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		for _, t := range c.In {
			if t != nil && isHalf(t.Type) {
				return widened(c, byFloat(f32, f64))
			}
		}
		switch t := c.In[0].Type; t {
		case onnxio.Float:
			return f32(c)
		case onnxio.Double:
			return f64(c)
		default:
			return c.Node.Errorf("element type %v is not implemented", t)
		}
	}
}

// param is the formal input i of the version in force, the last one repeated when it is variadic.
func (n *Node) param(i int) *Param {
	params := n.InParams()
	if i >= len(params) {
		if k := len(params); k > 0 && params[k-1].Variadic {
			return &params[k-1]
		}
		return nil
	}
	return &params[i]
}

// evalReady reports an error unless the required inputs are there and those of one type variable have one
// type, so that kernels may view their data without looking again.
func evalReady(c *Eval) error {
	params := c.Node.InParams()
	for i := range params {
		p := &params[i]
		if !c.Has(i) {
			if !p.Optional && !p.Variadic {
				return c.Node.Errorf("input %s is missing", p.Name)
			}
			continue
		}
		if p.Type == params[0].Type && c.Has(0) && c.In[i].Type != c.In[0].Type {
			return c.Node.Errorf("input %s is %v but input %s is %v", p.Name, c.In[i].Type, params[0].Name,
				c.In[0].Type)
		}
	}
	return nil
}

// inferReady checks inputs against the version in force: their number, and their types
// as far as they are known.
func inferReady(c *Infer) error {
	params := c.Node.InParams()
	for i := range params {
		if p := &params[i]; !p.Optional && !p.Variadic && !c.Has(i) {
			return c.Node.Errorf("input %s is missing", p.Name)
		}
	}
	for i, v := range c.In {
		if v == nil || v.Type == onnxio.Undefined {
			continue
		}
		p := c.Node.param(i)
		if p == nil {
			return c.Node.Errorf("has %d inputs where %s-%d has %d", len(c.In), c.Node.OpType, c.Node.Since,
				len(params))
		}
		if set, ok := c.Node.Def.Types[p.Type]; ok && !set.Has(v.Type) {
			return c.Node.Errorf("input %s cannot be %v", p.Name, v.Type)
		}
		for j := 0; j < i; j++ {
			q := c.Node.param(j)
			if c.In[j] == nil || q.Type != p.Type || (q == p && p.Variadic) {
				continue
			}
			if u := c.In[j].Type; u != onnxio.Undefined && u != v.Type {
				return c.Node.Errorf("input %s is %v but input %s is %v", p.Name, v.Type, q.Name, u)
			}
		}
	}
	return nil
}

// shaped reports whether the given inputs all have a known rank.
func shaped(c *Infer, inputs ...int) bool {
	for _, i := range inputs {
		if !c.Has(i) || !c.In[i].HasShape {
			return false
		}
	}
	return true
}

// inferSame is the inference of operators whose outputs look like input 0.
func inferSame(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	for i := range c.Out {
		setLike(c, i, c.In[0])
	}
	return nil
}

// setLike gives output i the type and shape of v.
func setLike(c *Infer, i int, v *Value) {
	if v.Kind != nil {
		c.become(i, v)
	} else if v.HasShape {
		c.Set(i, v.Type, v.Shape)
	} else {
		c.SetType(i, v.Type)
	}
}

// agree reports whether two dimensions can be the same number.
func agree(a, b onnxio.Dim) bool { return !a.Known() || !b.Known() || a.Value == b.Value }

// agreeAll reports whether two shapes can be the same.
func agreeAll(a, b []onnxio.Dim) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !agree(a[i], b[i]) {
			return false
		}
	}
	return true
}

// merge gives what is known of a dimension that two sources describe.
func merge(a, b onnxio.Dim) onnxio.Dim {
	if b.Known() || (a.Param == "" && !a.Known()) {
		return b
	}
	return a
}

// knownDim is a dimension that is a number.
func knownDim(n int64) onnxio.Dim { return onnxio.Dim{Value: n} }

// unknownDim is a dimension of which nothing is known.
var unknownDim = onnxio.Dim{Value: -1}

// shapeText writes a shape for an error: [N,3,32,?].
func shapeText(s []onnxio.Dim) string {
	parts := make([]string, len(s))
	for i, d := range s {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = strconv.FormatInt(d.Value, 10)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// dimsText writes a shape of numbers for an error: [8,3,32,32].
func dimsText(s []int64) string {
	dims := make([]onnxio.Dim, len(s))
	for i, d := range s {
		dims[i] = onnxio.Dim{Value: d}
	}
	return shapeText(dims)
}

// sizeOf is the product of dims as an int; dims of a tensor that exists.
func sizeOf(dims []int64) int {
	n := 1
	for _, d := range dims {
		n *= int(d)
	}
	return n
}

// optional is the data of input i, nil when omitted.
func optional[T onnxio.Element](c *Eval, i int) []T {
	if !c.Has(i) {
		return nil
	}
	return onnxio.Data[T](c.In[i])
}

// gradDef is the start of a definition in the gradient domain: all inputs and outputs of one type T.
func gradDef(name string, inputs, outputs []string, attrs ...AttrDef) *Def {
	d := &Def{Name: name, Domain: GradDomain, Versions: []int64{1}, Attrs: attrs,
		Types: map[string]TypeSet{"T": Floats}}
	for _, in := range inputs {
		d.Inputs = append(d.Inputs, Param{Name: in, Type: "T"})
	}
	for _, out := range outputs {
		d.Outputs = append(d.Outputs, Param{Name: out, Type: "T"})
	}
	return d
}

// floatsT is the type table of operators over floats alone.
var floatsT = map[string]TypeSet{"T": Floats}

// formal is a param of a definition's tables; its methods say what is particular to it.
func formal(name, typ string) Param { return Param{Name: name, Type: typ} }
func (p Param) optional() Param {
	p.Optional = true
	return p
}
func (p Param) since(v int64) Param {
	p.Since = v
	return p
}
func (p Param) until(v int64) Param {
	p.Until = v
	return p
}

// Attributes by type, for the tables of definitions.
func intA(name string) AttrDef     { return AttrDef{Name: name, Type: onnxio.AttrInt} }
func intsA(name string) AttrDef    { return AttrDef{Name: name, Type: onnxio.AttrInts} }
func floatA(name string) AttrDef   { return AttrDef{Name: name, Type: onnxio.AttrFloat} }
func floatsA(name string) AttrDef  { return AttrDef{Name: name, Type: onnxio.AttrFloats} }
func stringsA(name string) AttrDef { return AttrDef{Name: name, Type: onnxio.AttrStrings} }
func stringA(name string) AttrDef  { return AttrDef{Name: name, Type: onnxio.AttrString} }
func (a AttrDef) since(v int64) AttrDef {
	a.Since = v
	return a
}
func (a AttrDef) until(v int64) AttrDef {
	a.Until = v
	return a
}
func (a AttrDef) required() AttrDef {
	a.Required = true
	return a
}
