package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve"
)

// started is a server that is ready, behind an HTTP server of its own.
func started(t testing.TB, opt serve.Options) (*serve.Server, *httptest.Server) {
	t.Helper()
	s := serve.New(opt)
	t.Cleanup(s.Close)
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	return s, web
}

// modelsServer serves the test models and LeNet-5.
func modelsServer(t testing.TB, opt serve.Options) (*serve.Server, *httptest.Server) {
	t.Helper()
	dir := t.TempDir()
	saveModels(t, dir)
	opt.Models = append(opt.Models, dir, "lenet="+lenet)
	return started(t, opt)
}

// reply is an HTTP answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) text() string { return string(r.body) }

func call(t testing.TB, method, url string, body []byte, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, data}
}

// digit is an input of LeNet-5 that differs from seed to seed.
func digit(seed, n int) *onnxio.Tensor {
	x := onnxio.NewTensor(onnxio.Float, int64(n), 1, 28, 28)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(math.Sin(float64(i*(seed+3)))) + float32(seed%7)/7
	}
	return x
}

// binaryRequest asks for lenet's output in binary.
func binaryRequest(x *onnxio.Tensor) (body []byte, length string) {
	head := fmt.Sprintf(
		`{"id":"7","parameters":{"binary_data_output":true},"inputs":[{"name":"input","shape":[%d,1,28,28],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}`,
		x.Dims[0], len(x.Raw))
	return append([]byte(head), x.Raw...), strconv.Itoa(len(head))
}

// askLenet gives LeNet-5's logits for x.
func askLenet(t testing.TB, url string, x *onnxio.Tensor) ([]float32, error) {
	body, length := binaryRequest(x)
	req, err := http.NewRequest("POST", url+"/v2/models/lenet/infer", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Inference-Header-Content-Length", length)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return nil, fmt.Errorf("status %d: %.200s %v", resp.StatusCode, data, err)
	}
	n, err := strconv.Atoi(resp.Header.Get("Inference-Header-Content-Length"))
	if err != nil || len(data)-n != int(40*x.Dims[0]) {
		return nil, fmt.Errorf("a header of %d and %d bytes of data: %v", n, len(data)-n, err)
	}
	out := onnxio.NewTensor(onnxio.Float, x.Dims[0], 10)
	copy(out.Raw, data[n:])
	return out.Float32s(), nil
}

// truth is a session of LeNet-5 apart from the server.
func truth(t testing.TB) func(x *onnxio.Tensor) []float32 {
	t.Helper()
	s, err := runtime.Open(lenet, runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return func(x *onnxio.Tensor) []float32 {
		out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
		if err != nil {
			t.Fatal(err)
		}
		return out["output"].Float32s()
	}
}

func same(t testing.TB, got, want []float32) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i] - w)); !(d <= 1e-4) {
			t.Errorf("number %d is %g, want %g", i, got[i], w)
			return
		}
	}
}

// Many clients at once, of one and of several images, get their own answers, and runs are shared: in one of some
// waves, for whether two requests meet is up to the machine.
func TestManyClients(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxDelay: time.Millisecond})
	want := truth(t)
	const clients, each, waves = 16, 20, 50
	var images [clients][each]*onnxio.Tensor
	var answers [clients][each][]float32
	for c := range clients {
		for k := range each {
			images[c][k] = digit(100*c+k, 1+(c+k)%3)
			answers[c][k] = want(images[c][k])
		}
	}
	var stats struct {
		ModelStats []struct {
			InferenceCount uint64 `json:"inference_count"`
			ExecutionCount uint64 `json:"execution_count"`
			InferenceStats struct {
				Success struct{ Count uint64 }
				Fail    struct{ Count uint64 }
			} `json:"inference_stats"`
		} `json:"model_stats"`
	}
	for sent := uint64(clients * each); ; sent += clients * each {
		var all sync.WaitGroup
		for c := range clients {
			all.Go(func() {
				for k, x := range images[c] {
					got, err := askLenet(t, web.URL, x)
					if err != nil {
						t.Error(err)
						return
					}
					same(t, got, answers[c][k])
				}
			})
		}
		all.Wait()
		r := call(t, "GET", web.URL+"/v2/models/lenet/stats", nil)
		if err := json.Unmarshal(r.body, &stats); err != nil {
			t.Fatal(err)
		}
		m := stats.ModelStats[0]
		if m.InferenceStats.Success.Count != sent || m.InferenceStats.Fail.Count != 0 || m.InferenceCount < sent {
			t.Fatalf("statistics of %d requests: %s", sent, r.text())
		}
		if m.ExecutionCount < sent {
			return
		}
		if sent == waves*clients*each {
			t.Fatalf("no run of %d requests is shared: %s", sent, r.text())
		}
	}
}

// What a request says wrongly is answered with a status and words.
func TestRefusals(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxBody: 1 << 20})
	ones := strings.TrimSuffix(strings.Repeat("1,", 784), ",")
	in := func(shape, typ, data string) string {
		return fmt.Sprintf(`{"inputs":[{"name":"input","shape":%s,"datatype":%q,"data":%s}]}`,
			shape, typ, data)
	}
	good := in("[1,1,28,28]", "FP32", "["+ones+"]")
	for _, tt := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"good", "lenet/infer", good, 200, `"shape":[1,10]`},
		{"unknown model", "nobody/infer", good, 404, "nobody"},
		{"unknown version", "lenet/versions/2/infer", good, 404, "no version 2"},
		{"version that is no number", "lenet/versions/new/infer", good, 404, "no version"},
		{"path in the name", "..%2f..%2fetc%2fpasswd/infer", good, 404, "no"},
		{"dots", "%2e%2e/infer", good, 404, "no"},
		{"NUL in the name", "a%00b/infer", good, 404, "no model"},
		{"wrong shape", "lenet/infer", in("[1,1,14,56]", "FP32", "["+ones+"]"), 400, "[1 1 14 56]"},
		{"wrong rank", "lenet/infer", in("[784]", "FP32", "["+ones+"]"), 400, "[784]"},
		{"negative dimension", "lenet/infer", in("[-1,1,28,28]", "FP32", "["+ones+"]"), 400, "negative"},
		{"overflowing shape", "lenet/infer", in("[4611686018427387904,4,28,28]", "FP32", "[1]"),
			400, "overflows"},
		{"large shape, no data", "lenet/infer", in("[1000000,1,28,28]", "FP32", "[1]"), 400,
			"784000000 elements"},
		{"batch above the most", "lenet/infer",
			in("[33,1,28,28]", "FP32", "["+strings.TrimSuffix(strings.Repeat("1,", 33*784), ",")+"]"), 400,
			"32 at most"},
		{"wrong type", "lenet/infer", in("[1,1,28,28]", "INT32", "["+ones+"]"), 400, "int32"},
		{"unknown type", "lenet/infer", in("[1,1,28,28]", "FP8", "["+ones+"]"), 400, `no datatype "FP8"`},
		{"NaN", "lenet/infer", in("[1,1,28,28]", "FP32", "[NaN]"), 400, "no JSON"},
		{"huge number", "lenet/infer", in("[1]", "FP32", "[1e999]"), 400, "1e999 is no FP32"},
		{"too few", "lenet/infer", in("[1,1,28,28]", "FP32", "[1,2]"), 400, "784"},
		{"one too many", "lenet/infer", in("[1,1,28,28]", "FP32", "["+ones+",1]"), 400, "one more"},
		{"null", "lenet/infer", in("[1,1,28,28]", "FP32", "null"), 400, ""},
		{"object", "lenet/infer", in("[1]", "FP32", "[{}]"), 400, "object"},
		{"unevenly nested", "copy_fp32/infer",
			`{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[[1,2],[3,4,5,6]]}]}`, 400,
			"an array of 2"},
		{"text for a number", "copy_int8/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT8","data":["1",2,3]}]}`, 400, "no INT8"},
		{"out of range", "copy_int8/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT8","data":[128,2,3]}]}`, 400,
			"128 is no INT8"},
		{"fraction", "copy_int8/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT8","data":[1.5,2,3]}]}`, 400,
			"1.5 is no INT8"},
		{"integers with a fraction of 0", "copy_int8/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT8","data":[-3.0,1e2,0.5e1]}]}`, 200,
			`"data":[-3,100,5]`},
		{"integer beyond exact", "copy_int64/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT64","data":[1e18,2,3]}]}`, 400,
			"1e18 is no INT64"},
		{"unsigned below 0", "copy_uint8/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"UINT8","data":[-1.0,2,3]}]}`, 400,
			"-1.0 is no UINT8"},
		{"FP16 in JSON", "copy_fp16/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP16","data":[1,2,3]}]}`, 400, "binary"},
		{"NaN in the answer", "root/infer",
			`{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[-1,1]}]}`, 400,
			"NaN, which JSON cannot say"},
		{"no inputs", "lenet/infer", `{}`, 400, `"input" is missing`},
		{"unknown input", "lenet/infer", strings.Replace(good, `"input"`, `"inptu"`, 1), 400, "missing"},
		{"input twice", "copy_fp32/infer",
			`{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]},{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}`, 400, "twice"},
		{"unknown output", "lenet/infer", strings.Replace(good, `{"inputs"`,
			`{"outputs":[{"name":"z"}],"inputs"`, 1), 400, `no output "z"`},
		{"shared memory", "copy_fp32/infer",
			`{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]}`, 400, "shared memory"},
		{"sequence", "lenet/infer", strings.Replace(good, `{"inputs"`,
			`{"parameters":{"sequence_id":5},"inputs"`, 1), 400, "sequences"},
		{"no JSON", "lenet/infer", `hello`, 400, "no JSON"},
		{"cut off", "lenet/infer", good[:200], 400, "no JSON"},
		{"something behind", "lenet/infer", good + "xx", 400, "Inference-Header-Content-Length"},
		{"deep nesting", "lenet/infer", in("[1]", "FP32", strings.Repeat("[", 5000)+strings.Repeat("]",
			5000)), 400, "deeper"},
		{"too large", "lenet/infer", strings.Repeat(" ", 1<<20) + good, 413, "bytes"},
		{"no change", "../repository/models/lenet/load", "", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, "POST", web.URL+"/v2/models/"+tt.path, []byte(tt.body))
			if r.status != tt.status || !strings.Contains(strings.ReplaceAll(r.text(), `\"`, `"`), tt.says) {
				t.Errorf("status %d, not %d with %q: %.300s", r.status, tt.status, tt.says, r.body)
			}
		})
	}
}

func TestBinaryRefusals(t *testing.T) {
	_, web := modelsServer(t, serve.Options{})
	x := digit(1, 1)
	body, length := binaryRequest(x)
	n, _ := strconv.Atoi(length)
	for name, c := range map[string]struct {
		body   []byte
		length string
	}{
		"length beyond the body": {body, strconv.Itoa(len(body) + 1)},
		"negative length":        {body, "-1"},
		"no number":              {body, "x"},
		"short data":             {body[:len(body)-4], length},
		"surplus data":           {append(bytes.Clone(body), 0), length},
		"wrong size":             {bytes.Replace(body, []byte("3136"), []byte("3132"), 1), length},
		"huge size": {append([]byte(strings.Replace(string(body[:n]), "3136",
			"9223372036854775807", 1)), x.Raw...), strconv.Itoa(n + 15)},
		"negative size": {append([]byte(strings.Replace(string(body[:n]), "3136", "-136", 1)), x.Raw...),
			length},
	} {
		r := call(t, "POST", web.URL+"/v2/models/lenet/infer", c.body, "Inference-Header-Content-Length",
			c.length)
		if r.status != 400 {
			t.Errorf("%s: status %d: %s", name, r.status, r.body)
		}
	}
	bad := `{"inputs":[{"name":"x","shape":[1,3],"datatype":"BOOL","parameters":{"binary_data_size":3}}]}`
	r := call(t, "POST", web.URL+"/v2/models/copy_bool/infer", []byte(bad+"\x00\x01\x02"),
		"Inference-Header-Content-Length", strconv.Itoa(len(bad)))
	if r.status != 400 {
		t.Errorf("a BOOL of 2: status %d: %s", r.status, r.body)
	}
}

// A model whose rows depend on each other never shares a run.
func TestRowsThatDepend(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxDelay: 20 * time.Millisecond})
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for range 10 {
				ask := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[%d,1,2,3]}]}`, c)
				r := call(t, "POST", web.URL+"/v2/models/centered/infer", []byte(ask))
				if !strings.Contains(r.text(), `"data":[0,0,0,0]`) {
					t.Errorf("a row less its own mean is %s", r.body)
				}
				large := strings.Replace(ask, "1,2,3", fmt.Sprint("1,2,", 1+1e6*(c%2)), 1)
				r = call(t, "POST", web.URL+"/v2/models/quantized/infer", []byte(large))
				if c%2 == 0 && strings.Contains(r.text(), `,0,0,0]`) {
					t.Errorf("a row is quantized by another's scale: %s", r.body)
				}
			}
		})
	}
	clients.Wait()
}

// Descriptions, the index and health.
func TestDescriptions(t *testing.T) {
	s, web := modelsServer(t, serve.Options{})
	for path, says := range map[string]string{
		"/v2": `"name":"cnnkit"`, "/v2/health/live": "true", "/v2/health/ready": "true",
		"/v2/models/pair":                   `"inputs":[{"name":"a","datatype":"FP32","shape":[-1,4]},{"name":"b","datatype":"INT64","shape":[-1,2]}]`,
		"/v2/models/fixed/versions/1":       `"shape":[2,4]`,
		"/v2/models/fixed/versions/1/ready": "true",
		"/v2/models/pair/config":            `"dims":[4]`,
		"/v2/models/stats":                  `"name":"copy_int8"`,
		"/metrics":                          `cnnkit_model_versions{model="lenet"} 1`,
	} {
		if r := call(t, "GET", web.URL+path, nil); r.status != 200 || !strings.Contains(r.text(), says) {
			t.Errorf("GET %s: %d %s", path, r.status, r.body)
		}
	}
	if r := call(t, "POST", web.URL+"/v2/repository/index", nil); !strings.Contains(r.text(),
		`{"name":"lenet","version":"1","state":"READY"}`) {
		t.Errorf("the index: %s", r.body)
	}
	for path, status := range map[string]int{"/v2/models/nobody": 404, "/v3": 404,
		"/v2/models/lenet/infer": 405, "/v2//models/lenet": 404, "/v2/../v2": 404} {
		if r := call(t, "GET", web.URL+path, nil); r.status != status {
			t.Errorf("GET %s: %d, not %d: %s", path, r.status, status, r.body)
		}
	}
	s.Close()
	if r := call(t, "GET", web.URL+"/v2/models/lenet", nil); r.status != 404 {
		t.Errorf("a model of a closed server: %d %s", r.status, r.body)
	}
}

// Changes by clients are refused unless allowed.
func TestControl(t *testing.T) {
	_, web := modelsServer(t, serve.Options{})
	for _, change := range []string{"load", "unload"} {
		if r := call(t, "POST", web.URL+"/v2/repository/models/lenet/"+change, nil); r.status != 403 {
			t.Errorf("%s: %d %s", change, r.status, r.body)
		}
	}
	_, web = modelsServer(t, serve.Options{Control: true})
	base := web.URL + "/v2/repository/models/"
	for _, step := range []struct {
		path, body string
		status     int
	}{
		{"lenet/unload", `{"parameters":{"unload_dependents":false}}`, 200}, {"lenet/load", "",
			200}, {"nobody/load", "", 404}, {"nobody/unload", "", 404},
		{"lenet/load", `{"parameters":{"config":"{}"}}`, 400}, {"lenet/load", `{`, 400}, {"..%2flenet/load",
			"", 404},
	} {
		if r := call(t, "POST", base+step.path, []byte(step.body)); r.status != step.status {
			t.Errorf("%s: %d, not %d: %s", step.path, r.status, step.status, r.body)
		}
	}
	if _, err := askLenet(t, web.URL, digit(1, 1)); err != nil {
		t.Error(err)
	}
}

// Triton's layout, with and without a configuration.
func TestLayout(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(lenet)
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, data []byte) {
		t.Helper()
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"1", "2", "10"} {
		put("all/"+v+"/model.onnx", data)
		put("newest/"+v+"/model.onnx", data)
	}
	put("all/config.pbtxt", []byte(`platform: "onnxruntime_onnx" max_batch_size: 4 version_policy: { specific: { versions: [1, 10] } }
		input [ { name: "input" data_type: TYPE_FP32 dims: [1, 28, 28] } ] output [ { name: "output" data_type: TYPE_FP32 dims: [10] } ]
		dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 3 } priority_levels: 2 default_priority_level: 2 }
		instance_group [ { count: 2 kind: KIND_CPU } ] optimization { graph { level: 1 } }
		model_warmup [ { name: "noise" batch_size: 4 inputs { key: "input" value: { data_type: TYPE_FP32 dims: [1, 28, 28] random_data: true } } } ]`))
	_, web := started(t, serve.Options{Models: []string{dir}})
	for path, status := range map[string]int{"all/versions/1": 200, "all/versions/2": 404,
		"all/versions/10": 200, "newest/versions/10": 200, "newest/versions/2": 404} {
		if r := call(t, "GET", web.URL+"/v2/models/"+path+"/ready", nil); r.status != status {
			t.Errorf("%s: %d, not %d", path, r.status, status)
		}
	}
	if r := call(t, "GET", web.URL+"/v2/models/all", nil); !strings.Contains(r.text(),
		`"versions":["1","10"]`) {
		t.Errorf("versions: %s", r.body)
	}
	if r := call(t, "GET", web.URL+"/v2/models/all/config", nil); !strings.Contains(r.text(),
		`"max_batch_size":4`) {
		t.Errorf("configuration: %s", r.body)
	}
	body, length := binaryRequest(digit(1, 5))
	if r := call(t, "POST", web.URL+"/v2/models/all/infer", body, "Inference-Header-Content-Length",
		length); r.status != 400 || !strings.Contains(r.text(), "4 at most") {
		t.Errorf("five images: %d %s", r.status, r.body)
	}
	for name, config := range map[string]string{
		"sequence": `sequence_batching {}`, "ensemble": `ensemble_scheduling {}`,
		"platform": `platform: "tensorrt_plan"`,
		"name":     `name: "other"`,
		"shape":    `max_batch_size: 4 input { name: "input" data_type: TYPE_FP32 dims: [3, 28, 28] }`,
		"type":     `max_batch_size: 4 input { name: "input" data_type: TYPE_INT8 dims: [1, 28, 28] }`,
		"input":    `input { name: "x" }`,
		"syntax":   `max_batch_size: `, "file": `default_model_filename: "../1/model.onnx"`,
		"warm-up file": `max_batch_size: 1 model_warmup { name: "w" inputs { key: "input" value: { data_type: TYPE_FP32 dims: [1,28,28] input_data_file: "../../config.pbtxt" } } }`,
	} {
		put("bad/config.pbtxt", []byte(config))
		put("bad/1/model.onnx", data)
		s := serve.New(serve.Options{Models: []string{filepath.Join(dir, "bad")}})
		if err := s.Load(t.Context()); err == nil {
			t.Errorf("%s: the configuration %s is taken", name, config)
		}
		s.Close()
	}
}
