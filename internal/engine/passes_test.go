package engine

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

var update = flag.Bool("update", false, "write the golden files again")

// passCases are graphs whose dumps after each pass are kept: what a reader of the passes wants to see.
var passCases = map[string]func() *onnxio.Model{
	"conv-bn-relu-pool": func() *onnxio.Model {
		b := newNet(41, "N", 3, 16, 16)
		b.conv(3, 16, 3, 1, 1)
		b.bn(16, false)
		b.node("Relu", []string{b.last})
		b.node("MaxPool", []string{b.last}, onnxio.IntsAttr("kernel_shape", 2, 2),
			onnxio.IntsAttr("strides", 2, 2))
		b.node("Flatten", []string{b.last})
		return b.output()
	},
	"residual": func() *onnxio.Model { return residual(2, false).output() },
}

func TestGoldenPasses(t *testing.T) {
	for name, build := range passCases {
		for _, pass := range Passes() {
			t.Run(name+"/"+pass, func(t *testing.T) {
				got, err := Dump(build(), Options{Dims: map[string]int64{"N": 2}}, pass)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("testdata", "passes", name+"."+pass+".txt")
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("differs from %s (run with -update when it should):\n%s", path, got)
				}
			})
		}
	}
}

// A broken graph is found.
func TestVerifyFindsBrokenGraphs(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(g *graph)
		want   string
	}{
		"a value of no graph": {func(g *graph) { g.ops[1].in[0] = &value{name: "stray", kind: input} },
			"not in the graph"},
		"an op too early": {func(g *graph) { g.ops[0], g.ops[1] = g.ops[1], g.ops[0] },
			"before it is computed"},
		"a constant of nothing":  {func(g *graph) { g.ops[0].in[1].konst = nil }, "has no numbers"},
		"a value given twice":    {func(g *graph) { g.ops[1].out[0] = g.ops[0].out[0] }, "another op gives"},
		"a stale user":           {func(g *graph) { g.ops[0].out[0].users = nil }, "not among the users"},
		"an output not computed": {func(g *graph) { g.ops = g.ops[:1] }, "is not computed"},
		"a shape of its own": {func(g *graph) { g.ops[0].out[0].dims = []int64{7} },
			"where inference says"},
		"an input of no node": {func(g *graph) { g.ops[0].in = append(g.ops[0].in, nil) }, "captured"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := importModel(passCases["conv-bn-relu-pool"](), Options{Dims: map[string]int64{"N": 2}},
				nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.breaks(g)
			if err := g.verify(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one of %q", err, c.want)
			}
		})
	}
}
