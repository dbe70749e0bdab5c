package builders_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Multiply-adds are those that torchvision publishes, to 1%, and parameters to the last.
func TestPublishedFigures(t *testing.T) {
	for _, w := range spec.Published("") {
		if testing.Short() && w.GMACs > 1 {
			continue
		}
		side := w.Size
		if side == 0 { // of masks: the image is taken whole
			side = w.Shorter
		}
		m, err := builders.Outline(w.Arch, builders.Config{Input: [3]int{3, side, side}})
		if err != nil {
			t.Error(err)
			continue
		}
		if side == w.Shorter { // published with the auxiliary head
			for _, h := range builders.Heads(m) {
				at := slices.IndexFunc(m.Graph.Values, func(v *onnxio.ValueInfo) bool {
					return v.Name == h.Value
				})
				m.Graph.Outputs = append(m.Graph.Outputs, m.Graph.Values[at])
			}
		}
		m.Graph.Inputs[0].Type.Shape[0] = onnxio.Dim{Value: 1}
		for _, o := range m.Graph.Outputs {
			if len(m.Graph.Outputs) < 3 { // a detector's axes follow from data
				o.Type.Shape[0] = onnxio.Dim{Value: 1}
			}
		}
		m.Graph.Values = nil
		shapes, err := infer.Shapes(m)
		if err != nil {
			t.Error(err)
			continue
		}
		got := float64(shapes.TotalFLOPs(m.Graph)) / 2e9
		// published with the box head's share for a thousand proposals
		if w.Arch == "fasterrcnn_resnet50_fpn" {
			got += 1000 * (256*7*7*1024 + 1024*1024 + 1024*5*91) / 1e9
		}
		if math.Abs(got-w.GMACs) > max(0.01*w.GMACs, 0.0006) { // three digits are published
			t.Errorf("%s %s: %.3f GMAC, published are %.3f", w.Arch, w.Name, got, w.GMACs)
		}
		n := builders.Parameters(m)
		if w.Arch == "googlenet" { // published without its auxiliary heads, which its file has
			n -= 2*(1024*(2048+1)+1000*(1024+1)+2*128) + 128*(512+528)
		}
		if len(m.Graph.Outputs) == 3 { // published without those of frozen norms
			for _, p := range m.Graph.Nodes {
				if p.OpType == "BatchNormalization" && strings.HasPrefix(p.Inputs[1], "backbone.body.") {
					n -= 2 * m.Graph.Initializer(p.Inputs[1]).Size()
				}
			}
		}
		if n != w.Parameters {
			t.Errorf("%s %s: %d parameters, published are %d", w.Arch, w.Name, n, w.Parameters)
		}
	}
}
