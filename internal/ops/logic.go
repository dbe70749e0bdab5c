package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Comparisons, logic on bools, Where, IsNaN, IsInf.

func init() {
	old := []AttrDef{intA("axis").until(6), intA("broadcast").until(6)}
	compare := func(name string, versions []int64, f func(a, b float64) bool, ints func(a, b int64) bool) {
		register(boolDef(name, versions, old, Numbers|Bools, func(c *Eval) error {
			return evalCompare(c, f, ints)
		}))
	}
	equalFloats, equalInts := func(a, b float64) bool { return a == b }, func(a,
		b int64) bool {
		return a == b
	}
	register(boolDef("Equal", []int64{1, 7, 11, 13, 19}, old, Numbers|Bools|Set(onnxio.String),
		func(c *Eval) error {
			if c.Has(0) && c.In[0].Type == onnxio.String {
				return equalStrings(c)
			}
			return evalCompare(c, equalFloats, equalInts)
		}))
	compare("Greater", []int64{1, 7, 9, 13}, func(a, b float64) bool { return a > b },
		func(a, b int64) bool { return a > b })
	compare("Less", []int64{1, 7, 9, 13}, func(a, b float64) bool { return a < b },
		func(a, b int64) bool { return a < b })
	compare("GreaterOrEqual", []int64{12, 16}, func(a, b float64) bool { return a >= b },
		func(a, b int64) bool { return a >= b })
	compare("LessOrEqual", []int64{12, 16}, func(a, b float64) bool { return a <= b },
		func(a, b int64) bool { return a <= b })
	logic := func(name string, f func(a, b bool) bool) {
		register(boolDef(name, []int64{1, 7}, old, Bools, func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			b, err := stretchedB(c)
			if err != nil {
				return err
			}
			return combine(c, c.In[0], b, onnxio.Bool, f)
		}))
	}
	logic("And", func(a, b bool) bool { return a && b })
	logic("Or", func(a, b bool) bool { return a || b })
	logic("Xor", func(a, b bool) bool { return a != b })
	register(&Def{
		Name: "Not", Versions: []int64{1}, Inputs: []Param{{Name: "X", Type: "T"}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Types:   map[string]TypeSet{"T": Bools}, Infer: inferSame,
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			y, err := c.Alloc(0, onnxio.Bool, c.In[0].Dims...)
			if err != nil {
				return err
			}
			for i, v := range onnxio.Data[bool](c.In[0]) {
				onnxio.Data[bool](y)[i] = !v
			}
			return nil
		},
	}, whereDef(), testDef("IsNaN", []int64{9, 13, 20}, nil, func(*Node) func(float64) bool {
		return math.IsNaN
	}),
		testDef("IsInf", []int64{10, 20}, []AttrDef{intA("detect_negative"), intA("detect_positive")},
			func(n *Node) func(float64) bool {
				neg, pos := n.Int("detect_negative", 1) != 0, n.Int("detect_positive", 1) != 0
				return func(x float64) bool { return pos && math.IsInf(x, 1) || neg && math.IsInf(x, -1) }
			}))
}

func boolDef(name string, versions []int64, attrs []AttrDef, types TypeSet, eval func(*Eval) error) *Def {
	d := binaryDef(name, versions, attrs, kernels2{}, nil)
	if versions[0] > 6 {
		d.Attrs = nil
	}
	d.Types = map[string]TypeSet{"T": types, "T1": Bools}
	d.Outputs = []Param{{Name: "C", Type: "T1"}}
	d.Infer = func(c *Infer) error {
		if err := inferBinary(c); err != nil {
			return err
		}
		if c.Out[0] != nil {
			c.Out[0].Type, c.Out[0].Elems = onnxio.Bool, nil
		}
		return nil
	}
	d.Eval = eval
	return d
}

// stretchedB is operand B by the rules before version 7.
func stretchedB(c *Eval) (*onnxio.Tensor, error) {
	pad, err := oldB(c.Node, len(c.In[0].Dims), len(c.In[1].Dims))
	if err != nil || pad == 0 {
		return c.In[1], err
	}
	b := *c.In[1]
	b.Dims = append([]int64{}, b.Dims...)
	for range pad {
		b.Dims = append(b.Dims, 1)
	}
	return &b, nil
}

func evalCompare(c *Eval, f func(a, b float64) bool, ints func(a, b int64) bool) error {
	if err := evalReady(c); err != nil {
		return err
	}
	b, err := stretchedB(c)
	if err != nil {
		return err
	}
	a := c.In[0]
	if Signed.Has(a.Type) {
		p, q := onnxio.NewTensor(onnxio.Int64, a.Dims...), onnxio.NewTensor(onnxio.Int64, b.Dims...)
		if err := cast(c.Node, p, a, false); err != nil {
			return err
		}
		if err := cast(c.Node, q, b, false); err != nil {
			return err
		}
		return combine(c, p, q, onnxio.Bool, ints)
	}
	if a.Type == onnxio.Uint64 {
		return combine(c, a, b, onnxio.Bool, func(x, y uint64) bool {
			if x == y {
				return ints(0, 0)
			}
			if x < y {
				return ints(0, 1)
			}
			return ints(1, 0)
		})
	}
	p, err := asFloat64(c, a)
	if err != nil {
		return err
	}
	q, err := asFloat64(c, b)
	if err != nil {
		return err
	}
	return combine(c, p, q, onnxio.Bool, f)
}

// equalStrings compares strings by numbers that equal ones share.
func equalStrings(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	number := map[string]int64{}
	var numbered [2]*onnxio.Tensor
	for i, t := range c.In[:2] {
		numbered[i] = onnxio.NewTensor(onnxio.Int64, t.Dims...)
		for k, w := range t.Strings {
			n, seen := number[string(w)]
			if !seen {
				n = int64(len(number))
				number[string(w)] = n
			}
			onnxio.Data[int64](numbered[i])[k] = n
		}
	}
	return combine(c, numbered[0], numbered[1], onnxio.Bool, func(a, b int64) bool { return a == b })
}

func testDef(name string, versions []int64, attrs []AttrDef, f func(*Node) func(float64) bool) *Def {
	return &Def{
		Name: name, Versions: versions, Attrs: attrs, Inputs: []Param{{Name: "X", Type: "T1"}},
		Outputs: []Param{{Name: "Y", Type: "T2"}},
		Types:   map[string]TypeSet{"T1": Floats | float8s, "T2": Bools},
		Infer: func(c *Infer) error {
			if err := inferSame(c); err != nil {
				return err
			}
			c.SetType(0, onnxio.Bool)
			return nil
		},
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			x, err := asFloat64(c, c.In[0])
			if err != nil {
				return err
			}
			y, err := c.Alloc(0, onnxio.Bool, x.Dims...)
			if err != nil {
				return err
			}
			test := f(c.Node)
			for i, v := range onnxio.Data[float64](x) {
				onnxio.Data[bool](y)[i] = test(v)
			}
			return nil
		},
	}
}

// Where takes X where the condition holds, else Y; all three broadcast.
func whereDef() *Def {
	return &Def{
		Name: "Where", Versions: []int64{9, 16},
		Inputs:  []Param{{Name: "condition", Type: "B"}, {Name: "X", Type: "T"}, {Name: "Y", Type: "T"}},
		Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"B": Bools, "T": All},
		Infer: func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			c.SetType(0, c.In[1].Type)
			if !shaped(c, 0, 1, 2) {
				return nil
			}
			out, ok := broadcastDims(c.In[0].Shape, c.In[1].Shape)
			if ok {
				out, ok = broadcastDims(out, c.In[2].Shape)
			}
			if !ok {
				return c.Node.Errorf("cannot broadcast %s, %s and %s", shapeText(c.In[0].Shape),
					shapeText(c.In[1].Shape), shapeText(c.In[2].Shape))
			}
			c.Set(0, c.In[1].Type, out)
			return nil
		},
		Eval: moving(evalWhere), Grad: gradWhere,
	}
}

// gradWhere gives dy to X where the condition holds and to Y where it does not.
func gradWhere(g *Grad) (err error) {
	none := g.Const(floatScalar(g.Value(g.DOut[0]).Type, 0))
	for i, parts := range [][]string{1: {g.In(0), g.DOut[0], none}, 2: {g.In(0), none, g.DOut[0]}} {
		if parts == nil || !g.Wants[i] {
			continue
		}
		d, err := g.One("", "Where", parts)
		if err != nil {
			return err
		}
		if g.DIn[i], err = sumTo(g, d, g.In(i)); err != nil {
			return err
		}
	}
	return nil
}

func evalWhere(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	cond, x, y := c.In[0], c.In[1], c.In[2]
	if x.Type != y.Type {
		return c.Node.Errorf("X is %v but Y is %v", x.Type, y.Type)
	}
	dims, ok := broadcast(cond.Dims, x.Dims)
	if ok {
		dims, ok = broadcast(dims, y.Dims)
	}
	if !ok {
		return c.Node.Errorf("cannot broadcast %s, %s and %s", dimsText(cond.Dims), dimsText(x.Dims),
			dimsText(y.Dims))
	}
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	out, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	test := onnxio.Data[bool](cond)
	s := [][]int64{spread(cond.Dims, dims), spread(x.Dims, dims), spread(y.Dims, dims)}
	to := int64(0)
	walk(dims, s, func(n int64, at []int64) {
		var step [3]int64
		for i := range s {
			if len(dims) > 0 {
				step[i] = s[i][len(dims)-1]
			}
		}
		p, q, r := at[0], at[1], at[2]
		for range n {
			if test[p] {
				copy(out.Raw[to:to+es], x.Raw[q*es:])
			} else {
				copy(out.Raw[to:to+es], y.Raw[r*es:])
			}
			to, p, q, r = to+es, p+step[0], q+step[1], r+step[2]
		}
	})
	return nil
}
