package ops

import (
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// ContribDomain is the domain of the operators that ONNX Runtime's quantizer and optimizer write. They have
// one version.
const ContribDomain = "com.microsoft"

// contrib makes a definition one of ContribDomain.
func contrib(d *Def) *Def {
	d.Domain, d.Versions = ContribDomain, []int64{1}
	return d
}

// formals reads a list of formal inputs or outputs, names and type variables: in "A T1, B T2, bias? T1" the
// last is optional, and "inputs* T" is variadic.
func formals(list string) []Param {
	var out []Param
	for _, item := range strings.Split(list, ", ") {
		name, typ, _ := strings.Cut(item, " ")
		p := Param{Name: strings.TrimRight(name, "?*"), Type: typ}
		p.Optional, p.Variadic = strings.HasSuffix(name, "?"), strings.HasSuffix(name, "*")
		out = append(out, p)
	}
	return out
}

// asOperator is a node seen as one of ai.onnx in its newest version, whose attributes it shares: QLinearConv
// as Conv.
func asOperator(n *Node, op string) *Node {
	d := registry[key{"", op}]
	return &Node{n.Node, d, d.Versions[len(d.Versions)-1]}
}

// inferAs is what another operator's inference gives for shapes alone; nil inputs are omitted.
func inferAs(n *Node, op string, in ...*Value) (*Value, error) {
	c := &Infer{Node: asOperator(n, op), Out: []*Value{{}}}
	for _, v := range in {
		if v != nil {
			v = &Value{Type: onnxio.Float, Shape: v.Shape, HasShape: v.HasShape}
		}
		c.In = append(c.In, v)
	}
	err := c.Node.Def.Infer(c)
	return c.Out[0], err
}

// evalAs runs the kernel of another operator on other inputs and gives its output.
func evalAs(c *Eval, op string, in ...*onnxio.Tensor) (*onnxio.Tensor, error) {
	inner := &Eval{Node: asOperator(c.Node, op), In: in, Limit: c.Limit, Want: []bool{true}}
	if err := inner.Node.Def.Eval(inner); err != nil {
		return nil, err
	}
	return inner.Out[0], nil
}

// input is input i of an inference, nil where it is omitted.
func (c *Infer) input(i int) *Value {
	if c.Has(i) {
		return c.In[i]
	}
	return nil
}

// setShape gives output 0 a type, and the shape of v where it is known.
func setShape(c *Infer, t onnxio.DataType, v *Value) {
	if v.HasShape {
		c.Set(0, t, v.Shape)
	} else {
		c.SetType(0, t)
	}
}

// channelsFirst is the permutation from [N,spatial...,C] to [N,C,spatial...], channelsLast the way back.
func channelsFirst(rank int) []int {
	perm := []int{0, rank - 1}
	for i := 1; i < rank-1; i++ {
		perm = append(perm, i)
	}
	return perm
}

func channelsLast(rank int) []int {
	perm := []int{0}
	for i := 2; i < rank; i++ {
		perm = append(perm, i)
	}
	return append(perm, 1)
}

// reordered is a copy of a tensor of whole-byte elements with its axes in another order.
func reordered(t *onnxio.Tensor, perm []int) *onnxio.Tensor {
	s := strides(t.Dims)
	dims, step := make([]int64, len(perm)), make([]int64, len(perm))
	for i, p := range perm {
		dims[i], step[i] = t.Dims[p], s[p]
	}
	out := onnxio.NewTensor(t.Type, dims...)
	move(out.Raw, t.Raw, int64(t.Type.Bits()/8), dims, strides(dims), step, 0, 0)
	return out
}

// reorderedValue is the same of a shape; nil where it is not known.
func reorderedValue(v *Value, perm func(rank int) []int) *Value {
	if v == nil || !v.HasShape {
		return v
	}
	if len(v.Shape) < 3 {
		return &Value{Type: v.Type, Shape: slices.Clone(v.Shape), HasShape: true}
	}
	out := &Value{Type: v.Type, HasShape: true}
	for _, p := range perm(len(v.Shape)) {
		out.Shape = append(out.Shape, v.Shape[p])
	}
	return out
}
