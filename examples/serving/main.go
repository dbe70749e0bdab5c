// Command serving answers the Open Inference Protocol for a model from a program's own HTTP server:
//
//	go run ./examples/serving model.onnx localhost:8000
//	curl localhost:8000/v2/models/model
//	curl localhost:8000/v2/models/model/infer -d '{"inputs": [{"name": "input", "datatype": "FP32", "shape": [...], "data": [...]}]}'
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: serving MODEL HOST:PORT")
	}
	models := serve.New(serve.Options{Models: []string{"model=" + os.Args[1]},
		Session: []runtime.Option{runtime.WithEngine(runtime.Native)}})
	defer models.Close()
	if err := models.Load(context.Background()); err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", models.Handler())
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("a page of my own\n"))
	})
	log.Printf("http://%s", l.Addr())
	log.Fatal(http.Serve(l, mux))
}
