package recover

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// exported is a network as torch.onnx writes it: BatchNormalizations folded into the convolutions before
// them, weights of matrix products turned around, and neither under their names.
func exported(t *testing.T, m *onnxio.Model) *onnxio.Model {
	t.Helper()
	out, g := *m, *m.Graph
	out.Graph, out.Metadata = &g, nil
	g.Nodes, g.Initializers = nil, slices.Clone(g.Initializers)
	add := func(x *onnxio.Tensor) string {
		x.Name = fmt.Sprintf("onnx::Conv_%d", 400+len(g.Initializers))
		g.Initializers = append(g.Initializers, x)
		return x.Name
	}
	for i := 0; i < len(m.Graph.Nodes); i++ {
		n := *m.Graph.Nodes[i]
		n.Inputs = slices.Clone(n.Inputs)
		g.Nodes = append(g.Nodes, &n)
		if n.OpType == "Gemm" && n.Int("transB", 0) == 1 {
			n.Inputs[1], n.Attrs = add(turned(m.Graph.Initializer(n.Inputs[1]))), nil
		}
		if n.OpType != "Conv" || i+1 == len(m.Graph.Nodes) ||
			m.Graph.Nodes[i+1].OpType != "BatchNormalization" {
			continue
		}
		norm := m.Graph.Nodes[i+1]
		w, b := m.Graph.Initializer(n.Inputs[1]).Clone(), onnxio.NewTensor(onnxio.Float,
			m.Graph.Initializer(n.Inputs[1]).Dims[0])
		of := func(k, c int) float64 { return float64(m.Graph.Initializer(norm.Inputs[k]).Float32s()[c]) }
		row := len(w.Float32s()) / len(b.Float32s())
		for c := range b.Float32s() {
			scale := of(1, c) / math.Sqrt(of(4, c)+float64(norm.Float("epsilon", 1e-5)))
			for j := range row {
				w.Float32s()[c*row+j] *= float32(scale)
			}
			b.Float32s()[c] = float32(of(2, c) - scale*of(3, c))
		}
		n.Inputs, n.Outputs = []string{n.Inputs[0], add(w), add(b)}, norm.Outputs[:1]
		i++
	}
	used := map[string]bool{}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			used[in] = true
		}
	}
	g.Initializers = slices.DeleteFunc(g.Initializers, func(x *onnxio.Tensor) bool { return !used[x.Name] })
	return &out
}

func answers(t *testing.T, m *onnxio.Model, x *onnxio.Tensor) []float32 {
	t.Helper()
	p, err := engine.Compile(m, engine.Options{Shapes: map[string][]int64{"input": x.Dims}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	return out["output"].Float32s()
}

// Names that an exporter lost come back by the graph's structure, folded normalizations by their
// place, and the answers stay.
func TestWeights(t *testing.T) {
	for _, arch := range []string{"resnet20", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"} {
		t.Run(arch, func(t *testing.T) {
			cfg := builders.Config{Input: [3]int{3, 64, 64}, Classes: 10, Seed: 5}
			m, err := builders.Build(arch, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range m.Graph.Initializers { // of a network that was trained
				if strings.HasSuffix(w.Name, "running_mean") || strings.HasSuffix(w.Name, "running_var") {
					for i := range w.Float32s() {
						w.Float32s()[i] += 0.01 * float32(i%7)
					}
				}
			}
			file := exported(t, m)
			cfg.Seed = 6
			like, err := builders.Build(arch, cfg)
			if err != nil {
				t.Fatal(err)
			}
			sd, report, err := Weights(file, like)
			if err != nil {
				t.Fatal(err)
			}
			if arch != "squeezenet1_1" && (len(report.Unfolded) < 19 || report.Recovered < 38) ||
				report.Fresh > 0 {
				t.Errorf("%+v", report)
			}
			if _, err := convert.Apply(like, sd, convert.ApplyOptions{Strict: true}); err != nil {
				t.Fatal(err)
			}
			x := onnxio.NewTensor(onnxio.Float, 2, 3, 64, 64)
			for i := range x.Float32s() {
				x.Float32s()[i] = float32(i*7919%1009)/1009 - 0.5
			}
			want, got := answers(t, m, x), answers(t, like, x)
			for i := range want {
				if math.Abs(float64(want[i]-got[i])) > 1e-4*max(1, math.Abs(float64(want[i]))) {
					t.Fatalf("output %d is %v, of the export %v", i, got[i], want[i])
				}
			}
		})
	}
}

// Another network is refused with the layers that differ.
func TestAnotherNetwork(t *testing.T) {
	build := func(arch string) *onnxio.Model {
		m, err := builders.Build(arch, builders.Config{Classes: 10})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	_, _, err := Weights(build("resnet20"), build("resnet32"))
	if err == nil || !strings.Contains(err.Error(), "Conv[16 16 3 3]") ||
		!strings.Contains(err.Error(), "6 in the file, 10 in the network") {
		t.Error(err)
	}
}

// What no exporter writes is an error, not a panic: biases of another type, and normalizations by
// values that are computed.
func TestStrangeLayers(t *testing.T) {
	model := func(norm string, bias *onnxio.Tensor, dims ...int64) *onnxio.Model {
		named := func(name string, t *onnxio.Tensor) *onnxio.Tensor { t.Name = name; return t }
		conv := &onnxio.Node{OpType: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"c"}}
		g := &onnxio.Graph{Name: "g", Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
			onnxio.Shape("N", 1, 4, 4)...)},
			Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float,
				onnxio.Shape("N", 1, 4, 4)...)},
			Initializers: []*onnxio.Tensor{named("w", onnxio.Floats([]float32{1}, 1, 1, 1, 1)),
				named("s", onnxio.Floats([]float32{1}, 1))}}
		if bias != nil {
			conv.Inputs, g.Initializers = append(conv.Inputs, "b"), append(g.Initializers, named("b", bias))
		}
		g.Nodes = []*onnxio.Node{{OpType: "Relu", Inputs: []string{"s"}, Outputs: []string{"computed"}}, conv,
			{OpType: "BatchNormalization", Inputs: []string{"c", norm, "s", "s", "s"},
				Outputs: []string{"y"}}}
		return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
	}
	bare, double := model("s", nil), model("s", onnxio.FromSlice(onnxio.Double, []float64{1}, 1))
	for _, m := range []*onnxio.Model{bare, double} {
		m.Graph.Nodes[2] = &onnxio.Node{OpType: "Relu", Inputs: []string{"c"}, Outputs: []string{"y"}}
	}
	for _, pair := range [][2]*onnxio.Model{{double, bare}, {double, model("s", nil)},
		{bare, model("computed", nil)}} {
		if _, _, err := Weights(pair[0], pair[1]); err == nil {
			t.Error("no error")
		}
	}
}
