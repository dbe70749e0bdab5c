package serve

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// maxStreams bounds the calls at once on one connection.
const maxStreams = 256

func (s *Server) grpcServer() *grpc.Server {
	pool := &countedPool{BufferPool: mem.DefaultBufferPool(), memory: &s.memory, calls: &s.arrivals}
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(min(s.opt.MaxBody, 1<<31-1))), grpc.MaxSendMsgSize(1<<31 - 1),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(headerTimeout),
		grpc.MaxHeaderListSize(1 << 16),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 10 * time.Minute,
			Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second,
			PermitWithoutStream: true}),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto"), pool}), experimental.BufferPool(pool),
		grpc.InTapHandle(s.permit), grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	}
	if s.opt.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.opt.TLS)))
	}
	g := grpc.NewServer(opts...)
	g.RegisterService(inferenceService(), &service{s: s})
	grpc_health_v1.RegisterHealthServer(g, &healthService{s: s})
	reflection.Register(g)
	return g
}

// inferenceService is the protocol's service, whose ModelInfer reads its message itself: gRPC would answer
// for a message that did not come.
func inferenceService() *grpc.ServiceDesc {
	d := oip.GRPCInferenceService_ServiceDesc
	d.Methods = slices.DeleteFunc(slices.Clone(d.Methods), func(m grpc.MethodDesc) bool {
		return m.MethodName == "ModelInfer"
	})
	// A stream of one answer is the same on the wire, and has the interceptors of streams.
	one := grpc.StreamDesc{StreamName: "ModelInfer", Handler: modelInfer, ServerStreams: true}
	d.Streams = append(slices.Clone(d.Streams), one)
	return &d
}

// modelInfer is one call of ModelInfer.
func modelInfer(srv any, ss grpc.ServerStream) error {
	r, err := receive(ss)
	if errors.Is(err, io.EOF) {
		return invalid("the call has no message")
	}
	if err != nil {
		return err
	}
	arrived(ss.Context())
	if r.err != nil {
		return r.err
	}
	out, err := srv.(oip.GRPCInferenceServiceServer).ModelInfer(ss.Context(), &r.ModelInferRequest)
	if err != nil {
		return err
	}
	return ss.SendMsg(out)
}

// openMethod says that a method may be called without a token.
func openMethod(name string) bool {
	return strings.HasPrefix(name, "/grpc.health.v1.Health/") ||
		strings.HasSuffix(name, "/ServerLive") || strings.HasSuffix(name, "/ServerReady")
}

// permit asks for the token at a call's header, and for memory: an interceptor comes after the
// message, when that is in memory.
func (s *Server) permit(ctx context.Context, call *tap.Info) (context.Context, error) {
	if openMethod(call.FullMethodName) {
		return s.arrivals.begin(ctx, false), nil
	}
	token := ""
	if given := call.Header.Get("authorization"); len(given) > 0 {
		token = given[0]
	}
	if !s.authorized(token) {
		return ctx, status.Error(codes.Unauthenticated, "a bearer token is needed")
	}
	if s.memory.used.Load() >= s.memory.limit {
		s.memory.reclaim()
		return ctx, errNoMemory
	}
	m := call.FullMethodName
	received := strings.HasSuffix(m, "/ModelInfer") || strings.HasSuffix(m, "/ModelStreamInfer")
	return s.arrivals.begin(ctx, received), nil
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo,
	next grpc.UnaryHandler) (resp any, err error) {
	defer s.caught(info.FullMethod, &err)
	arrived(ctx)
	resp, err = next(ctx, req)
	return resp, rpcError(err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo,
	next grpc.StreamHandler) (err error) {
	defer s.caught(info.FullMethod, &err)
	return rpcError(next(srv, ss))
}

// caught makes an error of a panic.
func (s *Server) caught(method string, err *error) {
	if p := recover(); p != nil {
		s.log.Error("a fault of the server; please report it", "method", method, "fault", p, "stack",
			string(debug.Stack()))
		*err = status.Error(codes.Internal, "a fault of the server")
	}
}

// rpcError gives an error gRPC's code.
func rpcError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code, ok := grpcCodes[statusOf(err)]
	if !ok {
		code = codes.Internal
	}
	return status.Error(code, err.Error())
}

// service is the protocol's service.
type service struct {
	oip.UnimplementedGRPCInferenceServiceServer
	s *Server
}

// ServerLive implements the service.
func (v *service) ServerLive(context.Context, *oip.ServerLiveRequest) (*oip.ServerLiveResponse, error) {
	return &oip.ServerLiveResponse{Live: true}, nil
}

// ServerReady implements the service.
func (v *service) ServerReady(context.Context, *oip.ServerReadyRequest) (*oip.ServerReadyResponse, error) {
	return &oip.ServerReadyResponse{Ready: v.s.ready()}, nil
}

// ModelReady implements the service.
func (v *service) ModelReady(_ context.Context, r *oip.ModelReadyRequest) (*oip.ModelReadyResponse, error) {
	_, done, err := v.s.models.find(r.Name, r.Version)
	if err != nil {
		return nil, err
	}
	done()
	return &oip.ModelReadyResponse{Ready: !v.s.draining.Load()}, nil
}

// ServerMetadata implements the service.
func (v *service) ServerMetadata(context.Context, *oip.ServerMetadataRequest) (*oip.ServerMetadataResponse,
	error) {
	d := v.s.describe()
	return &oip.ServerMetadataResponse{Name: d.Name, Version: d.Version, Extensions: d.Extensions}, nil
}

// ModelMetadata implements the service.
func (v *service) ModelMetadata(_ context.Context, r *oip.ModelMetadataRequest) (*oip.ModelMetadataResponse,
	error) {
	m, done, err := v.s.models.find(r.Name, r.Version)
	if err != nil {
		return nil, err
	}
	defer done()
	d := v.s.describeModel(m)
	out := &oip.ModelMetadataResponse{Name: d.Name, Versions: d.Versions, Platform: d.Platform}
	list := func(all []tensorMetadata) (out []*oip.ModelMetadataResponse_TensorMetadata) {
		for _, t := range all {
			out = append(out, &oip.ModelMetadataResponse_TensorMetadata{Name: t.Name, Datatype: t.Datatype,
				Shape: t.Shape})
		}
		return out
	}
	out.Inputs, out.Outputs = list(d.Inputs), list(d.Outputs)
	return out, nil
}

// ModelConfig implements the service.
func (v *service) ModelConfig(_ context.Context, r *oip.ModelConfigRequest) (*oip.ModelConfigResponse,
	error) {
	m, done, err := v.s.models.find(r.Name, r.Version)
	if err != nil {
		return nil, err
	}
	defer done()
	return &oip.ModelConfigResponse{Config: m.config}, nil
}

// ModelInfer implements the service.
func (v *service) ModelInfer(ctx context.Context, r *oip.ModelInferRequest) (*oip.ModelInferResponse, error) {
	m, done, err := v.s.models.find(r.ModelName, r.ModelVersion)
	if err != nil {
		return nil, err
	}
	defer done()
	start := time.Now()
	headers, _ := metadata.FromIncomingContext(ctx)
	ctx, end := v.s.traced(ctx, rpcHeaders{headers}, m, "grpc")
	out, err := v.inferred(ctx, r, m)
	end(err)
	v.s.measured(ctx, m, "grpc", start, err)
	return out, err
}

func (v *service) inferred(ctx context.Context, r *oip.ModelInferRequest, m *model) (*oip.ModelInferResponse,
	error) {
	arrived := m.queue.expect()
	defer arrived()
	size := int64(proto.Size(r))
	if err := v.s.memory.reserve(size); err != nil {
		return nil, err
	}
	defer v.s.memory.release(size)
	ask, err := requestOf(r)
	if err != nil {
		return nil, err
	}
	out, err := m.inferAs(ctx, ask, arrived)
	if err != nil {
		return nil, err
	}
	resp, err := m.message(ask, out)
	if err != nil {
		return nil, err
	}
	written := int64(proto.Size(resp))
	if err := v.s.memory.reserve(written); err != nil { // the codec's pool counts it from then on
		return nil, err
	}
	v.s.memory.release(written)
	return resp, nil
}

// message writes a response, its elements in raw_output_contents.
func (m *model) message(ask *request, out map[string]*onnxio.Tensor) (*oip.ModelInferResponse, error) {
	list, err := m.respond(ask, out)
	if err != nil {
		return nil, err
	}
	resp := &oip.ModelInferResponse{ModelName: m.name, ModelVersion: m.versionText(), Id: ask.id}
	for _, t := range list {
		head := &oip.ModelInferResponse_InferOutputTensor{Name: t.Name, Datatype: datatypeOf(t.Type),
			Shape: t.Dims}
		resp.Outputs = append(resp.Outputs, head)
		resp.RawOutputContents = append(resp.RawOutputContents, raw(t))
	}
	return resp, nil
}

// maxPending bounds the requests of one stream that are under way.
const maxPending = 64

// ModelStreamInfer implements the service. An error of a request is a message; the stream goes on.
func (v *service) ModelStreamInfer(ss grpc.BidiStreamingServer[oip.ModelInferRequest,
	oip.ModelStreamInferResponse]) error {
	var sending sync.Mutex
	var pending sync.WaitGroup
	defer pending.Wait()
	slots := make(chan struct{}, maxPending)
	for {
		r, err := receive(ss)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		slots <- struct{}{}
		pending.Go(func() {
			defer func() { <-slots }()
			out := v.streamed(ss.Context(), r)
			sending.Lock()
			defer sending.Unlock()
			_ = ss.Send(out) // Recv says what became of the stream
		})
	}
}

// streamed answers one request of a stream.
func (v *service) streamed(ctx context.Context, r *incoming) *oip.ModelStreamInferResponse {
	resp, err := (*oip.ModelInferResponse)(nil), r.err
	if err == nil {
		resp, err = v.guardedInfer(ctx, &r.ModelInferRequest)
	}
	if err != nil {
		return &oip.ModelStreamInferResponse{ErrorMessage: err.Error(),
			InferResponse: &oip.ModelInferResponse{Id: r.Id}}
	}
	return &oip.ModelStreamInferResponse{InferResponse: resp}
}

// guardedInfer is ModelInfer on a goroutine that no interceptor guards.
func (v *service) guardedInfer(ctx context.Context, r *oip.ModelInferRequest) (resp *oip.ModelInferResponse,
	err error) {
	defer v.s.caught("ModelStreamInfer", &err)
	return v.ModelInfer(ctx, r)
}

// ModelStatistics implements the service.
func (v *service) ModelStatistics(_ context.Context,
	r *oip.ModelStatisticsRequest) (*oip.ModelStatisticsResponse, error) {
	out := &oip.ModelStatisticsResponse{}
	if r.Name == "" {
		for _, m := range v.s.models.models() {
			out.ModelStats = append(out.ModelStats,
				statisticsMessage(m.stats.snapshot(m.name, m.versionText())))
		}
		return out, nil
	}
	m, done, err := v.s.models.find(r.Name, r.Version)
	if err != nil {
		return nil, err
	}
	defer done()
	out.ModelStats = append(out.ModelStats, statisticsMessage(m.stats.snapshot(m.name, m.versionText())))
	return out, nil
}

func statisticsMessage(s statistics) *oip.ModelStatistics {
	d := func(d duration) *oip.StatisticDuration { return &oip.StatisticDuration{Count: d.Count, Ns: d.NS} }
	i := s.InferenceStats
	out := &oip.ModelStatistics{
		Name: s.Name, Version: s.Version, LastInference: s.LastInference,
		InferenceCount: s.InferenceCount, ExecutionCount: s.ExecutionCount,
		InferenceStats: &oip.InferStatistics{Success: d(i.Success), Fail: d(i.Fail), Queue: d(i.Queue),
			ComputeInput: d(i.ComputeInput), ComputeInfer: d(i.ComputeInfer),
			ComputeOutput: d(i.ComputeOutput)},
	}
	for _, b := range s.BatchStats {
		out.BatchStats = append(out.BatchStats, &oip.InferBatchStatistics{BatchSize: b.BatchSize,
			ComputeInput: d(b.ComputeInput), ComputeInfer: d(b.ComputeInfer),
			ComputeOutput: d(b.ComputeOutput)})
	}
	return out
}

// RepositoryIndex implements the service.
func (v *service) RepositoryIndex(_ context.Context,
	r *oip.RepositoryIndexRequest) (*oip.RepositoryIndexResponse, error) {
	out := &oip.RepositoryIndexResponse{}
	for _, m := range v.s.models.index(r.Ready) {
		line := &oip.RepositoryIndexResponse_ModelIndex{Name: m.Name, Version: m.Version, State: m.State,
			Reason: m.Reason}
		out.Models = append(out.Models, line)
	}
	return out, nil
}

// RepositoryModelLoad implements the service.
func (v *service) RepositoryModelLoad(ctx context.Context,
	r *oip.RepositoryModelLoadRequest) (*oip.RepositoryModelLoadResponse, error) {
	if err := v.s.control(); err != nil {
		return nil, err
	}
	if len(r.Parameters) > 0 {
		return nil, errForeignConfig
	}
	if err := v.s.models.load(context.WithoutCancel(ctx), r.ModelName, false); err != nil {
		return nil, loadError(err)
	}
	return &oip.RepositoryModelLoadResponse{}, nil
}

// RepositoryModelUnload implements the service.
func (v *service) RepositoryModelUnload(_ context.Context,
	r *oip.RepositoryModelUnloadRequest) (*oip.RepositoryModelUnloadResponse, error) {
	if err := v.s.control(); err != nil {
		return nil, err
	}
	if err := v.s.models.unload(r.ModelName); err != nil {
		return nil, err
	}
	return &oip.RepositoryModelUnloadResponse{}, nil
}

// healthService is gRPC's own health check: of the server for "", or of a model.
type healthService struct {
	grpc_health_v1.UnimplementedHealthServer
	s *Server
}

func (h *healthService) status(name string) (grpc_health_v1.HealthCheckResponse_ServingStatus, bool) {
	const protocol = "inference.GRPCInferenceService"
	if name != "" && name != protocol {
		_, done, err := h.s.models.find(name, "")
		if err != nil {
			return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN, false
		}
		done()
	}
	if h.s.ready() {
		return grpc_health_v1.HealthCheckResponse_SERVING, true
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING, true
}

// Check implements the service.
func (h *healthService) Check(_ context.Context,
	r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	is, known := h.status(r.Service)
	if !known {
		return nil, status.Error(codes.NotFound, "no such service or model")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: is}, nil
}

// watchInterval is how often Watch looks.
const watchInterval = 500 * time.Millisecond

// Watch implements the service.
func (h *healthService) Watch(r *grpc_health_v1.HealthCheckRequest,
	ss grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := grpc_health_v1.HealthCheckResponse_UNKNOWN
	for {
		if is, _ := h.status(r.Service); is != last {
			if err := ss.Send(&grpc_health_v1.HealthCheckResponse{Status: is}); err != nil {
				return err
			}
			last = is
		}
		if h.s.draining.Load() {
			return nil // the stream must not hold up the drain
		}
		select {
		case <-ss.Context().Done():
			return status.FromContextError(ss.Context().Err()).Err()
		case <-tick.C:
		}
	}
}

// errForeignConfig refuses a client's own configuration.
var errForeignConfig = invalid(
	"configurations and files of a client are not taken: models are loaded from the repository")
