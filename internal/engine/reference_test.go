package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// A reference kernel takes about so long for a float that it touches; other steps have
// the cost model's estimate.
const referenceFloat = 2 * time.Nanosecond

// Networks of more parameters are left out, with -short and without: they differ from those of their family
// in depth and width. The families that have no small network are there all the same without -short.
const fewParameters, manyParameters = 6_000_000, 32_000_000

var largeFamilies = []string{"alexnet", "vit_b_16"}

// TestReferenceSteps asks of the plans of builders' networks that steps on reference kernels take at most 2%
// of the time that the plan is expected to take.
func TestReferenceSteps(t *testing.T) {
	pool := parallel.New(2)
	defer pool.Close()
	for _, name := range builders.Names() {
		t.Run(name, func(t *testing.T) {
			m, err := builders.Outline(name, builders.Config{})
			if err != nil {
				t.Fatal(err)
			}
			n := parameters(m)
			if testing.Short() && n > fewParameters || n > manyParameters &&
				!slices.Contains(largeFamilies, name) {
				t.Skipf("%d parameters", n)
			}
			if m, err = builders.Build(name, builders.Config{}); err != nil {
				t.Fatal(err)
			}
			m.Graph.Inputs[0].Type.Shape[0] = onnxio.Dim{Value: 1}
			if slices.ContainsFunc(m.Graph.Nodes, func(n *onnxio.Node) bool {
				return n.OpType == "NonMaxSuppression"
			}) {
				t.Skip("a detector has no plan of its whole: shapes are known only while it runs")
			}
			p, err := Compile(m, Options{Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			if slow, all, names := references(p); slow*50 > all {
				t.Errorf("reference kernels take %v of %v: %v", slow, all, names)
			}
		})
	}
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Inputs[0].Type.Shape[0] = onnxio.Dim{Value: 1}
	p, err := Compile(m, Options{Pool: pool, Reference: true})
	if err != nil {
		t.Fatal(err)
	}
	if slow, all, _ := references(p); slow*2 < all {
		t.Errorf("without fast paths, reference kernels take %v of %v", slow, all)
	}
}

func parameters(m *onnxio.Model) (n int64) {
	for _, w := range m.Graph.Initializers {
		n += w.Size()
	}
	return n
}

// references is how long the steps on reference kernels are expected to take, all
// steps, and the former's names.
func references(p *Plan) (slow, all time.Duration, names []string) {
	for _, s := range p.Steps() {
		if s.Kernel != "reference" {
			all += s.Estimate
			continue
		}
		each := time.Duration(s.Bytes/4) * referenceFloat
		slow, all = slow+each, all+each
		names = append(names, s.Op+" "+s.Name)
	}
	return slow, all, names
}
