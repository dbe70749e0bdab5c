package beam

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/data/mnist"
)

func TestMain(m *testing.M) { ptest.Main(m) } // on Prism

const lenet = "../../models/lenet5-mnist/model.onnx"

// pixels are the 10,000 test images of MNIST, 28 by 28 bytes each.
func pixels(t *testing.T) []byte {
	t.Helper()
	f, err := mnist.Files.Open("files/t10k-images-idx3-ubyte.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return all[16:]
}

// digits writes the first n test images of MNIST as PNG files, and beside them files that are
// none: cut off, empty, text.
func digits(t *testing.T, n, corrupt int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	all := pixels(t)
	for i := range n {
		write(t, filepath.Join(dir, name(i)), encoded(t, all[i*784:(i+1)*784], 28, 28))
	}
	whole := encoded(t, all[:784], 28, 28)
	for i := range corrupt {
		kinds := [][]byte{whole[:len(whole)/2], {}, []byte("no image"), whole[:20],
			append([]byte("\xff\xd8\xff\xe0"), whole...)}
		write(t, filepath.Join(dir, fmt.Sprintf("corrupt-%02d.png", i)), kinds[i%len(kinds)])
	}
	return dir
}

func name(i int) string { return fmt.Sprintf("%05d.png", i) }

func encoded(t *testing.T, gray []byte, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, &image.Gray{Pix: gray, Stride: w, Rect: image.Rect(0, 0, w, h)}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
}

// predicted runs the pipeline of the command, and gives the results of both files by
// name; no name may stand twice.
func predicted(t *testing.T, c Config, pattern string) (answers, dead map[string]vision.Result) {
	t.Helper()
	dir := t.TempDir()
	out, lost := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "new", "dead.jsonl")
	ptest.BuildAndRun(t, func(s beam.Scope) {
		files := Read(s, pattern)
		good, bad := Predict(s, c, files.Images)
		Write(s, out, good)
		Write(s, lost, beam.Flatten(s, files.Dead, bad))
	})
	seen := map[string]int{}
	answers, dead = results(t, out, seen), results(t, lost, seen)
	for file, n := range seen {
		if n != 1 {
			t.Errorf("%s has %d lines", file, n)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return answers, dead
}

// results reads a file that Write has written, and counts the lines of each name.
func results(t *testing.T, path string, seen map[string]int) map[string]vision.Result {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]vision.Result{}
	for line := range strings.Lines(string(text)) {
		var r vision.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		base := filepath.Base(r.File)
		seen[base]++
		out[base] = r
	}
	return out
}

// evaluated are the labels of the first n test images by the native engine in batches of 500, prepared as
// data sets are: what 'cnnkit eval' counts.
func evaluated(t *testing.T, n int) (labels []int, accuracy float64) {
	t.Helper()
	m, err := onnxio.Load(lenet)
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Get(m)
	if err != nil {
		t.Fatal(err)
	}
	session, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	splits, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	part := data.Subset{Dataset: splits.Validation, Indices: data.Sequence(n)}
	run := vision.Of(session, s.Input)
	score, err := train.Measure(t.Context(), run, part, 500, train.LossCrossEntropy, nil)
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < n; from += 500 {
		count := min(500, n-from)
		x, target := train.NewBatch(part.Shape(), count)
		if err := part.Fill(x, target, data.Sequence(n)[from:from+count]); err != nil {
			t.Fatal(err)
		}
		y, err := run(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		for row := range count {
			best := 0
			for c, v := range y.Float32s()[10*row : 10*row+10] {
				if v > y.Float32s()[10*row+best] {
					best = c
				}
			}
			labels = append(labels, best)
		}
	}
	return labels, score.Accuracy
}

// truth are the labels that the test images have.
func truth(t *testing.T, n int) []int64 {
	t.Helper()
	splits, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	x, target := train.NewBatch(splits.Validation.Shape(), n)
	if err := splits.Validation.Fill(x, target, data.Sequence(n)); err != nil {
		t.Fatal(err)
	}
	return onnxio.Data[int64](target)
}

// Every test image of MNIST gets, once, the label that evaluation gives it, and corrupt files become dead
// letters: of all 10,000, and with -short of 300.
func TestPredictAsEval(t *testing.T) {
	n, corrupt := 10_000, 20
	if testing.Short() {
		n, corrupt = 300, 7
	}
	images := filepath.Join(digits(t, n, corrupt), "*.png")
	answers, dead := predicted(t, Config{Model: lenet, Engine: "native", Top: 1}, images)
	if len(answers) != n || len(dead) != corrupt {
		t.Fatalf("%d answers and %d dead letters of %d images and %d corrupt files", len(answers),
			len(dead), n, corrupt)
	}
	want, accuracy := evaluated(t, n)
	right := 0
	for i, label := range truth(t, n) {
		r := answers[name(i)]
		if len(r.Top) != 1 || r.Error != "" {
			t.Fatalf("image %d: %+v", i, r)
		}
		if r.Top[0].Class != want[i] {
			t.Errorf("image %d is a %d, and a %d in evaluation", i, r.Top[0].Class, want[i])
		}
		if int64(r.Top[0].Class) == label {
			right++
		}
	}
	if got := float64(right) / float64(n); got != accuracy {
		t.Errorf("accuracy %v, and %v in evaluation", got, accuracy)
	}
	for file, r := range dead {
		if !strings.HasPrefix(file, "corrupt-") || r.Error == "" || r.Top != nil {
			t.Errorf("dead letter %+v", r)
		}
	}
}

// What cannot be read, as a folder, is a dead letter. Without dead letters their file is empty.
func TestDeadLetters(t *testing.T) {
	dir := digits(t, 5, 0)
	if _, dead := predicted(t, Config{Model: lenet}, filepath.Join(dir, "*.png")); len(dead) != 0 {
		t.Errorf("%v", dead)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.png"), 0o777); err != nil {
		t.Fatal(err)
	}
	answers, dead := predicted(t, Config{Model: lenet, Top: 3, Batch: 2}, filepath.Join(dir, "*.png"))
	if len(answers) != 5 || len(dead) != 1 || !strings.Contains(dead["folder.png"].Error, "directory") {
		t.Errorf("%d answers, dead letters %v", len(answers), dead)
	}
	for file, r := range answers {
		if len(r.Top) != 3 || r.Top[0].Probability < r.Top[1].Probability {
			t.Errorf("%s: %+v", file, r)
		}
	}
}

// free is a model of gray images of any size, from 5x5 on: the mean of a 5x5 convolution in two classes.
func free(t *testing.T) string {
	t.Helper()
	w := onnxio.NewTensor(onnxio.Float, 2, 1, 5, 5)
	w.Name = "w"
	for i := range w.Float32s() {
		w.Float32s()[i] = float32(1 - 2*(i/25))
	}
	image := &onnxio.ValueInfo{Name: "x", Type: &onnxio.Type{Kind: onnxio.TensorType, Elem: onnxio.Float,
		HasShape: true,
		Shape: []onnxio.Dim{{Param: "N", Value: -1}, {Value: 1}, {Param: "H", Value: -1},
			{Param: "W", Value: -1}}}}
	logits := &onnxio.ValueInfo{Name: "y", Type: &onnxio.Type{Kind: onnxio.TensorType, Elem: onnxio.Float,
		HasShape: true,
		Shape:    []onnxio.Dim{{Param: "N", Value: -1}, {Value: 2}}}}
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "g",
		Inputs: []*onnxio.ValueInfo{image}, Outputs: []*onnxio.ValueInfo{logits},
		Initializers: []*onnxio.Tensor{w},
		Nodes: []*onnxio.Node{
			{OpType: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"c"}},
			{OpType: "GlobalAveragePool", Inputs: []string{"c"}, Outputs: []string{"p"}},
			{OpType: "Flatten", Inputs: []string{"p"}, Outputs: []string{"y"}},
		}}}
	path := filepath.Join(t.TempDir(), "free.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

// Images that the model cannot run on are dead letters, each for itself, and the others have answers.
func TestImagesTheModelRefuses(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{3, 8, 3, 3, 8, 8, 12, 12, 3, 12}
	for i, n := range sizes {
		write(t, filepath.Join(dir, name(i)), encoded(t, bytes.Repeat([]byte{255}, n*n), n, n))
	}
	answers, dead := predicted(t, Config{Model: free(t), Batch: 4}, filepath.Join(dir, "*.png"))
	for i, n := range sizes {
		if a, d := answers[name(i)], dead[name(i)]; n == 3 &&
			(a.File != "" || !strings.Contains(d.Error, "free.onnx")) ||
			n != 3 && (d.File != "" || len(a.Top) != 2 || a.Top[0].Class != 0) {
			t.Errorf("image %d of %dx%d: answer %+v, dead letter %+v", i, n, n, a, d)
		}
	}
}

// What is wrong for all images fails the pipeline.
func TestPipelinesThatFail(t *testing.T) {
	dir := digits(t, 2, 0)
	images := filepath.Join(dir, "*.png")
	for what, c := range map[string]struct {
		config  Config
		pattern string
		want    string
	}{
		"no model":  {Config{Model: filepath.Join(dir, "none.onnx")}, images, "none.onnx"},
		"masks":     {Config{Model: "../../models/unet-nuclei/model.onnx"}, images, "gives mask"},
		"no engine": {Config{Model: lenet, Engine: "steam"}, images, "steam"},
		"no image":  {Config{Model: lenet}, filepath.Join(dir, "*.jpg"), "*.jpg"},
		"no scheme": {Config{Model: "nowhere://m.onnx"}, images, "nowhere"},
	} {
		p, s := beam.NewPipelineWithRoot()
		Predict(s, c.config, Read(s, c.pattern).Images)
		if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p, s := beam.NewPipelineWithRoot()
	windowed := beam.WindowInto(s, window.NewFixedWindows(time.Second), Read(s, images).Images)
	Predict(s, Config{Model: lenet}, windowed)
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), "global window") {
		t.Errorf("windows: %v", err)
	}
}

// Bundles share a session, which the last one closes.
func TestSharedSession(t *testing.T) {
	c := Config{Model: lenet, Top: 7}
	a, err := acquire(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := acquire(t.Context(), c)
	if err != nil || a != b {
		t.Fatalf("a second session: %v", err)
	}
	x := onnxio.NewTensor(onnxio.Float, 1, 1, 28, 28)
	for i := range 2 {
		if _, err := a.run(t.Context(), x); err != nil {
			t.Errorf("with %d users: %v", 2-i, err)
		}
		if err := release(c); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.run(t.Context(), x); err == nil {
		t.Error("nobody uses the session, and it is open")
	}
	if err := release(c); err != nil {
		t.Errorf("once more: %v", err)
	}
}
