package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is where a run is within an epoch.
type Progress struct {
	Epoch           int     `json:"epoch"`
	Epochs          int     `json:"epochs"` // that are planned
	Step            int     `json:"step"`
	Steps           int     `json:"steps"` // of an epoch
	Loss            float64 `json:"loss"`  // the epoch's mean so far
	ImagesPerSecond float64 `json:"images_per_s"`
}

// MarshalJSON writes null for a loss that is not finite.
func (p Progress) MarshalJSON() ([]byte, error) {
	type plain Progress
	out := struct {
		plain
		Loss            *float64 `json:"loss"`
		ImagesPerSecond *float64 `json:"images_per_s"`
	}{plain: plain(p)}
	if finite(p.Loss) {
		out.Loss = &p.Loss
	}
	if finite(p.ImagesPerSecond) {
		out.ImagesPerSecond = &p.ImagesPerSecond
	}
	return json.Marshal(out)
}

// Dashboard serves a run's report while the run goes on. It is an http.Handler of
//
//	/          the page, which keeps itself up to date
//	/content   what of the page changes
//	/run.json  the Run
//	/events    server-sent events: "epoch" with an Epoch, "progress" with a Progress, "run" with the state when something
//	           else of the run has changed
//
// It answers only to names of this machine, lest a page from elsewhere reads a run by rebinding its own name.
// All methods may be called at any time from any goroutine.
type Dashboard struct {
	mu       sync.Mutex
	run      Run
	progress *Progress
	version  uint64        // of the run but for appended epochs
	ticks    uint64        // of the progress
	changed  chan struct{} // closed at the next change

	remote  atomic.Bool // also addresses of other than the loopback are answered to
	streams atomic.Int64
}

// Streams are few, for each is a goroutine; and progress is told at this pace at most.
const (
	maxStreams = 32
	pace       = 250 * time.Millisecond
	beat       = 15 * time.Second // a comment, so that a lost connection is noticed
)

// NewDashboard shows a run. Slices of the run must not be changed any more, but for appending.
func NewDashboard(run Run) *Dashboard {
	return &Dashboard{run: clipped(run), version: 1, changed: make(chan struct{})}
}

// clipped is a run whose epochs are appended to by copying.
func clipped(run Run) Run {
	run.Epochs = slices.Clip(run.Epochs)
	return run
}

// change makes a change and tells all streams.
func (d *Dashboard) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Set replaces the run.
func (d *Dashboard) Set(run Run) {
	d.change(func() { d.run, d.version = clipped(run), d.version+1 })
}

// Epoch appends an epoch.
func (d *Dashboard) Epoch(e Epoch) { d.change(func() { d.run.Epochs = append(d.run.Epochs, e) }) }

// Progress tells how far the run is; it is cheap.
func (d *Dashboard) Progress(p Progress) {
	d.change(func() { d.progress, d.ticks = &p, d.ticks+1 })
}

// snapshot is the state of a moment.
type snapshot struct {
	run      Run
	progress *Progress
	version  uint64
	ticks    uint64
	changed  chan struct{}
}

func (d *Dashboard) snapshot() snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return snapshot{d.run, d.progress, d.version, d.ticks, d.changed}
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy("'self'")+"; frame-ancestors 'none'")
	switch {
	case !local(r.Host, d.remote.Load()):
		http.Error(w, "this host name is not answered to: use localhost or the address",
			http.StatusMisdirectedRequest)
	case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
		http.Error(w, "other sites' pages are not answered to", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path == "/":
		d.page(w, "page")
	case r.URL.Path == "/content":
		d.page(w, "content")
	case r.URL.Path == "/run.json":
		d.json(w)
	case r.URL.Path == "/events":
		d.events(w, r)
	default:
		http.NotFound(w, r)
	}
}

// local says whether a Host header names this machine. A name that anybody's DNS may give is refused; an
// address cannot be rebound.
func local(host string, remote bool) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = name
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLoopback() || remote)
}

func (d *Dashboard) page(w http.ResponseWriter, name string) {
	s := d.snapshot()
	v, err := newView(s.run)
	var b bytes.Buffer
	if err == nil {
		v.Live, v.Version = true, s.version
		err = page.ExecuteTemplate(&b, name, v)
	}
	if err != nil {
		http.Error(w, "the report cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // a reader that is gone is no error
}

func (d *Dashboard) json(w http.ResponseWriter) {
	b, err := json.Marshal(d.snapshot().run)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

// events streams what has changed since the page with so many epochs and that version. A stream that comes
// again says by Last-Event-ID what it has.
func (d *Dashboard) events(w http.ResponseWriter, r *http.Request) {
	if d.streams.Add(1) > maxStreams {
		d.streams.Add(-1)
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer d.streams.Add(-1)
	s := stream{w: w, c: http.NewResponseController(w)}
	q := r.URL.Query()
	s.epochs, _ = strconv.Atoi(q.Get("epochs")) // 0 is as good as any
	s.version, _ = strconv.ParseUint(q.Get("version"), 10, 64)
	if _, err := fmt.Sscanf(r.Header.Get("Last-Event-ID"), "%d.%d", &s.epochs, &s.version); err != nil &&
		s.epochs < 0 {
		s.epochs = 0
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	if err := s.send("", "", nil); err != nil {
		return
	}
	heart := time.NewTicker(beat)
	defer heart.Stop()
	for {
		now := d.snapshot()
		if s.tell(now) != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-heart.C:
			if s.send("", "", nil) != nil {
				return
			}
		case <-now.changed:
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(pace):
		}
	}
}

// stream is one reader and what it has been told.
type stream struct {
	w       http.ResponseWriter
	c       *http.ResponseController
	epochs  int
	version uint64
	ticks   uint64
}

func (s *stream) tell(now snapshot) error {
	changed := s.version != now.version
	if s.epochs > len(now.run.Epochs) || s.epochs < 0 { // another run
		s.epochs, changed = 0, true
	}
	for ; s.epochs < len(now.run.Epochs); s.epochs++ {
		if err := s.send("epoch", fmt.Sprintf("%d.%d", s.epochs+1, s.version),
			now.run.Epochs[s.epochs]); err != nil {
			return err
		}
	}
	if changed {
		s.version = now.version
		state := struct {
			State  State `json:"state"`
			Epochs int   `json:"epochs"`
		}{now.run.State, s.epochs}
		if err := s.send("run", fmt.Sprintf("%d.%d", s.epochs, s.version), state); err != nil {
			return err
		}
	}
	if now.progress != nil && s.ticks != now.ticks && now.run.State == Running {
		s.ticks = now.ticks
		return s.send("progress", "", *now.progress)
	}
	return nil
}

// send writes an event, or a comment where it has no name. JSON has no line breaks.
func (s *stream) send(event, id string, v any) error {
	var b bytes.Buffer
	if event == "" {
		b.WriteString(":\n\n")
	} else {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if id != "" {
			fmt.Fprintf(&b, "id: %s\n", id)
		}
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", event, data)
	}
	_ = s.c.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a recorder in a test has none
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return err
	}
	return s.c.Flush()
}

// Listen opens addr, a host and a port, for Serve. Without a host it is 127.0.0.1, and without a port a free
// one: others on the network see a run only where they are let in by name ("0.0.0.0:6006").
func Listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = ":0"
	}
	if !strings.Contains(addr, ":") && strings.Trim(addr, "0123456789") == "" {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is no host:port: %w", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.Listen("tcp", net.JoinHostPort(host, port))
}

// Serve answers at l until ctx ends, and closes it; then the error is nil.
func (d *Dashboard) Serve(ctx context.Context, l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		d.remote.Store(true)
	}
	server := &http.Server{Handler: d, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx }}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(short) != nil {
			_ = server.Close() // readers who do not leave
		}
	})
	err := server.Serve(l)
	if !stop() { // it was started
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

var _ http.Handler = (*Dashboard)(nil)
