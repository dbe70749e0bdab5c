package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"

	"github.com/cnnkit/cnnkit/runtime"
)

// Options of a Server. A zero value has a default, which stands in brackets.
type Options struct {
	Models  []string         // files, NAME=FILE, folders of Triton's layout, folders of files
	Session []runtime.Option // how models are opened

	MaxBatch  int           // rows of a run of several requests [32]; 1: requests run one by one
	MaxDelay  time.Duration // the longest wait for requests that are on their way [0: none]
	Instances int           // runs of a model that go on at once [1]
	MaxQueue  int           // requests that may wait for a model [512]

	MaxBody     int64         // bytes of a request [64 MiB]
	MaxMemory   int64         // bytes of all requests that are being read or answered [16 bodies]
	MaxClients  int           // connections at once [4096]
	BodyTimeout time.Duration // for the body of a request [1 min]
	SendTimeout time.Duration // for taking an answer [1 min]
	DrainGrace  time.Duration // of the drain: how long new requests are still taken [1 s]
	DrainWait   time.Duration // of the drain: after which what is left is cut off [14 s]

	Control bool        // clients may load and unload models
	Tokens  []string    // of which a client must bring one; none: anybody may ask
	Origins []string    // of web pages elsewhere that may ask ("https://example.com"); none: no CORS
	TLS     *tls.Config // nil: in the clear
	NoPage  bool        // without the playground page
	Log     *slog.Logger
	Traces  trace.TracerProvider // OpenTelemetry's; nil: none
}

func (o *Options) settle() {
	o.MaxBatch = cmp.Or(o.MaxBatch, 32)
	o.MaxQueue = cmp.Or(o.MaxQueue, 512)
	o.MaxBody = cmp.Or(o.MaxBody, 64<<20)
	o.MaxMemory = cmp.Or(o.MaxMemory, 16*o.MaxBody)
	o.MaxClients = cmp.Or(o.MaxClients, 4096)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, time.Minute)
	o.SendTimeout = cmp.Or(o.SendTimeout, time.Minute)
	o.DrainGrace = cmp.Or(o.DrainGrace, time.Second)
	o.DrainWait = cmp.Or(o.DrainWait, 14*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Traces == nil {
		o.Traces = noop.NewTracerProvider()
	}
}

// Server answers the Open Inference Protocol. It is safe for concurrent use.
type Server struct {
	opt      Options
	log      *slog.Logger
	models   *repository
	metrics  *metrics
	tracer   trace.Tracer
	memory   budget
	arrivals arrivals
	tokens   [][32]byte

	started  atomic.Bool // all models are loaded
	draining atomic.Bool
	closed   sync.Once
}

// New makes a server that has no models yet: Load loads them.
func New(opt Options) *Server {
	opt.settle()
	s := &Server{opt: opt, log: opt.Log, metrics: newMetrics(), tracer: opt.Traces.Tracer(scope),
		tokens: hashed(opt.Tokens)}
	s.memory.limit = opt.MaxMemory
	s.models = &repository{opt: &s.opt, log: s.log, metrics: s.metrics, entries: map[string]*entry{}}
	s.metrics.registry.MustRegister(newGauges(s))
	return s
}

// Load loads and warms up the models of the options; then the server is ready. It
// fails where one of them does.
func (s *Server) Load(ctx context.Context) error {
	if err := s.models.scan(); err != nil {
		return err
	}
	var problems []error
	for _, m := range s.models.index(false) {
		if err := s.models.load(ctx, m.Name, true); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	s.started.Store(true)
	return nil
}

// Reload loads models that are new or have changed on disk, and takes out those that are gone.
// Requests lose nothing by it.
func (s *Server) Reload(ctx context.Context) error { return s.models.refresh(ctx) }

// ready reports whether requests are welcome.
func (s *Server) ready() bool { return s.started.Load() && !s.draining.Load() }

// Serve answers on the listeners, of which either may be nil, until ctx ends. Then it drains: it says that it
// is not ready, goes on answering for DrainGrace so that balancers and clients go elsewhere, and waits for
// the requests that it has taken. It gives an error where those were not through within DrainWait. Then it
// returns at once, or cutOff later, also where a request that was cut off does not end.
func (s *Server) Serve(ctx context.Context, overHTTP, overGRPC net.Listener) error {
	web := s.webServer()
	rpc := s.grpcServer()
	var busy connections
	web.ConnState = busy.changed
	failed := make(chan error, 2)
	if overHTTP != nil {
		overHTTP = limited(overHTTP, s.opt.MaxClients)
		l := overHTTP
		if s.opt.TLS != nil {
			l = tls.NewListener(l, web.TLSConfig)
		}
		go func() { failed <- web.Serve(l) }()
	}
	if overGRPC != nil {
		go func() { failed <- rpc.Serve(limited(overGRPC, s.opt.MaxClients)) }()
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.log.Info("draining")
	end, cancel := context.WithTimeout(context.Background(), s.opt.DrainWait)
	defer cancel()
	time.Sleep(min(s.opt.DrainGrace, s.opt.DrainWait))
	if overHTTP != nil {
		overHTTP.Close()
		busy.wait(end)
	}
	return errors.Join(err, s.drain(end, web, rpc))
}

// drain ends the servers and the models.
func (s *Server) drain(ctx context.Context, web *http.Server, rpc *grpc.Server) error {
	stopped := make(chan struct{})
	go func() {
		rpc.GracefulStop()
		close(stopped)
	}()
	err := web.Shutdown(ctx)
	if errors.Is(err, net.ErrClosed) { // its listener, by Serve
		err = nil
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.log.Error("requests are cut off", "error", err)
		web.Close()
		rpc.Stop()
	}
	released := make(chan struct{})
	go func() {
		s.Close()
		close(released)
	}()
	select {
	case <-released:
		return err
	case <-ctx.Done():
	}
	select {
	case <-released:
	case <-time.After(cutOff):
		err = errors.Join(err, errors.New("requests that were cut off still hold their models"))
	}
	return err
}

// cutOff is how long requests have, once they are cut off, to notice it.
const cutOff = 500 * time.Millisecond

// Close releases the models, once the requests that hold them have been answered.
func (s *Server) Close() { s.closed.Do(s.models.close) }
