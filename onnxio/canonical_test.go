package onnxio

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func relu(in, out string) *Node {
	return &Node{OpType: "Relu", Name: out, Inputs: []string{in}, Outputs: []string{out}}
}

func nodeNames(nodes []*Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func TestSortNodes(t *testing.T) {
	branch := func(reads string) *Node {
		g := &Graph{Nodes: []*Node{relu(reads, "inner")}, Outputs: []*ValueInfo{{Name: "inner"}}}
		return &Node{OpType: "If", Name: "if", Inputs: []string{"c"}, Outputs: []string{"i"},
			Attrs: []*Attribute{{Name: "then_branch", Type: AttrGraph, G: g}}}
	}
	for _, tt := range []struct {
		name  string
		nodes []*Node
		want  string
	}{
		{"in order", []*Node{relu("x", "a"), relu("x", "b"), relu("a", "c")}, "a b c"},
		{"late maker", []*Node{relu("b", "c"), relu("x", "a"), relu("a", "b"), relu("c", "d")}, "a b c d"},
		{"read in a branch", []*Node{branch("late"), relu("x", "late")}, "late if"},
		{"a branch's own name", []*Node{branch("x"), relu("i", "a")}, "if a"},
		{"cycle", []*Node{relu("b", "a"), relu("a", "b")}, "!cycle"},
		{"cycle through a branch", []*Node{branch("a"), relu("i", "a")}, "!cycle"},
		{"own output", []*Node{relu("a", "a")}, "!cycle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.nodes)
			got, err := SortNodes(tt.nodes)
			if want, bad := strings.CutPrefix(tt.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || nodeNames(got) != tt.want {
				t.Fatalf("%q, %v", nodeNames(got), err)
			}
			if !slices.Equal(before, tt.nodes) {
				t.Error("the list given is changed")
			}
			if tt.want == nodeNames(tt.nodes) && &got[0] != &tt.nodes[0] {
				t.Error("a sorted list is copied")
			}
		})
	}
}

// A long chain in the worst order takes neither deep recursion nor quadratic time.
func TestSortLongChain(t *testing.T) {
	const n = 300000
	var nodes []*Node
	for i := range n {
		nodes = append(nodes, relu(fmt.Sprint("v", i+1), fmt.Sprint("v", i)))
	}
	got, err := SortNodes(nodes)
	if err != nil || got[0] != nodes[n-1] || got[n-1] != nodes[0] {
		t.Fatal(err)
	}
}

func TestCanonical(t *testing.T) {
	inner := &Graph{Name: "inner", Nodes: []*Node{relu("p", "q"), {OpType: "Neg", Domain: "ai.onnx",
		Name: "p", Inputs: []string{"x"}, Outputs: []string{"p"}}}}
	m := &Model{IRVersion: 8, Opsets: []Opset{{Domain: "ai.onnx", Version: 17}, {Domain: "f", Version: 1}},
		Functions: []*Function{{Name: "F", Domain: "f", Opsets: []Opset{{Domain: "ai.onnx", Version: 13}},
			Nodes: []*Node{relu("b", "c"), relu("a", "b")}}},
		Graph: &Graph{Nodes: []*Node{{OpType: "If", Name: "i", Inputs: []string{"c"}, Outputs: []string{"y"},
			Attrs: []*Attribute{{Name: "then_branch", Type: AttrGraph, G: inner}}}, relu("x", "c")}}}
	c, err := m.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	branch := c.Graph.Nodes[1].Attr("then_branch").G
	if nodeNames(c.Graph.Nodes) != "c i" || nodeNames(branch.Nodes) != "p q" || branch.Nodes[0].Domain != "" {
		t.Errorf("%s, %s", nodeNames(c.Graph.Nodes), nodeNames(branch.Nodes))
	}
	if f := c.Functions[0]; nodeNames(f.Nodes) != "b c" || f.Opsets[0].Domain != "" ||
		c.Opsets[0].Domain != "" {
		t.Errorf("%+v, %v", f, c.Opsets)
	}
	if nodeNames(m.Graph.Nodes) != "i c" || inner.Nodes[1].Domain != "ai.onnx" ||
		m.Opsets[0].Domain != "ai.onnx" || m.Functions[0].Opsets[0].Domain != "ai.onnx" {
		t.Error("the model given is changed")
	}
	if again, err := c.Canonical(); err != nil || again != c {
		t.Errorf("a canonical model is copied: %v", err)
	}
	old := &Model{IRVersion: 2, Graph: &Graph{}}
	if v := old.Opset("ai.onnx"); v != 1 {
		t.Errorf("a model of IR version 2 is of opset %d", v)
	}
	self := &Graph{Name: "self"}
	self.Nodes = []*Node{{OpType: "If", Attrs: []*Attribute{{Name: "g", G: self}}}}
	if _, err := (&Model{Graph: self}).Canonical(); err == nil {
		t.Error("a graph inside itself passes")
	}
}
