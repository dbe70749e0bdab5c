package runtime_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// exportTolerance is the largest difference from PyTorch, as a share of an output's largest number: float32
// sums in another order, through a hundred layers.
const exportTolerance = 1e-4

// exportGaps are the cases that the exporter itself cannot make, by name, with the reason; "NAME batch" is a
// batch that it cannot leave free. One that it can leaves the list.
var exportGaps = map[string]string{}

// exportCase is a case.json, with what came out of it.
type exportCase struct {
	Case   string
	Error  string // the exporter's
	Broken string // of the case itself
	Fixed  string // the exporter's reason for a batch that is not free
	Boxes  []int  // of a detection network, for each image
	ORT    []any
	worst  []float64 // for each set of inputs
}

// TestExportsForPeers runs what testdata/exports/export.py left in CNNKIT_EXPORTS and compares with PyTorch's
// answers. All sets of inputs of a case go through one session. A case that is not there fails, as does one
// whose exporter refused unless exportGaps knows. CNNKIT_EXPORTS_TABLE names a file to write the results to.
func TestExportsForPeers(t *testing.T) {
	root := os.Getenv("CNNKIT_EXPORTS")
	if root == "" {
		t.Skip("CNNKIT_EXPORTS is not set")
	}
	var names []string
	readJSON(t, filepath.Join(root, "cases.json"), &names)
	if len(names) < 80 {
		t.Errorf("%s lists %d cases, want 80 at least", root, len(names))
	}
	var cases []*exportCase
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			c := &exportCase{}
			readJSON(t, filepath.Join(root, name, "case.json"), c)
			cases = append(cases, c)
			runExport(t, filepath.Join(root, name), c)
		})
	}
	if path := os.Getenv("CNNKIT_EXPORTS_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(exportTable(cases)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func runExport(t *testing.T, dir string, c *exportCase) {
	if c.Broken != "" {
		t.Fatalf("the case is not there: %s", c.Broken)
	}
	if known(t, c.Case, c.Error) {
		t.Skipf("the exporter refused: %s", c.Error)
	}
	known(t, c.Case+" batch", c.Fixed)
	start := time.Now()
	s, err := runtime.Open(filepath.Join(dir, "model.onnx"), runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	opened := time.Since(start)
	for i, theirs := range c.ORT {
		start := time.Now()
		worst := runSet(t, s, filepath.Join(dir, fmt.Sprint(i)))
		took := time.Since(start)
		c.worst = append(c.worst, worst)
		t.Logf("set %d: largest difference %.2g of the scale (ONNX Runtime: %.3v); %v, opened in %v", i,
			worst, theirs,
			took.Round(time.Millisecond), opened.Round(time.Millisecond))
		if !(worst <= exportTolerance) {
			t.Errorf("set %d: largest difference %.3g of the output's scale, want at most %g", i, worst,
				exportTolerance)
		}
	}
	if sets := c.sets(); len(c.ORT) != sets {
		t.Errorf("%d sets of inputs, want %d", len(c.ORT), sets)
	}
}

// sets is the number of sets of inputs that a case has: batches of one and three images, or three images.
func (c *exportCase) sets() int {
	switch {
	case c.Boxes != nil:
		return 3
	case c.Fixed != "":
		return 1
	}
	return 2
}

// known reports whether the exporter refused, as exportGaps says; it fails where that says otherwise.
func known(t *testing.T, name, refusal string) bool {
	t.Helper()
	switch reason, gap := exportGaps[name]; {
	case refusal != "" && !gap:
		t.Fatalf("%s: the exporter refused, which no gap explains: %s", name, refusal)
	case refusal == "" && gap:
		t.Errorf("%s is no gap any more: %s", name, reason)
	}
	return refusal != ""
}

// exportTable is the results as Markdown.
func exportTable(cases []*exportCase) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Exports against PyTorch

`+"`EXPORTS=DIR RESULTS=testdata/exports/RESULTS.md testdata/peers.sh`"+` wrote this: what torch.onnx exported, run by the native
engine (kernels %s), against PyTorch's answers in float32. The largest difference is a share of the output's largest number;
%g is allowed. Beside it stands ONNX Runtime's. A free batch is run with one and with three images.

| case | exporter | batch | largest difference | ONNX Runtime's |
|---|---|---|---|---|
`, kernels.Level(), exportTolerance)
	for _, c := range cases {
		name, exporter := c.Case, ""
		if i := strings.LastIndex(name, "-"); i >= 0 {
			name, exporter = name[:i], name[i+1:]
		}
		batch := "free"
		switch {
		case c.Error != "":
			batch = "not exported: " + c.Error
		case c.Boxes != nil:
			batch = fmt.Sprintf("1; boxes %d", c.Boxes)
		case c.Fixed != "":
			batch = "1: " + c.Fixed
		}
		worst := 0.0
		for _, w := range c.worst {
			worst = max(worst, w)
		}
		theirs := 0.0
		for _, d := range c.ORT {
			if d, ok := d.(float64); ok {
				theirs = max(theirs, d)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1e | %.1e |\n", name, exporter, batch, worst, theirs)
	}
	return b.String()
}

// runSet runs one set of inputs and gives the largest difference from its answers.
func runSet(t *testing.T, s runtime.Session, set string) float64 {
	t.Helper()
	in := map[string]*onnxio.Tensor{}
	for _, v := range s.Inputs() {
		in[v.Name] = loadArray(t, filepath.Join(set, "input_x.npy"))
	}
	out, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for k, v := range s.Outputs() {
		want := loadArray(t, filepath.Join(set, fmt.Sprintf("output_%d.npy", k)))
		worst = math.Max(worst, distance(t, v.Name, out[v.Name], want))
	}
	return worst
}

func loadArray(t *testing.T, path string) *onnxio.Tensor {
	t.Helper()
	x, err := npy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// distance is the largest difference as a share of the largest number; NaN where a number is NaN.
func distance(t *testing.T, name string, got, want *onnxio.Tensor) float64 {
	t.Helper()
	if got.Type != want.Type || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dims) {
		t.Fatalf("%s: %v %v, want %v %v", name, got.Type, got.Dims, want.Type, want.Dims)
	}
	if want.Type != onnxio.Float {
		if string(got.Raw) != string(want.Raw) {
			t.Errorf("%s: %v numbers differ", name, want.Type)
		}
		return 0
	}
	scale, worst := 1e-30, 0.0
	for i, w := range want.Float32s() {
		scale = math.Max(scale, math.Abs(float64(w)))
		worst = math.Max(worst, math.Abs(float64(got.Float32s()[i])-float64(w)))
	}
	return worst / scale
}
