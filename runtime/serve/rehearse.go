package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// A rehearsal is so many requests of a protocol, or fewer where they take longer than that together.
const (
	rehearsals    = 16
	rehearsalTime = 20 * time.Millisecond
)

// rehearse lets clients in this process ask m over HTTP and gRPC before it is in service. The first request of
// a process waits for pages of code and for what is made on first use, which for a small model is more than its
// run. What was counted is forgotten, and what goes wrong is left for a client to find.
func (r *repository) rehearse(ctx context.Context, m *model) {
	in, err := m.example(1)
	if err != nil {
		return
	}
	stage := New(Options{MaxBody: r.opt.MaxBody, NoPage: true})
	stage.models.entries[m.name] = &entry{versions: map[int64]*model{m.version: m}}
	m.metrics = stage.metrics
	stage.rehearseHTTP(ctx, m, in)
	stage.rehearseGRPC(ctx, m, in)
	m.uses.Wait()
	m.metrics, m.stats = r.metrics, recorder{}
}

func (s *Server) rehearseHTTP(ctx context.Context, m *model, in map[string]*onnxio.Tensor) {
	body, header, err := binaryRequest(m, in)
	if err != nil {
		return
	}
	web, l := s.webServer(), bufconn.Listen(1<<16)
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	to := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	}}
	defer to.CloseIdleConnections()
	path := "http://localhost/v2/models/" + url.PathEscape(m.name) + "/infer"
	rehearsed(func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set(headerLength, strconv.Itoa(header))
		resp, err := to.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})
}

func (s *Server) rehearseGRPC(ctx context.Context, m *model, in map[string]*onnxio.Tensor) {
	rpc, l := s.grpcServer(), bufconn.Listen(1<<16)
	go func() { _ = rpc.Serve(l) }()
	defer rpc.Stop()
	c, err := grpc.NewClient("passthrough:///"+m.name, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
	if err != nil {
		return
	}
	defer c.Close()
	ask := &oip.ModelInferRequest{ModelName: m.name}
	for _, v := range m.session.Inputs() {
		t := in[v.Name]
		ask.Inputs = append(ask.Inputs, &oip.ModelInferRequest_InferInputTensor{Name: v.Name,
			Datatype: datatypeOf(t.Type), Shape: t.Dims})
		ask.RawInputContents = append(ask.RawInputContents, raw(t))
	}
	rehearsed(func() error {
		_, err := oip.NewGRPCInferenceServiceClient(c).ModelInfer(ctx, ask)
		return err
	})
}

func rehearsed(ask func() error) {
	for i, start := 0, time.Now(); i < rehearsals && time.Since(start) < rehearsalTime; i++ {
		if ask() != nil {
			return
		}
	}
}

// binaryRequest is the body of a request in the binary tensor extension; header is the length of its JSON.
func binaryRequest(m *model, in map[string]*onnxio.Tensor) (body []byte, header int, err error) {
	ask := jsonRequest{Parameters: parameters{BinaryDataOutput: true}}
	for _, v := range m.session.Inputs() {
		t := in[v.Name]
		data := raw(t)
		size := int64(len(data))
		ask.Inputs = append(ask.Inputs, &jsonInput{Name: v.Name, Shape: t.Dims, Datatype: datatypeOf(t.Type),
			Parameters: parameters{BinaryDataSize: &size}})
		body = append(body, data...)
	}
	text, err := json.Marshal(ask)
	return append(text, body...), len(text), err
}
