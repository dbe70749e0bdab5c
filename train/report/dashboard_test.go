package report

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var serve = flag.Duration("serve", 0, "serve the example's dashboard for so long")

func get(t *testing.T, d http.Handler, path string, change func(*http.Request)) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:6006"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDashboardPages(t *testing.T) {
	d := NewDashboard(example(t))
	r := get(t, d, "/", nil)
	if s := text(t, r); r.StatusCode != 200 || !strings.Contains(s, `data-live="1" data-epochs="24"`) ||
		!strings.Contains(s, "Worst mistakes") ||
		strings.Contains(s, "http-equiv") || strings.Contains(s, "<script>alert") {
		t.Errorf("%d %.600s", r.StatusCode, s)
	}
	p := r.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-",
		"connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(p, want) {
			t.Errorf("the policy is %s", p)
		}
	}
	if strings.Contains(p, "unsafe") || r.Header.Get("X-Content-Type-Options") != "nosniff" ||
		r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", r.Header)
	}
	if s := text(t, get(t, d, "/content", nil)); strings.Contains(s, "<html") ||
		!strings.Contains(s, "Worst mistakes") {
		t.Errorf("%.300s", s)
	}
	d.Epoch(Epoch{25, map[string]float64{"train_loss": 0.5}})
	var run Run
	if err := json.Unmarshal([]byte(text(t, get(t, d, "/run.json", nil))), &run); err != nil ||
		len(run.Epochs) != 25 {
		t.Errorf("%d epochs, %v", len(run.Epochs), err)
	}
	d.Set(Run{Samples: []Sample{{Name: "a"}}})
	if r := get(t, d, "/", nil); r.StatusCode != 500 ||
		strings.Contains(r.Header.Get("Content-Type"), "html") {
		t.Errorf("%d", r.StatusCode)
	}
}

// A name that may be rebound, other sites' scripts and what is no reading get no answer.
func TestDashboardRefuses(t *testing.T) {
	d := NewDashboard(example(t))
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, c := range []struct {
		name   string
		path   string
		change func(*http.Request)
		code   int
	}{
		{"localhost", "/", host("localhost:80"), 200}, {"LOCALHOST", "/", host("LocalHost"), 200},
		{"loopback", "/", host("127.0.0.9"), 200}, {"IPv6", "/", host("[::1]:6006"),
			200}, {"IPv6 without a port", "/", host("[::1]"), 200},
		{"another name", "/", host("evil.example"), 421}, {"another name with a port", "/run.json",
			host("evil.example:6006"), 421},
		{"a name that begins well", "/", host("localhost.evil.example"), 421}, {"an address in a name", "/",
			host("127.0.0.1.evil.example"), 421},
		{"another address", "/", host("192.168.1.5:6006"), 421}, {"nothing", "/", host(""), 421}, {"no port",
			"/", host("localhost:x"), 421},
		{"another site", "/run.json", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		}, 403},
		{"a link of another site", "/", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, 200},
		{"POST", "/", func(r *http.Request) { r.Method = http.MethodPost }, 405},
		{"another page", "/etc/passwd", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := get(t, d, c.path, c.change); r.StatusCode != c.code {
				t.Errorf("%d, want %d: %.200s", r.StatusCode, c.code, text(t, r))
			}
		})
	}
}

// sent is one server-sent event.
type sent struct{ id, event, data string }

// follow reads a stream until it ends.
func follow(t *testing.T, url string, header http.Header) (<-chan sent, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	out := make(chan sent, 100)
	go func() {
		defer answer.Body.Close()
		defer close(out)
		var e sent
		for s := bufio.NewScanner(answer.Body); s.Scan(); {
			switch key, value, _ := strings.Cut(s.Text(), ": "); {
			case s.Text() == "" && e.event != "":
				out <- e
				e = sent{}
			case key == "id":
				e.id = value
			case key == "event":
				e.event = value
			case key == "data":
				e.data = value
			}
		}
	}()
	return out, cancel
}

func next(t *testing.T, c <-chan sent) sent {
	t.Helper()
	select {
	case e, ok := <-c:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return sent{}
}

func TestDashboardEvents(t *testing.T) {
	d := NewDashboard(Run{State: Running, Epochs: []Epoch{{1, map[string]float64{"lr": 0.5}}}})
	server := httptest.NewServer(d)
	defer server.Close()
	events, cancel := follow(t, server.URL+"/events?epochs=1&version=1", nil)
	defer cancel()
	d.Progress(Progress{Epoch: 2, Epochs: 3, Step: 4, Steps: 10, Loss: math.NaN(), ImagesPerSecond: 100})
	if e := next(t, events); e != (sent{"", "progress",
		`{"epoch":2,"epochs":3,"step":4,"steps":10,"loss":null,"images_per_s":100}`}) {
		t.Errorf("%+v", e)
	}
	d.Epoch(Epoch{2, map[string]float64{"lr": 0.25}})
	if e := next(t, events); e != (sent{"2.1", "epoch", `{"epoch":2,"lr":0.25}`}) {
		t.Errorf("%+v", e)
	}
	run := d.snapshot().run
	run.State = Finished
	d.Set(run)
	if e := next(t, events); e != (sent{"2.2", "run", `{"state":"finished","epochs":2}`}) {
		t.Errorf("%+v", e)
	}
	// A stream that comes again is told what it missed, and no more.
	again, cancel2 := follow(t, server.URL+"/events?epochs=0&version=1",
		http.Header{"Last-Event-Id": {"1.2"}})
	defer cancel2()
	if e := next(t, again); e.event != "epoch" || e.id != "2.2" {
		t.Errorf("%+v", e)
	}
	for _, nonsense := range []string{"?epochs=-5", "?epochs=x&version=y", "?epochs=99999999999999999999"} {
		s, cancel := follow(t, server.URL+"/events"+nonsense, http.Header{"Last-Event-Id": {"-3"}})
		if e := next(t, s); e.event != "epoch" && e.event != "run" {
			t.Errorf("%s: %+v", nonsense, e)
		}
		cancel()
	}
}

func TestDashboardManyStreams(t *testing.T) {
	d := NewDashboard(Run{})
	server := httptest.NewServer(d)
	defer server.Close()
	for range maxStreams {
		_, cancel := follow(t, server.URL+"/events", nil)
		defer cancel()
	}
	r, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d", r.StatusCode)
	}
}

// Serve ends with its context, readers or not, and is on the loopback when nothing else is said.
func TestDashboardServe(t *testing.T) {
	l, err := Listen("")
	if err != nil {
		t.Fatal(err)
	}
	if a := l.Addr().(*net.TCPAddr); !a.IP.Equal(net.IPv4(127, 0, 0, 1)) || a.Port == 0 {
		t.Errorf("%v", a)
	}
	d := NewDashboard(example(t))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- d.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	events, leave := follow(t, url+"/events", nil)
	defer leave()
	next(t, events)
	if *serve > 0 {
		live(t, d, url, *serve)
	}
	cancel()
	select {
	case err := <-end:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on")
	}
	if r, err := http.Get(url); err == nil {
		r.Body.Close()
		t.Error("it answers")
	}
	for addr, bad := range map[string]bool{"127.0.0.1": true, ":x": true, "0": false, "localhost:0": false} {
		l, err := Listen(addr)
		if (err != nil) != bad {
			t.Errorf("%q: %v", addr, err)
		}
		if err == nil {
			l.Close()
		}
	}
}

// live lets the example go on, to be looked at.
func live(t *testing.T, d *Dashboard, url string, d2 time.Duration) {
	fmt.Println(url)
	run := example(t)
	all := run.Epochs
	run.Epochs = run.Epochs[:6]
	d.Set(run)
	end := time.Now().Add(d2)
	for n := 6; time.Now().Before(end); {
		for step := 1; step <= 20 && time.Now().Before(end); step++ {
			time.Sleep(100 * time.Millisecond)
			d.Progress(Progress{Epoch: n + 1, Epochs: 30, Step: step * 40, Steps: 800, Loss: 1 / float64(n),
				ImagesPerSecond: 5312})
		}
		if n < len(all) {
			d.Epoch(all[n])
			n++
		}
	}
	run = d.snapshot().run
	run.State = Finished
	d.Set(run)
	time.Sleep(2 * time.Second)
}

// Readers and a run that goes on at once; the race detector looks on.
func TestDashboardConcurrent(t *testing.T) {
	d := NewDashboard(Run{State: Running})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				get(t, d, "/run.json", nil)
				get(t, d, "/content", nil)
			}
		})
	}
	for n := range 50 {
		d.Epoch(Epoch{n + 1, map[string]float64{"train_loss": 1}})
		d.Progress(Progress{Step: n})
	}
	wg.Wait()
	if n := len(d.snapshot().run.Epochs); n != 50 {
		t.Errorf("%d epochs", n)
	}
}

func TestRecorder(t *testing.T) {
	dir := t.TempDir()
	run := Run{Title: "a run", State: Running}
	r, err := NewRecorder(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	r.Dashboard = NewDashboard(run)
	picture, err := PNG(glyph(8, 1))
	if err != nil {
		t.Fatal(err)
	}
	epoch := func(n int) Epoch { return Epoch{n, map[string]float64{"train_loss": 1 / float64(n)}} }
	for n := 1; n <= 3; n++ {
		r.Progress(Progress{Epoch: n})
		if err := r.Epoch(epoch(n), n == 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Image("sample", 3, picture); err != nil {
		t.Fatal(err)
	}
	if s := r.Dashboard.snapshot(); len(s.run.Epochs) != 3 || s.run.Best != 2 || s.progress.Epoch != 3 {
		t.Errorf("%+v", s)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// It is resumed after the second epoch.
	run.Epochs = []Epoch{epoch(1), epoch(2)}
	r, err = NewRecorder(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Epoch(epoch(3), true); err != nil {
		t.Fatal(err)
	}
	r.Run.State = Finished
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 4 {
		t.Fatalf("%v, %v", found, err)
	}
	if got := readEvents(t, found[1]); len(got) != 3 || !got[1].start || got[1].step != 3 ||
		got[2].tag != "loss/train" {
		t.Errorf("%+v", got)
	}
	if got := readEvents(t, found[0]); len(got) != 6 || got[5].tag != "sample" {
		t.Errorf("%+v", got)
	}
	none, err := NewRecorder("", Run{})
	if err != nil {
		t.Fatal(err)
	}
	none.Progress(Progress{})
	if err := none.Epoch(epoch(1), false); err != nil {
		t.Error(err)
	}
	if err := none.Image("a", 1, nil); err != nil {
		t.Error(err)
	}
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
