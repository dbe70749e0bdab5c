package serve_test

import (
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cnnkit/cnnkit/runtime/serve"
)

// A request's span is below the client's, and has its time in the queue and in the run.
func TestTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	_, web := started(t, serve.Options{Models: []string{"lenet=" + lenet},
		Traces: trace.NewTracerProvider(trace.WithSpanProcessor(spans))})
	body, length := binaryRequest(digit(1, 1))
	const client = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, path := range []string{"infer", "classify"} {
		call(t, "POST", web.URL+"/v2/models/lenet/"+path, body, "Inference-Header-Content-Length", length,
			"traceparent", "00-"+client+"-00f067aa0ba902b7-01")
	}
	names := map[string]int{}
	for _, s := range spans.Ended() {
		names[s.Name()+" "+s.Status().Code.String()]++
		if s.SpanContext().TraceID().String() != client || s.EndTime().Before(s.StartTime()) {
			t.Errorf("%s: trace %s, from %v to %v", s.Name(), s.SpanContext().TraceID(), s.StartTime(),
				s.EndTime())
		}
	}
	for name, n := range map[string]int{"queue Unset": 1, "run Unset": 1, "infer lenet Unset": 1,
		"infer lenet Error": 1} {
		if names[name] != n {
			t.Errorf("%d spans %q, not %d: %v", names[name], name, n, names)
		}
	}
}
