package ops

// GatherElements picks along one axis by an index for each element of the output.

func init() {
	register(&Def{Name: "GatherElements", Versions: []int64{11, 13}, Attrs: []AttrDef{intA("axis")},
		Inputs:  []Param{{Name: "data", Type: "T"}, {Name: "indices", Type: "I"}},
		Outputs: []Param{{Name: "output", Type: "T"}},
		Types:   map[string]TypeSet{"T": All, "I": Indices},
		Infer: func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			c.SetType(0, c.In[0].Type)
			if shaped(c, 1) {
				c.Set(0, c.In[0].Type, c.In[1].Shape)
			}
			return nil
		},
		Eval: moving(evalGatherElements),
		Grad: func(g *Grad) (err error) {
			if g.Wants[0] {
				g.DIn[0], err = scatterBack(g, g.DOut[0], g.In(1), g.Node.Int("axis", 0))
			}
			return err
		}})
}

func evalGatherElements(c *Eval) error {
	x, index := c.In[0], c.In[1]
	es, err := elementSize(c, x.Type)
	if err != nil {
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
	y, err := c.Alloc(0, x.Type, index.Dims...)
	if err != nil {
		return err
	}
	s := strides(x.Dims)
	along, last, i := s[axis], len(s)-1, int64(0)
	s[axis] = 0 // the index says where along the axis
	walk(index.Dims, [][]int64{s}, func(n int64, at []int64) {
		for k := range n {
			from := (at[0] + k*s[last] + list[i]*along) * es
			copy(y.Raw[i*es:][:es], x.Raw[from:])
			i++
		}
	})
	return nil
}
