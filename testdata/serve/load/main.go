// Command load asks a model of a server on this machine, by so many clients at once, and prints
// throughput and latencies:
//
//	go run ./testdata/serve/load -url http://127.0.0.1:8000 -model digits -clients 1,8,32 -for 10s
//
// The inputs are noise of the shape that the model's metadata say, a batch of one, in binary; with -shapes of
// so many sizes in turn, where the model leaves them open. -requests ends each line after so many. -first
// asks one question, then a hundred, and one more after five seconds: what does a server's first answer take?
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

func main() {
	log.SetFlags(0)
	address := flag.String("url", "http://127.0.0.1:8000", "the server's, on this machine")
	model := flag.String("model", "", "the model's name")
	clients := flag.String("clients", "1,8,32", "how many at once, one line each")
	length := flag.Duration("for", 10*time.Second, "of each")
	requests := flag.Int64("requests", 0, "of each, where it is not time that counts")
	shapes := flag.Int("shapes", 1, "sizes of images, where the model leaves them open")
	text := flag.Bool("json", false, "the numbers as JSON, for servers that know nothing else")
	first := flag.Bool("first", false, "the first request, and the first after a pause, against the median")
	flag.Parse()
	if u, err := url.Parse(*address); err != nil || !net.ParseIP(u.Hostname()).IsLoopback() {
		log.Fatalf("%s is not of this machine: an address of 127.0.0.0/8 or [::1] is wanted", *address)
	}
	bodies, err := questions(*address, *model, *shapes, *text)
	if err != nil {
		log.Fatal(err)
	}
	to := *address + "/v2/models/" + *model + "/infer"
	if *first {
		firsts(*address, to, bodies[0])
		return
	}
	fmt.Println("clients  requests/s  p50       p99       slowest   errors")
	for _, text := range strings.Split(*clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1024 {
			log.Fatalf("-clients: %q", text)
		}
		var asked atomic.Int64
		until := time.Now().Add(*length)
		report(n, func() bool {
			if *requests > 0 {
				return asked.Load() < *requests
			}
			return time.Now().Before(until)
		}, func(c *http.Client) error {
			i := asked.Add(1)
			return ask(c, to, bodies[i%int64(len(bodies))])
		})
	}
}

// firsts prints what the first answer takes, on a connection that has asked whether the server is ready, and the first
// after five seconds, in which the client does not sleep. It practices on a server of its own first.
func firsts(server, to string, q question) {
	own := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	c := &http.Client{Transport: &http.Transport{}}
	for range 100 {
		if err := ask(c, own.URL, q); err != nil {
			log.Fatal(err)
		}
	}
	own.Close()
	ready, err := c.Get(server + "/v2/health/ready")
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, ready.Body)
	ready.Body.Close()
	timed := func() time.Duration {
		asked := time.Now()
		if err := ask(c, to, q); err != nil {
			log.Fatal(err)
		}
		return time.Since(asked)
	}
	first := timed()
	var all []time.Duration
	for range 100 {
		all = append(all, timed())
	}
	slices.Sort(all)
	for start := time.Now(); time.Since(start) < 5*time.Second; {
	}
	after, median := timed(), all[len(all)/2]
	fmt.Printf("first %v, median %v, after 5 s %v: %.2f and %.2f times\n", first, median, after,
		float64(first)/float64(median), float64(after)/float64(median))
}

// question is a body for the model, and the length of its JSON.
type question struct {
	body   []byte
	header string
}

// questions are as many as there are shapes.
func questions(address, model string, shapes int, text bool) ([]question, error) {
	resp, err := http.Get(address + "/v2/models/" + model)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var meta struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int64
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&meta); err != nil {
		return nil, err
	}
	if len(meta.Inputs) != 1 || meta.Inputs[0].Datatype != "FP32" {
		return nil, fmt.Errorf("%s is no model of one FP32 input", model)
	}
	var out []question
	for k := range int64(shapes) {
		out = append(out, questionOf(meta.Inputs[0].Name, meta.Inputs[0].Shape, k, text))
	}
	return out, nil
}

// questionOf is a batch of one, of the k-th size: 32, 34, ... where the model leaves it open.
func questionOf(name string, declared []int64, k int64, text bool) question {
	dims := slices.Clone(declared)
	for i, d := range dims {
		if d >= 0 {
			continue
		}
		if dims[i] = 1; i > 0 {
			dims[i] = 32 + 2*k
		}
	}
	x := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range x.Float32s() {
		x.Float32s()[i] = rand.Float32()
	}
	shape, _ := json.Marshal(dims)
	if text {
		numbers, _ := json.Marshal(x.Float32s())
		return question{body: fmt.Appendf(nil, `{"inputs":[{"name":%q,"shape":%s,"datatype":"FP32","data":%s}]}`,
			name, shape, numbers)}
	}
	head := fmt.Sprintf(
		`{"parameters":{"binary_data_output":true},"inputs":[{"name":%q,"shape":%s,"datatype":"FP32","parameters":{"binary_data_size":%d}}]}`,
		name, shape, len(x.Raw))
	return question{append([]byte(head), x.Raw...), strconv.Itoa(len(head))}
}

func ask(c *http.Client, to string, q question) error {
	req, err := http.NewRequest("POST", to, bytes.NewReader(q.body))
	if err != nil {
		return err
	}
	if req.Header.Set("Content-Type", "application/json"); q.header != "" {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Inference-Header-Content-Length", q.header)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("status %d: %v", resp.StatusCode, err)
	}
	return nil
}

// report lets n clients ask, each its next question after the answer, and prints a line.
func report(n int, more func() bool, ask func(*http.Client) error) {
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	errors := 0
	var group sync.WaitGroup
	start := time.Now()
	for range n {
		group.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			var mine []time.Duration
			for more() {
				asked := time.Now()
				if err := ask(c); err != nil {
					mu.Lock()
					errors++
					failed = err
					mu.Unlock()
					continue
				}
				mine = append(mine, time.Since(asked))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	group.Wait()
	took := time.Since(start).Seconds()
	slices.Sort(all)
	if len(all) == 0 {
		log.Fatalf("no answer: %v", failed)
	}
	at := func(q float64) time.Duration {
		return all[min(len(all)-1, int(math.Ceil(q*float64(len(all)))))].Round(time.Microsecond)
	}
	fmt.Printf("%-8d %-11.1f %-9v %-9v %-9v %d\n", n, float64(len(all))/took, at(0.5), at(0.99),
		all[len(all)-1].Round(time.Microsecond), errors)
	if failed != nil {
		fmt.Println("  the last error:", failed)
	}
}
