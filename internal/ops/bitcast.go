package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// BitCast: the bits of every element as another type of the same width.

func init() {
	types := All &^ Set(onnxio.String)
	register(&Def{Name: "BitCast", Versions: []int64{26}, Attrs: []AttrDef{intA("to").required()},
		Inputs: []Param{{Name: "input", Type: "T1"}}, Outputs: []Param{{Name: "output", Type: "T2"}},
		Types: map[string]TypeSet{"T1": types, "T2": types},
		Infer: func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			to, err := bitType(c.Node, c.In[0].Type)
			if err != nil {
				return err
			}
			c.SetType(0, to)
			if shaped(c, 0) {
				c.Set(0, to, c.In[0].Shape)
			}
			return nil
		},
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			to, err := bitType(c.Node, c.In[0].Type)
			if err != nil {
				return err
			}
			y, err := c.Alloc(0, to, c.In[0].Dims...)
			if err != nil {
				return err
			}
			if copy(y.Raw, c.In[0].Raw); to == onnxio.Bool { // a bool of Go has no other bits
				for i, b := range y.Raw {
					y.Raw[i] = min(b, 1)
				}
			}
			return nil
		}})
}

// bitType is the type to cast to, which must be as wide as from.
func bitType(n *Node, from onnxio.DataType) (onnxio.DataType, error) {
	v := n.Int("to", 0)
	to := onnxio.DataType(v)
	if int64(to) != v || !to.Valid() || to == onnxio.String {
		return 0, n.Errorf("to is %d, which is no type", v)
	}
	if from != onnxio.Undefined && from.Bits() != to.Bits() {
		return 0, n.Errorf("%v and %v are not of one width", from, to)
	}
	return to, nil
}
