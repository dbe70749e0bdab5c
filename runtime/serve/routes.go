package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// headerLength is the header that says where the JSON of a body with binary data ends.
const headerLength = "Inference-Header-Content-Length"

// extensions are Triton's names of what is served beyond the protocol.
func (s *Server) extensions() []string {
	out := []string{"classification", "statistics", "model_configuration", "binary_tensor_data",
		"schedule_policy", "parameters"}
	if s.opt.Control {
		out = append(out, "model_repository", "model_repository(unload_dependents)")
	}
	return out
}

func (s *Server) webServer() *http.Server {
	return &http.Server{
		Handler: s.Handler(), TLSConfig: s.opt.TLS,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 1 << 16,
		ErrorLog: log.New(debugLog{s.log}, "", 0),
	}
}

// How long a client may take for a request's header, and between two requests.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
)

// debugLog takes what net/http says about its connections: that clients break off.
type debugLog struct{ *slog.Logger }

func (l debugLog) Write(p []byte) (int, error) {
	l.Debug("http", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}

// handler answers a request, or gives the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request) error

// Handler is the server's HTTP side, with authorization, to be put behind any http.Server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h handler) { mux.Handle(pattern, s.answering(h)) }
	guarded := func(pattern string, h handler) { open(pattern, s.guarded(h)) }
	open("GET /v2/health/live", s.live)
	open("GET /v2/health/ready", s.healthReady)
	guarded("GET /v2", s.metadata)
	guarded("GET /v2/{$}", s.metadata)
	guarded("GET /v2/models/stats", s.statistics)
	for _, base := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		guarded("GET "+base, s.modelMetadata)
		guarded("GET "+base+"/ready", s.modelReady)
		guarded("GET "+base+"/config", s.modelConfig)
		guarded("GET "+base+"/stats", s.statistics)
		guarded("GET "+base+"/card", s.card)
		guarded("POST "+base+"/infer", s.infer)
		guarded("POST "+base+"/classify", s.classify)
		guarded("POST "+base+"/segment", s.segment)
	}
	guarded("POST /v2/repository/index", s.index)
	guarded("POST /v2/repository/models/{model}/load", s.loadModel)
	guarded("POST /v2/repository/models/{model}/unload", s.unloadModel)
	metrics := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
	guarded("GET /metrics", func(w http.ResponseWriter, r *http.Request) error {
		metrics.ServeHTTP(w, r)
		return nil
	})
	if !s.opt.NoPage {
		open("GET /{$}", s.playground)
	}
	open("/", func(_ http.ResponseWriter, r *http.Request) error { return unknownPath(mux, r) })
	return s.outer(mux)
}

// outer is what every request passes first.
func (s *Server) outer(next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	for _, o := range s.opt.Origins {
		if err := foreign.AddTrustedOrigin(o); err != nil {
			s.log.Error("an origin that cannot be", "origin", o, "error", err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Of every request: before a refusal goes out, net/http reads what is left of the body.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.opt.BodyTimeout))
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if s.draining.Load() {
			h.Set("Connection", "close") // the client's next request goes elsewhere
		}
		if s.rebound(r) {
			s.refuse(w, r, fail(http.StatusForbidden,
				"%q is no name of this machine: ask localhost, or allow http://%[1]s as an origin",
				printable(r.Host)))
			return
		}
		if s.crossOrigin(w, r) {
			return
		}
		if err := foreign.Check(r); err != nil {
			s.refuse(w, r, fail(http.StatusForbidden, "a page of another site asks: %w", err))
			return
		}
		if p := r.URL.Path; path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
			s.refuse(w, r, fail(http.StatusNotFound, "no such path"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guarded asks for a token where there are any.
func (s *Server) guarded(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.authorized(r.Header.Get("Authorization")) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			return fail(http.StatusUnauthorized, "a bearer token is needed")
		}
		return h(w, r)
	}
}

// answering answers with the error that a handler gives, or with a fault's when it panics.
func (s *Server) answering(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.log.Error("a fault of the server; please report it", "path", r.URL.Path, "fault", p,
					"stack", string(debug.Stack()))
				s.refuse(w, r, fail(http.StatusInternalServerError, "a fault of the server"))
			}
		}()
		if err := h(w, r); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// refuse answers with an error, in the protocol's form.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	level := slog.LevelInfo
	if status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
		level = slog.LevelError
	}
	s.log.Log(r.Context(), level, "refused", "status", status, "method", r.Method, "path",
		printable(r.URL.Path), "error", err)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	s.json(w, status, map[string]string{"error": err.Error()})
}

// json answers with a document.
func (s *Server) json(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	s.send(w, status, "application/json", text)
}

func (s *Server) send(w http.ResponseWriter, status int, kind string, data []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	s.sendDeadline(w)
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client's loss
}

// unknownPath says whether the path or only the method is wrong.
func unknownPath(mux *http.ServeMux, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "/" && pattern != "" {
			return fail(http.StatusMethodNotAllowed, "%s is wanted here", method)
		}
	}
	return fail(http.StatusNotFound, "no such path")
}

// find gives the model that a path names.
func (s *Server) find(r *http.Request) (*model, func(), error) {
	return s.models.find(r.PathValue("model"), r.PathValue("version"))
}

// measured counts an answer about a model.
func (s *Server) measured(ctx context.Context, m *model, protocol string, start time.Time, err error) {
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
	}
	took := time.Since(start)
	s.metrics.request(m.name, protocol, status, took)
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.Debug("answered", "model", m.id(), "protocol", protocol, "status", status, "took", took)
	}
}

// control refuses changes that the options do not allow.
func (s *Server) control() error {
	if !s.opt.Control {
		return fail(http.StatusForbidden,
			"models cannot be loaded or unloaded by clients: the server was not started with --control")
	}
	return nil
}

// smallJSON reads a small body that need not be there.
func (s *Server) smallJSON(w http.ResponseWriter, r *http.Request, into any) error {
	data, done, err := s.body(w, r)
	if err != nil {
		return err
	}
	defer done()
	if len(strings.TrimSpace(string(data[:min(len(data), 64)]))) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return invalid("the body is no JSON: %w", err)
	}
	return nil
}

var errNotReady = errors.New("the server is not ready")

func (s *Server) live(w http.ResponseWriter, _ *http.Request) error {
	s.send(w, http.StatusOK, "application/json", []byte(`{"live":true}`))
	return nil
}

func (s *Server) healthReady(w http.ResponseWriter, _ *http.Request) error {
	if !s.ready() {
		return &failure{http.StatusServiceUnavailable, errNotReady}
	}
	s.send(w, http.StatusOK, "application/json", []byte(`{"ready":true}`))
	return nil
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		Ready bool `json:"ready"`
	}
	if err := s.smallJSON(w, r, &ask); err != nil {
		return err
	}
	s.json(w, http.StatusOK, s.models.index(ask.Ready))
	return nil
}

func (s *Server) loadModel(w http.ResponseWriter, r *http.Request) error {
	if err := s.control(); err != nil {
		return err
	}
	var ask struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
	}
	if err := s.smallJSON(w, r, &ask); err != nil {
		return err
	}
	if len(ask.Parameters) > 0 {
		return errForeignConfig
	}
	return s.changed(w, s.models.load(context.WithoutCancel(r.Context()), r.PathValue("model"), false))
}

func (s *Server) unloadModel(w http.ResponseWriter, r *http.Request) error {
	if err := s.control(); err != nil {
		return err
	}
	var ignored any
	if err := s.smallJSON(w, r, &ignored); err != nil {
		return err
	}
	return s.changed(w, s.models.unload(r.PathValue("model")))
}

// changed answers for a change of the repository.
func (s *Server) changed(w http.ResponseWriter, err error) error {
	if err != nil {
		return loadError(err)
	}
	s.send(w, http.StatusOK, "application/json", []byte(`{}`))
	return nil
}

// loadError is the status of a change that failed: a file that does not load is no fault of the server's.
func loadError(err error) error {
	if statusOf(err) == http.StatusInternalServerError {
		return &failure{http.StatusBadRequest, fmt.Errorf("the model does not load: %w", err)}
	}
	return err
}
