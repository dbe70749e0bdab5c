package serve_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve"
)

// serving runs a server on listeners of its own; stop drains it and gives what Serve gave.
func serving(t testing.TB, opt serve.Options) (s *serve.Server, web, rpc string, stop func() error) {
	t.Helper()
	s = serve.New(opt)
	if err := s.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	var ports [2]net.Listener
	for i := range ports {
		var err error
		if ports[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx, ports[0], ports[1]) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-end
	})
	t.Cleanup(func() { _ = stop() })
	return s, "http://" + ports[0].Addr().String(), ports[1].Addr().String(), stop
}

// load asks from so many clients until each is told to stop or cannot connect any more, and gives the number
// of answers. A request that was written and not answered is a failure.
func load(t *testing.T, web string, clients int, stop *atomic.Bool) (wait func() int64) {
	var group sync.WaitGroup
	var answers atomic.Int64
	want := truth(t)
	expected := want(digit(1, 1))
	for range clients {
		group.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for !stop.Load() {
				got, refused, err := askOnce(client, web)
				if refused {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				for i := range expected {
					if d := got[i] - expected[i]; d > 1e-4 || d < -1e-4 {
						t.Errorf("number %d is %g, want %g", i, got[i], expected[i])
						return
					}
				}
				answers.Add(1)
			}
		})
	}
	return func() int64 {
		group.Wait()
		return answers.Load()
	}
}

// askOnce asks LeNet-5; refused says that nobody listens.
func askOnce(client *http.Client, web string) (out []float32, refused bool, err error) {
	x := digit(1, 1)
	body, length := binaryRequest(x)
	req, err := http.NewRequest("POST", web+"/v2/models/lenet/infer", bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.GetBody = nil // the transport must not hide a lost request by asking again
	req.Header.Set("Inference-Header-Content-Length", length)
	resp, err := client.Do(req)
	if err != nil {
		// A connection that the kernel has and the server has not accepted is reset.
		return nil, errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET), err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return nil, false, fmt.Errorf("status %d: %.100s %v", resp.StatusCode, data, err)
	}
	t := onnxio.NewTensor(onnxio.Float, 10)
	copy(t.Raw, data[len(data)-40:])
	return t.Float32s(), false, nil
}

// A drain under load loses nothing, and ends.
func TestDrainUnderLoad(t *testing.T) {
	_, web, _, stop := serving(t, serve.Options{Models: []string{"lenet=" + lenet},
		DrainGrace: 500 * time.Millisecond})
	var never atomic.Bool
	wait := load(t, web, 8, &never)
	time.Sleep(300 * time.Millisecond)
	start := time.Now()
	if err := stop(); err != nil {
		t.Errorf("draining: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the drain took %v", took)
	}
	never.Store(true)
	if n := wait(); n < 50 {
		t.Errorf("only %d answers", n)
	}
}

// Models are replaced, by clients and from disk, while requests go on; none fails.
func TestReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(lenet)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lenet.onnx")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	s, web, _, _ := serving(t, serve.Options{Models: []string{dir}, Control: true,
		DrainGrace: time.Millisecond})
	var enough atomic.Bool
	wait := load(t, web, 4, &enough)
	for i := range 10 {
		if i%2 == 0 {
			if r := call(t, "POST", web+"/v2/repository/models/lenet/load", nil); r.status != 200 {
				t.Errorf("loading again: %d %s", r.status, r.body)
			}
			continue
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// A file that does not load leaves the old model in service.
	if err := os.WriteFile(path+".new", []byte("no model"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err == nil {
		t.Error("a broken file is loaded")
	}
	time.Sleep(100 * time.Millisecond)
	enough.Store(true)
	if n := wait(); n < 20 {
		t.Errorf("only %d answers", n)
	}
}

// talk writes to a fresh connection and gives the first line of the answer, "" where the
// server closes without one.
func talk(t *testing.T, web, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(web, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatalf("%.60q: %v", text, err)
	}
	return strings.TrimSpace(line)
}

// A body of 2 GB is refused by its announcement; one that stops half-way, and one that never comes, end by
// the clock; none holds memory.
func TestBrokenBodies(t *testing.T) {
	_, web, _, _ := serving(t, serve.Options{Models: []string{"lenet=" + lenet},
		BodyTimeout: 300 * time.Millisecond, DrainGrace: time.Millisecond})
	post := "POST /v2/models/lenet/infer HTTP/1.1\r\nHost: localhost\r\n"
	for name, c := range map[string]struct{ text, want string }{
		"2 GB":             {post + "Content-Length: 2147483648\r\n\r\n", "413"},
		"10 EB":            {post + "Content-Length: 9999999999999999999\r\n\r\n", "400"},
		"negative":         {post + "Content-Length: -1\r\n\r\n", "400"},
		"cut off":          {post + "Content-Length: 1000\r\n\r\n{\"inputs\"", "400"},
		"chunked, cut off": {post + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"inp\r\n", "400"},
		"bad chunk":        {post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		"not read": {"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
			"404"},
		"both lengths":      {post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "400"},
		"no such encoding":  {post + "Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", "415"},
		"no gzip":           {post + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "400"},
		"header too large":  {post + "X: " + strings.Repeat("x", 1<<17) + "\r\n\r\n", "431"},
		"no HTTP":           {"hello\r\n\r\n", "400"},
		"path with a query": {"GET /v2/models/lenet?x=../../etc HTTP/1.0\r\n\r\n", "200"},
	} {
		if line := talk(t, web, c.text); !strings.Contains(line, " "+c.want) {
			t.Errorf("%s: %q, not %s", name, line, c.want)
		}
	}
	if r := call(t, "GET", web+"/metrics", nil); !strings.Contains(r.text(), "\ncnnkit_body_bytes 0\n") {
		t.Errorf("bodies are still in memory: %s",
			r.text()[strings.Index(r.text(), "cnnkit_body_bytes"):][:80])
	}
}

// A small body that unpacks to a large one stops at the limit.
func TestZipBomb(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxBody: 1 << 20})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(make([]byte, 200<<20))
	z.Close()
	if r := call(t, "POST", web.URL+"/v2/models/lenet/infer", packed.Bytes(), "Content-Encoding",
		"gzip"); r.status != 413 {
		t.Errorf("200 MB in %d bytes: %d %s", packed.Len(), r.status, r.body)
	}
	packed.Reset()
	z.Reset(&packed)
	body, length := binaryRequest(digit(1, 1))
	_, _ = z.Write(body)
	z.Close()
	if r := call(t, "POST", web.URL+"/v2/models/lenet/infer", packed.Bytes(), "Content-Encoding", "gzip",
		"Inference-Header-Content-Length", length); r.status != 200 {
		t.Errorf("a packed request: %d %s", r.status, r.body)
	}
}

// A client that sends its header a byte at a time is cut off, and does not keep a drain.
func TestSlowHeader(t *testing.T) {
	_, web, _, stop := serving(t, serve.Options{Models: []string{"lenet=" + lenet},
		DrainGrace: time.Millisecond, DrainWait: 12 * time.Second})
	c, err := net.Dial("tcp", strings.TrimPrefix(web, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closed := make(chan time.Duration, 1)
	start := time.Now()
	go func() {
		for _, b := range []byte("GET /v2 HTTP/1.1\r\nX: " + strings.Repeat("x", 1000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(30 * time.Millisecond)
		}
		closed <- time.Since(start)
	}()
	time.Sleep(200 * time.Millisecond)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := <-closed; took > 15*time.Second {
		t.Errorf("a slow client stayed for %v", took)
	}
}

// Bodies together are bounded.
func TestMemory(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxBody: 1 << 20, MaxMemory: 1 << 10})
	body, length := binaryRequest(digit(1, 1))
	if r := call(t, "POST", web.URL+"/v2/models/lenet/infer", body, "Inference-Header-Content-Length",
		length); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("a server without memory: %d %s", r.status, r.body)
	}
}

// A small text that is many objects, or many numbers, does not take the server's memory.
func TestJSONBombs(t *testing.T) {
	_, web := modelsServer(t, serve.Options{MaxBody: 4 << 20, MaxMemory: 16 << 20})
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"inputs":  {`{"inputs":[` + strings.Repeat("{},", 1<<20) + `{}]}`, 400},
		"outputs": {`{"outputs":[` + strings.Repeat("{},", 1<<20) + `{}]}`, 400},
		"null":    {`{"inputs":[null]}`, 400},
		"no word": {`{"outputs":[null]}`, 400},
		"numbers": {`{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[` + strings.Repeat("1,",
			1<<21-99) + `1]}]}`, 503},
		"in words": {`{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","data":["` +
			strings.Repeat("{,", 9000) + `\"","a","b"]}]}`, 200},
	} {
		if r := call(t, "POST", web.URL+"/v2/models/copy_bytes/infer", []byte(c.text)); r.status != c.status {
			t.Errorf("%s: %d, not %d: %.200s", name, r.status, c.status, r.body)
		}
	}
	if r := call(t, "GET", web.URL+"/metrics", nil); !strings.Contains(r.text(), "\ncnnkit_body_bytes 0\n") {
		t.Error("texts are still in memory")
	}
}

// A page whose name was made to lead to this machine cannot ask; this machine's own names can.
func TestRebinding(t *testing.T) {
	ask := func(url, host string) int {
		req, err := http.NewRequest("GET", url+"/v2", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer sesame")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	_, plain := started(t, serve.Options{})
	_, named := started(t, serve.Options{Origins: []string{"https://Friend.example:8443"}})
	_, token := started(t, serve.Options{Tokens: []string{"sesame"}})
	for _, c := range []struct {
		url, host string
		status    int
	}{
		{plain.URL, "evil.example", 403}, {plain.URL, "evil.example:8000", 403}, {plain.URL,
			"localhost.evil.example", 403},
		{plain.URL, "localhost:8000", 200}, {plain.URL, "LOCALHOST.", 200}, {plain.URL, "a.localhost", 200},
		{plain.URL, "127.0.0.1:1", 200}, {plain.URL, "[::1]:8000", 200}, {plain.URL, "[::1]", 200},
		{named.URL, "friend.example", 200}, {named.URL, "evil.example", 403}, {token.URL,
			"evil.example", 200},
	} {
		if status := ask(c.url, c.host); status != c.status {
			t.Errorf("Host %s: %d, not %d", c.host, status, c.status)
		}
	}
}

// A token is asked for everywhere but at the health checks.
func TestTokens(t *testing.T) {
	_, web := modelsServer(t, serve.Options{Tokens: []string{"sesame", "open"}})
	for _, c := range []struct {
		path, token string
		status      int
	}{
		{"/v2", "", 401}, {"/v2", "Bearer no", 401}, {"/v2", "Basic sesame", 401}, {"/v2", "Bearer sesame",
			200}, {"/v2", "bearer open", 200},
		{"/metrics", "", 401}, {"/v2/health/ready", "", 200}, {"/v2/models/lenet", "",
			401}, {"/v2/models/nobody", "", 401},
	} {
		if r := call(t, "GET", web.URL+c.path, nil, "Authorization", c.token); r.status != c.status {
			t.Errorf("%s with %q: %d, not %d", c.path, c.token, r.status, c.status)
		}
	}
}

// Pages of other sites cannot ask, unless they are named.
func TestOrigins(t *testing.T) {
	_, web := modelsServer(t, serve.Options{})
	ask := []byte(`{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}`)
	r := call(t, "POST", web.URL+"/v2/models/copy_fp32/infer", ask, "Origin", "https://elsewhere.example",
		"Sec-Fetch-Site", "cross-site")
	if r.status != 403 || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page elsewhere: %d %v", r.status, r.header)
	}
	_, web = modelsServer(t, serve.Options{Origins: []string{"https://friend.example"}})
	for origin, status := range map[string]int{"https://friend.example": 200,
		"https://elsewhere.example": 403} {
		r := call(t, "POST", web.URL+"/v2/models/copy_fp32/infer", ask, "Origin", origin, "Sec-Fetch-Site",
			"cross-site")
		if r.status != status || (r.header.Get("Access-Control-Allow-Origin") == origin) != (status == 200) {
			t.Errorf("%s: %d %v", origin, r.status, r.header)
		}
	}
	r = call(t, "OPTIONS", web.URL+"/v2/models/copy_fp32/infer", nil, "Origin", "https://friend.example",
		"Access-Control-Request-Method", "POST")
	if r.status != 204 || !strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("the question before: %d %v", r.status, r.header)
	}
}
