package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// fuzzServer serves LeNet-5 and two models that answer with what they get: numbers FP32
// [N,3] and words BYTES [N,2].
func fuzzServer(t *testing.T) (s *Server, web, rpc string, stop func() error) {
	t.Helper()
	dir := t.TempDir()
	for name, typ := range map[string]onnxio.DataType{"numbers": onnxio.Float, "words": onnxio.String} {
		width := map[string]int{"numbers": 3, "words": 2}[name]
		m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}},
			Graph: &onnxio.Graph{Name: "g",
				Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", typ, onnxio.Shape("N", width)...)},
				Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", typ, onnxio.Shape("N", width)...)},
				Nodes:   []*onnxio.Node{{OpType: "Identity", Inputs: []string{"x"}, Outputs: []string{"y"}}}}}
		if err := onnxio.Save(filepath.Join(dir, name+".onnx"), m); err != nil {
			t.Fatal(err)
		}
	}
	s = New(Options{Models: []string{dir, "lenet=../../models/lenet5-mnist/model.onnx"}, MaxBody: 1 << 20,
		DrainGrace: 1})
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ports [2]net.Listener
	for i := range ports {
		var err error
		if ports[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx, ports[0], ports[1]) }()
	return s, ports[0].Addr().String(), ports[1].Addr().String(), func() error {
		cancel()
		return <-end
	}
}

// mutator draws requests; the same seed draws the same.
type mutator struct{ *rand.Rand }

func pick[T any](m mutator, of ...T) T { return of[m.IntN(len(of))] }

// spoil changes, cuts, doubles or inserts some bytes.
func (m mutator) spoil(b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + m.IntN(3) {
		at := m.IntN(len(b) + 1)
		switch m.IntN(5) {
		case 0:
			b = b[:at]
		case 1:
			b = slices.Insert(b, at, []byte(pick(m, "}", "[", `"`, "1e999", "NaN", "-", "\x00\xff", ","))...)
		case 2:
			b = append(b, b[at:]...)
		default:
			if at < len(b) {
				b[at] = byte(m.Uint32())
			}
		}
	}
	return b
}

// shape is mostly right for a model of n columns.
func (m mutator) shape(n int64) []int64 {
	if m.IntN(4) > 0 {
		return []int64{1 + m.Int64N(3), n}
	}
	return pick(m, []int64{}, []int64{n}, []int64{0, n}, []int64{-1, n}, []int64{1 << 62, 1 << 62},
		[]int64{1, n, 1},
		[]int64{1 << 40, n}, slices.Repeat([]int64{1}, 40))
}

func sizeOf(shape []int64) int {
	n := int64(1)
	for _, d := range shape {
		if n *= max(d, 0); n > 64 || n < 0 {
			return 3
		}
	}
	return int(n)
}

// webRequest is a request over HTTP.
type webRequest struct {
	method, path string
	header       http.Header
	body         []byte
}

// web draws one: of sound form, with a wrong value, or spoiled.
func (m mutator) web(picture []byte) webRequest {
	r := webRequest{method: "POST", header: http.Header{}}
	model := pick(m, "numbers", "numbers", "words")
	r.path = "/v2/models/" + model + "/infer"
	switch m.IntN(8) {
	case 0:
		r.method = pick(m, "GET", "PUT", "DELETE", "POST", "HEAD")
		r.path = pick(m, "/v2", "/v2/models/numbers", "/v2/models/../../etc/passwd/infer",
			"/v2/models/%2e%2e%2f/infer",
			"/v2/models//infer", "/v2/models/numbers/versions/9/infer", "/v2/models/numbers/versions/-1",
			"/v2/models/n%00/infer", "/v2/repository/index", "/v2/repository/models/numbers/unload",
			"/v2/models/stats",
			"/v2/health/ready", "/v2/models/numbers/classify", "/%ff",
			"/v2/models/"+string(m.spoil([]byte("numbers")))+"/infer")
		r.body = []byte(`{}`)
		return r
	case 1:
		r.path = "/v2/models/" + pick(m, "lenet", "lenet", "words") +
			pick(m, "/classify", "/classify?top=2", "/classify?top=-1", "/segment")
		r.body = picture
		if m.IntN(2) == 0 {
			r.body = m.spoil(picture)
		}
		return r
	}
	width, typ := int64(3), "FP32"
	if model == "words" {
		width, typ = 2, "BYTES"
	}
	shape := m.shape(width)
	var data []any
	raw := []byte{}
	for range sizeOf(shape) {
		if model == "words" {
			word := pick(m, "", "a", "ä\u2028", "\"\\\n", "long "+strconv.Itoa(m.IntN(1e6)))
			data = append(data, word)
			raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(word))), word...)
		} else {
			v := float32(m.IntN(1000)) / 8
			data = append(data, v)
			raw = binary.LittleEndian.AppendUint32(raw, m.Uint32()>>2) // finite
		}
	}
	if m.IntN(10) == 0 {
		typ = pick(m, "FP64", "INT8", "", "STRING", "BOOL")
	}
	in := map[string]any{"name": pick(m, "x", "x", "x", "x", "x", "z"), "shape": shape, "datatype": typ}
	ask := map[string]any{"id": "7", "inputs": []any{in}}
	if m.IntN(3) == 0 {
		in["parameters"] = map[string]any{"binary_data_size": len(raw)}
		ask["parameters"] = map[string]any{"binary_data_output": true}
		head, _ := json.Marshal(ask)
		r.body = append(head, raw...)
		n := len(head)
		if m.IntN(6) == 0 {
			n += m.IntN(9) - 4
		}
		length := strconv.Itoa(n)
		r.header.Set(headerLength, pick(m, length, length, length, "-1", "x", "99999999999999999999"))
	} else {
		in["data"] = data
		if m.IntN(8) == 0 {
			classes := map[string]any{"classification": m.IntN(4)}
			ask["outputs"] = []any{map[string]any{"name": pick(m, "y", "q"), "parameters": classes}}
		}
		r.body, _ = json.Marshal(ask)
	}
	if m.IntN(12) == 0 {
		r.header.Set("Content-Encoding", pick(m, "gzip", "br", "deflate", "identity"))
	}
	if m.IntN(3) == 0 {
		r.body = m.spoil(r.body)
	}
	return r
}

// checkWeb judges an answer over HTTP: a clear refusal, or what was asked for.
func checkWeb(r webRequest, code int, header http.Header, body []byte) error {
	if code != 200 {
		var problem struct {
			Error string `json:"error"`
		}
		if code < 400 || code > 499 {
			return fmt.Errorf("status %d: %.200q", code, body)
		}
		if err := json.Unmarshal(body, &problem); r.method != "HEAD" && (err != nil || problem.Error == "") {
			return fmt.Errorf("status %d says %.200q", code, body)
		}
		return nil
	}
	if filepath.Base(r.path) != "infer" {
		return nil
	}
	n := len(body)
	if text := header.Get(headerLength); text != "" {
		n, _ = strconv.Atoi(text)
	}
	var answer struct {
		Outputs []struct {
			Name, Datatype string
			Shape          []int64
			Data           []any
		}
	}
	if err := json.Unmarshal(body[:n], &answer); err != nil || len(answer.Outputs) != 1 {
		return fmt.Errorf("the answer is %.200q: %v", body, err)
	}
	head, rest := r.body, []byte(nil)
	if text := r.header.Get(headerLength); text != "" {
		at, _ := strconv.Atoi(text)
		head, rest = r.body[:at], r.body[at:]
	}
	var ask struct {
		Inputs []struct {
			Datatype string
			Shape    []int64
			Data     any
		}
		Outputs []any
	}
	if err := json.Unmarshal(head, &ask); err != nil || len(ask.Inputs) != 1 {
		return fmt.Errorf("taken, but it is no request: %.200q: %v", head, err)
	}
	in, out := ask.Inputs[0], answer.Outputs[0]
	if len(ask.Outputs) > 0 && out.Datatype == "BYTES" && in.Datatype == "FP32" { // classes, in words
		return nil
	}
	if in.Datatype != out.Datatype || !slices.Equal(in.Shape, out.Shape) {
		return fmt.Errorf("%s %v is answered with %s %v", in.Datatype, in.Shape, out.Datatype, out.Shape)
	}
	if in.Data == nil && header.Get(headerLength) != "" {
		if !bytes.Equal(rest, body[n:]) {
			return fmt.Errorf("%q is answered with %q", rest, body[n:])
		}
		return nil
	}
	if want := flat(in.Data); in.Data != nil && out.Data != nil && !slices.Equal(want, flat(out.Data)) {
		return fmt.Errorf("%v is answered with %v", in.Data, out.Data)
	}
	return nil
}

// flat lists the elements of nested arrays as texts, numbers as float32.
func flat(v any) (out []string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = append(out, flat(e)...)
		}
	case float64:
		out = append(out, fmt.Sprint(float32(v)))
	default:
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// rpc draws a message of ModelInfer.
func (m mutator) rpc() []byte {
	name := pick(m, "numbers", "numbers", "words", "words", "nobody", "../numbers")
	width, typ := int64(3), "FP32"
	if name == "words" {
		width, typ = 2, "BYTES"
	}
	in := &oip.ModelInferRequest_InferInputTensor{Name: pick(m, "x", "x", "x", "x", "z"), Datatype: typ}
	in.Shape = m.shape(width)
	r := &oip.ModelInferRequest{ModelName: name, Id: "7",
		Inputs: []*oip.ModelInferRequest_InferInputTensor{in}}
	n := sizeOf(in.Shape)
	if m.IntN(2) == 0 {
		var raw []byte
		for range n {
			if name == "words" {
				raw = append(raw, 2, 0, 0, 0, byte(m.Uint32()), 0xff)
			} else {
				raw = binary.LittleEndian.AppendUint32(raw, m.Uint32())
			}
		}
		r.RawInputContents = [][]byte{raw}
	} else {
		in.Contents = &oip.InferTensorContents{}
		for range n {
			if name == "words" {
				in.Contents.BytesContents = append(in.Contents.BytesContents, []byte{byte(m.Uint32()), 0})
			} else {
				in.Contents.Fp32Contents = append(in.Contents.Fp32Contents, float32(m.NormFloat64()))
			}
		}
	}
	switch m.IntN(12) {
	case 0:
		r.ModelVersion = pick(m, "1", "2", "x")
	case 1:
		in.Datatype = pick(m, "FP64", "", "BF16", "INT32")
	case 2:
		r.Outputs = []*oip.ModelInferRequest_InferRequestedOutputTensor{{Name: pick(m, "y", "q")}}
	case 3:
		r.Inputs = append(r.Inputs, proto.Clone(in).(*oip.ModelInferRequest_InferInputTensor))
	case 4:
		r.Parameters = map[string]*oip.InferParameter{pick(m, "sequence_id", "priority", "timeout"): {
			ParameterChoice: &oip.InferParameter_Int64Param{Int64Param: m.Int64() - 1<<62}}}
	}
	text, _ := proto.Marshal(r)
	if m.IntN(3) == 0 {
		text = m.spoil(text)
	}
	return text
}

// rawCodec sends and receives the bytes of messages.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// checkRPC judges an answer over gRPC.
func checkRPC(sent, got []byte, err error) error {
	switch status.Code(err) {
	case codes.OK:
	case codes.InvalidArgument, codes.NotFound, codes.DeadlineExceeded: // a timeout of a microsecond
		return nil
	default:
		return err
	}
	var ask oip.ModelInferRequest
	var answer oip.ModelInferResponse
	if err := proto.Unmarshal(sent, &ask); err != nil {
		return fmt.Errorf("taken, but it is no message: %w", err)
	}
	if err := proto.Unmarshal(got, &answer); err != nil || len(answer.Outputs) != 1 ||
		len(answer.RawOutputContents) != 1 {
		return fmt.Errorf("the answer is %v: %v", &answer, err)
	}
	want, err := requestOf(&ask) // whose elements FuzzRequest's and TestGRPC's checks are of
	if err != nil {
		return fmt.Errorf("taken, but refused here: %w", err)
	}
	x := want.inputs["x"]
	if !bytes.Equal(raw(x), answer.RawOutputContents[0]) || !slices.Equal(x.Dims, answer.Outputs[0].Shape) {
		return fmt.Errorf("%v %v is answered with %v", x.Dims, raw(x), &answer)
	}
	return nil
}

// Ten thousand requests, the greater part of them wrong in some way, are each refused with a clear status or
// answered right, and leave neither memory nor goroutines behind. The requests are the same in each run.
func TestFuzzedRequests(t *testing.T) {
	each := 2500
	if testing.Short() {
		each = 250
	}
	s, web, rpc, stop := fuzzServer(t)
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 28, 28))); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(what string, err error, request any) {
		mu.Lock()
		defer mu.Unlock()
		seen[what]++
		if err != nil {
			t.Errorf("%s: %v\nof %q", what, err, request)
		}
	}
	overHTTP := func(seed, n int) {
		m := mutator{rand.New(rand.NewPCG(uint64(seed), 1))}
		transport := &http.Transport{DisableCompression: true}
		defer transport.CloseIdleConnections()
		for range n {
			r := m.web(file.Bytes())
			path, query, _ := strings.Cut(r.path, "?")
			escaped := (&url.URL{Path: path}).EscapedPath()
			resp, err := transport.RoundTrip(&http.Request{Method: r.method, Header: r.header,
				URL:  &url.URL{Scheme: "http", Host: web, Opaque: "//" + web + escaped, RawQuery: query},
				Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body))})
			if err != nil {
				note("HTTP", err, r)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				err = checkWeb(r, resp.StatusCode, resp.Header, body)
			}
			note(fmt.Sprint("HTTP ", resp.StatusCode), err, r)
		}
	}
	overGRPC := func(seed, n int) {
		m := mutator{rand.New(rand.NewPCG(uint64(seed), 2))}
		conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for range n {
			sent, got := m.rpc(), []byte(nil)
			err := conn.Invoke(t.Context(), oip.GRPCInferenceService_ModelInfer_FullMethodName, &sent, &got)
			note("gRPC "+status.Code(err).String(), checkRPC(sent, got, err), sent)
		}
	}
	round := func(n int) {
		var group sync.WaitGroup
		for seed := range 2 {
			group.Go(func() { overHTTP(seed, n) })
			group.Go(func() { overGRPC(seed, n) })
		}
		group.Wait()
	}
	round(each / 5) // what is kept from then on is kept once
	before, threads := settledHeap(t, s), runtime.NumGoroutine()
	clear(seen)
	round(each)
	if grown := settledHeap(t, s) - before; grown > 2<<20 {
		t.Errorf("%d bytes more are alive", grown)
	}
	for range 500 {
		if runtime.NumGoroutine() <= threads {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > threads {
		t.Errorf("%d goroutines, %d before", n, threads)
	}
	for _, what := range []string{"HTTP 200", "HTTP 400", "HTTP 404", "HTTP 405", "HTTP 415",
		"gRPC OK", "gRPC InvalidArgument", "gRPC NotFound"} {
		if seen[what] == 0 {
			t.Errorf("no answer was %s: %v", what, seen)
		}
	}
	t.Log(seen)
	if err := stop(); err != nil {
		t.Errorf("draining: %v", err)
	}
}

// settledHeap is what is alive when no request is under way.
func settledHeap(t *testing.T, s *Server) int64 {
	t.Helper()
	free(t, s)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
