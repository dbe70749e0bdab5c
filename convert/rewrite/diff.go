package rewrite

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Difference is one way in which two models differ.
type Difference struct {
	What   string `json:"what"` // opset, input, output, node, attribute, initializer, metadata
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// Diff lists how b differs from a: operator sets, inputs and outputs, nodes in their order with attributes,
// tensors by name with the largest difference of their numbers, and metadata.
func Diff(a, b *onnxio.Model) []Difference {
	var out []Difference
	add := func(what, name, format string, args ...any) {
		out = append(out, Difference{what, name, fmt.Sprintf(format, args...)})
	}
	opsets := func(m *onnxio.Model) map[string]int64 {
		out := map[string]int64{}
		for _, o := range m.Opsets {
			out[onnxio.CanonicalDomain(o.Domain)] = o.Version
		}
		return out
	}
	p, q := opsets(a), opsets(b)
	for _, domain := range keys(p, q) {
		if p[domain] != q[domain] {
			add("opset", domain, "%d and %d", p[domain], q[domain])
		}
	}
	x, y := cmp.Or(a.Graph, &onnxio.Graph{}), cmp.Or(b.Graph, &onnxio.Graph{})
	values(x.Inputs, y.Inputs, "input", add)
	values(x.Outputs, y.Outputs, "output", add)
	nodes(x.Nodes, y.Nodes, add)
	tensors(x.Initializers, y.Initializers, add)
	properties := func(list []onnxio.Property) map[string]string {
		out := map[string]string{}
		for _, p := range list {
			out[p.Key] = p.Value
		}
		return out
	}
	before, after := properties(a.Metadata), properties(b.Metadata)
	for _, key := range keys(before, after) {
		if before[key] != after[key] {
			add("metadata", key, "%.60q and %.60q", before[key], after[key])
		}
	}
	return out
}

type adder func(what, name, format string, args ...any)

func keys[V any](a, b map[string]V) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func values(a, b []*onnxio.ValueInfo, what string, add adder) {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			add(what, b[i].Name, "only in the second")
		case i >= len(b):
			add(what, a[i].Name, "only in the first")
		case a[i].Name != b[i].Name:
			add(what, a[i].Name, "%q in the second", b[i].Name)
		case !reflect.DeepEqual(a[i].Type, b[i].Type):
			add(what, a[i].Name, "%s and %s", typeText(a[i].Type), typeText(b[i].Type))
		}
	}
}

func typeText(t *onnxio.Type) string {
	if t == nil {
		return "no type"
	}
	var dims []string
	for _, d := range t.Shape {
		if d.Param != "" {
			dims = append(dims, d.Param)
		} else {
			dims = append(dims, fmt.Sprint(d.Value))
		}
	}
	return fmt.Sprintf("%v [%s]", t.Elem, strings.Join(dims, ","))
}

// nodes compares the nodes in their order; where one list has a node more, the rest is compared after it.
func nodes(a, b []*onnxio.Node, add adder) {
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		if x.OpType != y.OpType || x.Domain != y.Domain {
			inB := slices.IndexFunc(b, func(n *onnxio.Node) bool {
				return n.OpType == x.OpType && slices.Equal(n.Outputs, x.Outputs)
			})
			inA := slices.IndexFunc(a, func(n *onnxio.Node) bool {
				return n.OpType == y.OpType && slices.Equal(n.Outputs, y.Outputs)
			})
			switch {
			case inB >= 0:
				add("node", title(y), "only in the second")
				b = b[1:]
				continue
			case inA >= 0:
				add("node", title(x), "only in the first")
				a = a[1:]
				continue
			}
			add("node", title(x), "%s in the second", title(y))
		} else {
			sameNode(x, y, add)
		}
		a, b = a[1:], b[1:]
	}
	for _, n := range a {
		add("node", title(n), "only in the first")
	}
	for _, n := range b {
		add("node", title(n), "only in the second")
	}
}

func title(n *onnxio.Node) string {
	name := n.Name
	if name == "" && len(n.Outputs) > 0 {
		name = n.Outputs[0]
	}
	return n.OpType + " " + name
}

func sameNode(x, y *onnxio.Node, add adder) {
	if !slices.Equal(x.Inputs, y.Inputs) {
		add("node", title(x), "inputs %v and %v", x.Inputs, y.Inputs)
	}
	if !slices.Equal(x.Outputs, y.Outputs) {
		add("node", title(x), "outputs %v and %v", x.Outputs, y.Outputs)
	}
	attrs := func(n *onnxio.Node) map[string]*onnxio.Attribute {
		out := map[string]*onnxio.Attribute{}
		for _, a := range n.Attrs {
			out[a.Name] = a
		}
		return out
	}
	p, q := attrs(x), attrs(y)
	for _, name := range keys(p, q) {
		if !reflect.DeepEqual(p[name], q[name]) {
			add("attribute", title(x)+"."+name, "%s and %s", attrText(p[name]), attrText(q[name]))
		}
	}
}

func attrText(a *onnxio.Attribute) string {
	switch {
	case a == nil:
		return "none"
	case a.Type == onnxio.AttrInt:
		return fmt.Sprint(a.I)
	case a.Type == onnxio.AttrFloat:
		return fmt.Sprint(a.F)
	case a.Type == onnxio.AttrInts:
		return fmt.Sprint(a.Ints)
	case a.Type == onnxio.AttrString:
		return fmt.Sprintf("%q", a.S)
	}
	return "another value"
}

func tensors(a, b []*onnxio.Tensor, add adder) {
	byName := func(list []*onnxio.Tensor) map[string]*onnxio.Tensor {
		out := map[string]*onnxio.Tensor{}
		for _, t := range list {
			out[t.Name] = t
		}
		return out
	}
	x, y := byName(a), byName(b)
	for _, name := range keys(x, y) {
		p, q := x[name], y[name]
		switch {
		case p == nil:
			add("initializer", name, "only in the second")
		case q == nil:
			add("initializer", name, "only in the first")
		case p.Type != q.Type || !slices.Equal(p.Dims, q.Dims):
			add("initializer", name, "%v %v and %v %v", p.Type, p.Dims, q.Type, q.Dims)
		case !bytes.Equal(p.Raw, q.Raw):
			add("initializer", name, "%s", farthest(p, q))
		}
	}
}

// farthest says by how much the numbers of two tensors differ.
func farthest(p, q *onnxio.Tensor) string {
	if p.Type != onnxio.Float {
		return "other values"
	}
	far, count := 0.0, 0
	for i, v := range p.Float32s() {
		if d := math.Abs(float64(v) - float64(q.Float32s()[i])); d != 0 {
			far, count = max(far, d), count+1
		}
	}
	return fmt.Sprintf("%d of %d numbers differ, by %.3g at most", count, p.Size(), far)
}
