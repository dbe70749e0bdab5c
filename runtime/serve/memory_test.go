package serve_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	goruntime "runtime"
	"strconv"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve"
)

// heap is what is alive.
func heap() int64 {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Memory and goroutines stay as they are over many requests of fifty shapes, a tenth of them wrong.
func TestFlatMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests: run it without -short")
	}
	w := onnxio.NewTensor(onnxio.Float, 8, 3, 3, 3)
	w.Name = "w"
	m := graph([]*onnxio.ValueInfo{tensor("x", onnxio.Float, "N", 3, "H", "W")},
		[]*onnxio.ValueInfo{tensor("y", onnxio.Float, "N", 8, "H2", "W2")}, "y=Conv(x,w)")
	m.Graph.Initializers = []*onnxio.Tensor{w}
	path := t.TempDir() + "/conv.onnx"
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	s := serve.New(serve.Options{Models: []string{path}})
	defer s.Close()
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	handler := s.Handler()
	ask := func(i int) {
		h, width := 8+i%10, 8+2*(i/10%5)
		x := onnxio.NewTensor(onnxio.Float, 1, 3, int64(h), int64(width))
		head := fmt.Sprintf(
			`{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,3,%d,%d],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}`, h, width, len(x.Raw))
		body, want := append([]byte(head), x.Raw...), 200
		if i%10 == 9 {
			body, want = body[:len(body)-4], 400
		}
		r := httptest.NewRequest("POST", "/v2/models/conv/infer", bytes.NewReader(body))
		r.Header.Set("Inference-Header-Content-Length", strconv.Itoa(len(head)))
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, r)
		if out.Code != want {
			t.Fatalf("request %d: %d %.200s", i, out.Code, out.Body)
		}
	}
	const n = 10_000
	for i := range n / 4 {
		ask(i)
	}
	before, threads := heap(), goruntime.NumGoroutine()
	for i := range n {
		ask(i)
	}
	time.Sleep(10 * time.Millisecond)
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes more are alive after %d requests", grown, n)
	}
	if more := goruntime.NumGoroutine() - threads; more > 2 {
		t.Errorf("%d goroutines more", more)
	}
}
