package serve

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// dialed is a client of a server of LeNet-5.
func dialed(t *testing.T, opt Options) *grpc.ClientConn {
	t.Helper()
	opt.Models = []string{"lenet=../../models/lenet5-mnist/model.onnx"}
	s := New(opt)
	t.Cleanup(s.Close)
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := s.grpcServer()
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// numbers784 is a request of one image.
func numbers784() *oip.ModelInferRequest {
	return &oip.ModelInferRequest{ModelName: "lenet", Id: "5",
		Inputs: []*oip.ModelInferRequest_InferInputTensor{{
			Name: "input", Datatype: "FP32", Shape: []int64{1, 1, 28, 28},
			Contents: &oip.InferTensorContents{Fp32Contents: make([]float32, 784)},
		}}}
}

// Contents and raw contents give the same answer, alone and in a stream; errors have their codes.
func TestGRPC(t *testing.T) {
	c := oip.NewGRPCInferenceServiceClient(dialed(t, Options{MaxBody: 1 << 20}))
	ctx := t.Context()
	one, err := c.ModelInfer(ctx, numbers784())
	if err != nil || one.Id != "5" || len(one.RawOutputContents) != 1 || len(one.RawOutputContents[0]) != 40 {
		t.Fatalf("contents: %v, %v", one, err)
	}
	apart := numbers784()
	apart.Inputs[0].Contents, apart.RawInputContents = nil, [][]byte{make([]byte, 3136)}
	two, err := c.ModelInfer(ctx, apart)
	if err != nil || string(two.RawOutputContents[0]) != string(one.RawOutputContents[0]) {
		t.Fatalf("raw contents: %v, %v", two, err)
	}
	for name, tt := range map[string]struct {
		change func(r *oip.ModelInferRequest)
		code   codes.Code
	}{
		"unknown model":   {func(r *oip.ModelInferRequest) { r.ModelName = "nobody" }, codes.NotFound},
		"unknown version": {func(r *oip.ModelInferRequest) { r.ModelVersion = "7" }, codes.NotFound},
		"wrong shape": {func(r *oip.ModelInferRequest) { r.Inputs[0].Shape = []int64{1, 784} },
			codes.InvalidArgument},
		"wrong count": {func(r *oip.ModelInferRequest) { r.Inputs[0].Shape[0] = 2 },
			codes.InvalidArgument},
		"wrong field": {func(r *oip.ModelInferRequest) {
			r.Inputs[0].Contents.BoolContents = []bool{true}
		}, codes.InvalidArgument},
		"wrong type": {func(r *oip.ModelInferRequest) { r.Inputs[0].Datatype = "FP64" },
			codes.InvalidArgument},
		"half in contents": {func(r *oip.ModelInferRequest) { r.Inputs[0].Datatype = "FP16" },
			codes.InvalidArgument},
		"both": {func(r *oip.ModelInferRequest) { r.RawInputContents = [][]byte{make([]byte, 3136)} },
			codes.InvalidArgument},
		"surplus raw": {func(r *oip.ModelInferRequest) { r.RawInputContents = make([][]byte, 2) },
			codes.InvalidArgument},
		"unknown output": {func(r *oip.ModelInferRequest) {
			r.Outputs = []*oip.ModelInferRequest_InferRequestedOutputTensor{{Name: "z"}}
		}, codes.InvalidArgument},
		"too large": {func(r *oip.ModelInferRequest) { r.RawInputContents = [][]byte{make([]byte, 2<<20)} },
			codes.ResourceExhausted},
		"sequence": {func(r *oip.ModelInferRequest) {
			r.Parameters = map[string]*oip.InferParameter{"sequence_id": {ParameterChoice: &oip.InferParameter_StringParam{StringParam: "a"}}}
		}, codes.InvalidArgument},
	} {
		r := numbers784()
		tt.change(r)
		if _, err := c.ModelInfer(ctx, r); status.Code(err) != tt.code {
			t.Errorf("%s: %v, not %v", name, err, tt.code)
		}
	}
	stream(t, c, one.RawOutputContents[0])
}

func stream(t *testing.T, c oip.GRPCInferenceServiceClient, want []byte) {
	t.Helper()
	s, err := c.ModelStreamInfer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 10
	for i := range n {
		r := numbers784()
		if i == 3 {
			r.ModelName = "nobody"
		}
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.CloseSend()
	failed := 0
	for range n {
		out, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if out.ErrorMessage != "" {
			failed++
		} else if string(out.InferResponse.RawOutputContents[0]) != string(want) {
			t.Errorf("another answer in a stream: %v", out)
		}
	}
	if failed != 1 {
		t.Errorf("%d of the stream's requests failed, not one", failed)
	}
}

// Elements in contents count as memory, as those apart do.
func TestGRPCMemory(t *testing.T) {
	c := oip.NewGRPCInferenceServiceClient(dialed(t, Options{MaxMemory: 1 << 10}))
	if _, err := c.ModelInfer(t.Context(), numbers784()); status.Code(err) != codes.Unavailable {
		t.Errorf("3 KB of contents within 1 KB: %v", err)
	}
}

// A small message that is many inputs, or many parameters, is refused before it is decoded.
func TestGRPCBombs(t *testing.T) {
	c := oip.NewGRPCInferenceServiceClient(dialed(t, Options{MaxBody: 4 << 20}))
	many := &oip.ModelInferRequest{ModelName: "lenet"}
	for range maxParts + 1 {
		many.Inputs = append(many.Inputs, &oip.ModelInferRequest_InferInputTensor{})
	}
	deep := numbers784()
	deep.Inputs[0].Parameters = map[string]*oip.InferParameter{}
	for i := range maxParts {
		deep.Inputs[0].Parameters[strconv.Itoa(i)] = &oip.InferParameter{}
	}
	for name, r := range map[string]*oip.ModelInferRequest{"inputs": many, "parameters": deep} {
		if _, err := c.ModelInfer(t.Context(), r); err == nil || !strings.Contains(err.Error(), "parts") {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := []byte{5<<3 | 2, 200, 1}
	if n := parts(broken, true); n != 0 {
		t.Errorf("a message that is cut off has %d parts", n)
	}
}

// Health and the protocol's own checks need no token, the rest does.
func TestGRPCHealthAndTokens(t *testing.T) {
	conn := dialed(t, Options{Tokens: []string{"sesame"}, MaxBody: 1 << 20})
	ctx := t.Context()
	health := grpc_health_v1.NewHealthClient(conn)
	for service, code := range map[string]codes.Code{"": codes.OK, "lenet": codes.OK, "inference.GRPCInferenceService": codes.OK, "nobody": codes.NotFound} {
		r, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if status.Code(err) != code || err == nil && r.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, r, err)
		}
	}
	c := oip.NewGRPCInferenceServiceClient(conn)
	if r, err := c.ServerReady(ctx, &oip.ServerReadyRequest{}); err != nil || !r.Ready {
		t.Errorf("ready: %v, %v", r, err)
	}
	if _, err := c.ModelInfer(ctx, numbers784()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	large := numbers784()
	large.RawInputContents = [][]byte{make([]byte, 2<<20)}
	if _, err := c.ModelInfer(ctx, large); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a message above the limit, without a token, was read: %v", err)
	}
	if s, err := c.ModelStreamInfer(ctx); err == nil {
		if _, err = s.Recv(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("a stream without a token: %v", err)
		}
	}
	with := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer sesame")
	if _, err := c.ModelInfer(with, numbers784()); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if _, err := c.RepositoryModelUnload(with, &oip.RepositoryModelUnloadRequest{ModelName: "lenet"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("unloading: %v", err)
	}
}

// Messages that come half count as they come: beyond the server's memory calls are cut off and none is taken,
// and when they have gone their memory is free.
func TestHalfMessages(t *testing.T) {
	s := New(Options{Models: []string{"lenet=../../models/lenet5-mnist/model.onnx"}, MaxBody: 4 << 20, MaxMemory: 8 << 20})
	t.Cleanup(s.Close)
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := s.grpcServer()
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	const calls = 8
	half := append([]byte{0, 0, 0x40, 0, 0}, make([]byte, 3<<20)...) // of a message of 4 MiB
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, calls)
	for range calls {
		body, in := io.Pipe() // which stays open
		r, err := http.NewRequestWithContext(ctx, "POST", "http://"+l.Addr().String()+"/inference.GRPCInferenceService/ModelInfer", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("TE", "trailers")
		go func() { _, _ = in.Write(half) }()
		go func() {
			resp, err := transport.RoundTrip(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			ended <- err
		}()
	}
	for range calls - 2 { // two fit
		if err := <-ended; err != nil {
			t.Errorf("a call was not answered: %v", err)
		}
	}
	if used := s.memory.used.Load(); used > 16<<20 {
		t.Errorf("%d bytes are held, of %d", used, s.memory.limit)
	}
	cancel()
	for range 2 {
		<-ended
	}
	free(t, s, transport.CloseIdleConnections) // gRPC keeps the last frame of a connection that lives
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := oip.NewGRPCInferenceServiceClient(conn)
	s.memory.used.Add(s.memory.limit)
	if _, err := c.ModelInfer(t.Context(), numbers784()); status.Code(err) != codes.Unavailable {
		t.Errorf("without memory: %v", err)
	}
	s.memory.used.Add(-s.memory.limit)
	free(t, s)
	if _, err := c.ModelInfer(t.Context(), numbers784()); err != nil {
		t.Errorf("with memory again: %v", err)
	}
	free(t, s)
}

// free waits until no request holds memory; it calls each of between while it does.
func free(t *testing.T, s *Server, between ...func()) {
	t.Helper()
	for range 500 {
		for _, f := range between {
			f()
		}
		if s.memory.used.Load() == 0 {
			return
		}
		runtime.GC() // buffers that gRPC forgot
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d bytes are held by nobody", s.memory.used.Load())
}

// An answer counts until it is sent. One for which there is no memory is refused,
// however small its request was.
func TestAnswerMemory(t *testing.T) {
	w := onnxio.NewTensor(onnxio.Float, 1, 100_000)
	w.Name = "w"
	add := &onnxio.Node{OpType: "Add", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}
	path := t.TempDir() + "/wide.onnx"
	if err := onnxio.Save(path, &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{
		Name: "g", Nodes: []*onnxio.Node{add}, Initializers: []*onnxio.Tensor{w},
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 1)...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 100_000)...)}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		memory int64
		status int
		code   codes.Code
	}{{300 << 10, http.StatusServiceUnavailable, codes.Unavailable}, {16 << 20, http.StatusOK, codes.OK}} {
		s := New(Options{Models: []string{path}, MaxMemory: c.memory})
		t.Cleanup(s.Close)
		if err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, parameters := range []string{"{}", `{"binary_data_output":true}`} {
			body := `{"parameters":` + parameters + `,"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}`
			out := httptest.NewRecorder()
			s.Handler().ServeHTTP(out, httptest.NewRequest("POST", "/v2/models/wide/infer", strings.NewReader(body)))
			if out.Code != c.status {
				t.Errorf("%d bytes, %s: %d %.100s", c.memory, parameters, out.Code, out.Body)
			}
			free(t, s)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g := s.grpcServer()
		go func() { _ = g.Serve(l) }()
		t.Cleanup(g.Stop)
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		r := &oip.ModelInferRequest{ModelName: "wide", Inputs: []*oip.ModelInferRequest_InferInputTensor{{
			Name: "x", Datatype: "FP32", Shape: []int64{1, 1}, Contents: &oip.InferTensorContents{Fp32Contents: []float32{1}}}}}
		got, err := oip.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), r)
		if status.Code(err) != c.code || err == nil && len(got.RawOutputContents[0]) != 400_000 {
			t.Errorf("%d bytes, gRPC: %v", c.memory, err)
		}
		stream, err := oip.NewGRPCInferenceServiceClient(conn).ModelStreamInfer(t.Context())
		if err == nil {
			err = stream.Send(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		if part, err := stream.Recv(); err != nil || (part.ErrorMessage == "") != (c.code == codes.OK) {
			t.Errorf("%d bytes, in a stream: %v %.100v", c.memory, err, part)
		}
		_ = stream.CloseSend()
		free(t, s)
		conn.Close()
	}
}

// A request that never ends does not keep the drain.
func TestDrainEnds(t *testing.T) {
	s := New(Options{Models: []string{"lenet=../../models/lenet5-mnist/model.onnx"}, DrainGrace: 1, DrainWait: 50 * time.Millisecond})
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, done, err := s.models.find("lenet", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx, nil, nil); err == nil || !strings.Contains(err.Error(), "still hold") {
		t.Errorf("a drain beside a request that goes on: %v", err)
	}
	done()
	s.Close()
}

// FuzzRequest: whatever a client sends is a request whose tensors are sound, or an error.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2.5e3]]}],"outputs":[{"name":"y","parameters":{"classification":2}}]}`), int64(-1))
	f.Add([]byte(`{"id":"1","inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":["a","\u00e4"]}]}`), int64(-1))
	f.Add([]byte(`{"inputs":[{"name":"x","shape":[1],"datatype":"INT32","parameters":{"binary_data_size":4}}]}abcd`), int64(88))
	f.Add([]byte(`{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}`+"\x01\x00\x00\x00a"), int64(88))
	f.Add([]byte(`{"inputs":[{"name":"x","shape":[2,0],"datatype":"BOOL","data":[[],[]]}]}`), int64(-1))
	f.Fuzz(func(t *testing.T, body []byte, header int64) {
		r, err := decodeRequest(body, header)
		if err != nil {
			if s := statusOf(err); s != 400 {
				t.Errorf("status %d: %v", s, err)
			}
			return
		}
		for name, x := range r.inputs {
			checked(t, name, x, len(body))
		}
	})
}

func checked(t *testing.T, name string, x *onnxio.Tensor, size int) {
	t.Helper()
	if err := x.Check(); err != nil {
		t.Errorf("input %q: %v", name, err)
	}
	if len(x.Raw) > 16*size || len(x.Strings) > size {
		t.Errorf("input %q: %d bytes, %d strings of a body of %d", name, len(x.Raw), len(x.Strings), size)
	}
	if b, err := appendJSON(nil, x); err == nil {
		again, err := fromJSON(x.Type, x.Dims, b)
		if err != nil {
			t.Errorf("input %q: its JSON is not read again: %v in %.100s", name, err, b)
		} else if string(again.Raw) != string(x.Raw) {
			t.Errorf("input %q changes in JSON", name)
		}
	}
}
