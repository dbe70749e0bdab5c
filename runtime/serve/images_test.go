package serve_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/serve"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

const nuclei = "../../models/unet-nuclei/model.onnx"

// An image gets the answer that the model's own transform and a session of its own give.
func TestClassify(t *testing.T) {
	_, web := modelsServer(t, serve.Options{})
	file, err := os.ReadFile("../../testdata/images/gradient.jpg")
	if err != nil {
		t.Fatal(err)
	}
	img, err := vision.Decode(bytes.NewReader(file), vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	in := spec.Input{Size: [2]int{28, 28}, Channels: 1, Mean: []float32{0.1307}, Std: []float32{0.3081}}
	logits := truth(t)(vision.Input(img, in))
	var got struct {
		Top []struct {
			Class       int
			Label       string
			Probability float64
		}
	}
	r := call(t, "POST", web.URL+"/v2/models/lenet/classify?top=10", file)
	if err := json.Unmarshal(r.body, &got); err != nil || len(got.Top) != 10 {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v))
	}
	for _, g := range got.Top {
		if want := math.Exp(float64(logits[g.Class])) / sum; math.Abs(g.Probability-want) > 1e-4 ||
			g.Label != fmt.Sprint(g.Class) {
			t.Errorf("class %d (%s): %g, want %g", g.Class, g.Label, g.Probability, want)
		}
	}
}

// A mask has the image's size, in each form.
func TestSegment(t *testing.T) {
	_, web := started(t, serve.Options{Models: []string{"nuclei=" + nuclei}})
	file, err := os.ReadFile("../../testdata/images/gradient.png")
	if err != nil {
		t.Fatal(err)
	}
	size, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Width, Height int
		Classes       []struct{ Share float64 }
		Mask          string `json:"mask_png"`
	}
	r := call(t, "POST", web.URL+"/v2/models/nuclei/segment", file)
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	text, err := base64.StdEncoding.DecodeString(got.Mask)
	if err != nil {
		t.Fatal(err)
	}
	share := 0.0
	for _, c := range got.Classes {
		share += c.Share
	}
	if got.Width != size.Width || got.Height != size.Height || math.Abs(share-1) > 1e-9 {
		t.Errorf("%+v of an image of %dx%d", got, size.Width, size.Height)
	}
	for path, data := range map[string][]byte{"": text,
		"?as=mask": call(t, "POST", web.URL+"/v2/models/nuclei/segment?as=mask", file).body,
		"?as=overlay": call(t, "POST", web.URL+"/v2/models/nuclei/segment?as=overlay&threshold=0.9",
			file).body} {
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil || img.Bounds().Dx() != size.Width || img.Bounds().Dy() != size.Height {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// largePNG announces pixels that it does not have.
func largePNG(w, h uint32) []byte {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1)))
	data := b.Bytes()
	for i, v := range []uint32{w, h} {
		for k := range 4 {
			data[16+4*i+k] = byte(v >> (24 - 8*k))
		}
	}
	sum := crc32.ChecksumIEEE(data[12:29])
	for k := range 4 {
		data[29+k] = byte(sum >> (24 - 8*k))
	}
	return data
}

func TestImageRefusals(t *testing.T) {
	_, web := modelsServer(t, serve.Options{Models: []string{"nuclei=" + nuclei}})
	var small bytes.Buffer
	if err := png.Encode(&small, image.NewGray(image.Rect(0, 0, 3, 3))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   string
		body   []byte
		status int
		says   string
	}{
		{"lenet/classify", small.Bytes(), 200, "top"},
		{"lenet/classify?top=0", small.Bytes(), 400, "top is"},
		{"lenet/classify", []byte("no image"), 400, "neither PNG"},
		{"lenet/classify", nil, 400, "neither PNG"},
		{"lenet/classify", small.Bytes()[:40], 400, "png"},
		{"lenet/classify", largePNG(1<<30, 1<<30), 400, "png"},
		{"lenet/classify", largePNG(60000, 60000), 400, "pixels"},
		{"lenet/segment", small.Bytes(), 400, "segmentation gives"},
		{"nuclei/classify", small.Bytes(), 400, "ask /segment"},
		{"nuclei/segment?threshold=2", small.Bytes(), 400, "threshold"},
		{"nuclei/segment?as=gif", small.Bytes(), 400, "as is"},
		{"pair/classify", small.Bytes(), 400, "takes no images"},
		{"nobody/classify", small.Bytes(), 404, "nobody"},
	} {
		r := call(t, "POST", web.URL+"/v2/models/"+c.path, c.body)
		if r.status != c.status || !strings.Contains(r.text(), c.says) {
			t.Errorf("%s: %d, not %d with %q: %s", c.path, r.status, c.status, c.says, r.body)
		}
	}
	if r := call(t, "GET", web.URL+"/metrics", nil); !strings.Contains(r.text(), "\ncnnkit_body_bytes 0\n") {
		t.Error("images are still in memory")
	}
}

// The page lets its own script run and nothing else, and can be left out.
func TestPage(t *testing.T) {
	_, web := modelsServer(t, serve.Options{})
	r := call(t, "GET", web.URL+"/", nil)
	policy := r.header.Get("Content-Security-Policy")
	if r.status != 200 || !strings.Contains(r.text(), "<title>") ||
		!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page: %d, %s", r.status, policy)
	}
	if r := call(t, "GET", web.URL+"/v2/models/lenet/card", nil); !strings.Contains(r.text(),
		`"task":"classes"`) {
		t.Errorf("the card: %s", r.body)
	}
	_, web = modelsServer(t, serve.Options{NoPage: true})
	if r := call(t, "GET", web.URL+"/", nil); r.status != 404 {
		t.Errorf("no page: %d", r.status)
	}
}
