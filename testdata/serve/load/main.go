// Command load asks a model of a server on this machine, by so many clients at once, and prints
// throughput and latencies:
//
//	go run ./testdata/serve/load -url http://127.0.0.1:8000 -model digits -clients 1,8,32 -for 10s
//
// The inputs are noise of the shape that the model's metadata say, a batch of one, in binary.
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
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

func main() {
	log.SetFlags(0)
	address := flag.String("url", "http://127.0.0.1:8000", "the server's, on this machine")
	model := flag.String("model", "", "the model's name")
	clients := flag.String("clients", "1,8,32", "how many at once, one line each")
	length := flag.Duration("for", 10*time.Second, "of each")
	flag.Parse()
	if u, err := url.Parse(*address); err != nil || !net.ParseIP(u.Hostname()).IsLoopback() {
		log.Fatalf("%s is not of this machine: an address of 127.0.0.0/8 or [::1] is wanted", *address)
	}
	body, header, err := request(*address, *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("clients  requests/s  p50       p99       slowest   errors")
	for _, text := range strings.Split(*clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1024 {
			log.Fatalf("-clients: %q", text)
		}
		report(n, *length, func(c *http.Client) error {
			return ask(c, *address+"/v2/models/"+*model+"/infer", body, header)
		})
	}
}

// request is a body for the model, and the length of its JSON.
func request(address, model string) (body []byte, header string, err error) {
	resp, err := http.Get(address + "/v2/models/" + model)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var meta struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int64
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&meta); err != nil {
		return nil, "", err
	}
	if len(meta.Inputs) != 1 || meta.Inputs[0].Datatype != "FP32" {
		return nil, "", fmt.Errorf("%s is no model of one FP32 input", model)
	}
	in := meta.Inputs[0]
	for i, d := range in.Shape {
		if d < 0 {
			in.Shape[i] = 1
		}
	}
	x := onnxio.NewTensor(onnxio.Float, in.Shape...)
	for i := range x.Float32s() {
		x.Float32s()[i] = rand.Float32()
	}
	shape, _ := json.Marshal(in.Shape)
	head := fmt.Sprintf(
		`{"parameters":{"binary_data_output":true},"inputs":[{"name":%q,"shape":%s,"datatype":"FP32","parameters":{"binary_data_size":%d}}]}`,
		in.Name, shape, len(x.Raw))
	return append([]byte(head), x.Raw...), strconv.Itoa(len(head)), nil
}

func ask(c *http.Client, to string, body []byte, header string) error {
	req, err := http.NewRequest("POST", to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Inference-Header-Content-Length", header)
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
func report(n int, length time.Duration, ask func(*http.Client) error) {
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
			for time.Since(start) < length {
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
