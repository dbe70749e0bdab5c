package serve

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const noMemory = "the server holds as many requests and answers as its memory allows: try again later"

// budget bounds the bytes that all requests hold together.
type budget struct {
	limit      int64
	used       atomic.Int64
	collecting atomic.Bool
}

// reserve takes n bytes, or says that the server is too busy.
func (b *budget) reserve(n int64) error {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		b.reclaim()
		return fail(http.StatusServiceUnavailable, noMemory)
	}
	return nil
}

func (b *budget) release(n int64) { b.used.Add(-n) }

// reclaim lets the garbage collector find, soon and once a second at most, the buffers
// that countedPool has lost.
func (b *budget) reclaim() {
	if b.collecting.CompareAndSwap(false, true) {
		time.AfterFunc(time.Second, func() {
			runtime.GC()
			b.collecting.Store(false)
		})
	}
}

func hashed(tokens []string) [][32]byte {
	var out [][32]byte
	for _, t := range tokens {
		out = append(out, sha256.Sum256([]byte(t)))
	}
	return out
}

// authorized checks an Authorization header. It takes the same time for every token.
func (s *Server) authorized(header string) bool {
	if len(s.tokens) == 0 {
		return true
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	got, ok := sha256.Sum256([]byte(strings.TrimSpace(token))), 0
	for _, want := range s.tokens {
		ok |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return ok == 1
}

// limitedListener bounds the connections that are open at once; others wait to be accepted.
type limitedListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func limited(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// crossOrigin lets pages of other sites ask where the options name them: it answers the question
// that browsers ask first, and gives the headers that let a page read the answer. It reports
// whether the request is answered.
func (s *Server) crossOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if !slices.Contains(s.opt.Origins, origin) {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", headerLength)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+headerLength)
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// rebound reports whether a request to this machine alone came by a name that is not this machine's: a page
// of another site can let its own name lead here (DNS rebinding), and then asks as of one origin. A token
// protects from that too.
func (s *Server) rebound(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || len(s.tokens) > 0 {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	address := net.ParseIP(strings.Trim(host, "[]")) != nil
	if host == "" || address || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	return !slices.ContainsFunc(s.opt.Origins, func(o string) bool {
		u, err := url.Parse(o)
		return err == nil && strings.EqualFold(u.Hostname(), host)
	})
}

// sendDeadline bounds the time in which a client takes its answer.
func (s *Server) sendDeadline(w http.ResponseWriter) {
	// a recorder of a test has none
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opt.SendTimeout))
}

// connections counts those that have a request under way, or may have: http.Server.Shutdown drops a request
// that it reads on a connection that was new when it began.
type connections struct {
	mu   sync.Mutex
	busy map[net.Conn]bool
}

func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy == nil {
		c.busy = map[net.Conn]bool{}
	}
	switch state {
	case http.StateNew, http.StateActive:
		c.busy[conn] = true
	default:
		delete(c.busy, conn)
	}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.busy)
}

// newWait is how long connections without a request, and slow headers, hold up a drain.
const newWait = 3 * time.Second

// wait waits until no connection has a request.
func (c *connections) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, newWait)
	defer cancel()
	for c.count() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}
