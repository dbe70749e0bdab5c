// Ort_overhead times a model through package runtime with engine ort, on demand: it reads a number of calls
// from each line of its input and answers with the nanoseconds that one call took. ort_overhead.py drives it.
//
//	go run ./testdata/infer/ort_overhead MODEL BATCH THREADS
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	_ "github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: ort_overhead MODEL BATCH THREADS")
	}
	batch, err := strconv.Atoi(os.Args[2])
	check(err)
	threads, err := strconv.Atoi(os.Args[3])
	check(err)
	s, err := runtime.Open(os.Args[1], runtime.WithEngine(runtime.ORT), runtime.WithThreads(threads))
	check(err)
	defer s.Close()
	in, err := verify.Random(s.Inputs(), int64(batch), 1)
	check(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		calls, err := strconv.Atoi(lines.Text())
		check(err)
		fmt.Println(perCall(s, in, calls))
	}
}

func perCall(s runtime.Session, in map[string]*onnxio.Tensor, calls int) int64 {
	start := time.Now()
	for range calls {
		_, err := s.Run(context.Background(), in)
		check(err)
	}
	return time.Since(start).Nanoseconds() / int64(calls)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
