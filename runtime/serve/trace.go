package serve

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// scope names this package in traces.
const scope = "github.com/cnnkit/cnnkit/runtime/serve"

// traced begins the span of a request to a model, below the span that the client's W3C headers name. The
// function that it gives ends the span.
func (s *Server) traced(ctx context.Context, headers propagation.TextMapCarrier, m *model,
	protocol string) (context.Context, func(error)) {
	ctx = propagation.TraceContext{}.Extract(ctx, headers)
	ctx, span := s.tracer.Start(ctx, "infer "+m.name, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("model", m.name), attribute.String("version", m.versionText()),
			attribute.String("protocol", protocol)))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
			span.SetAttributes(attribute.Int("status", statusOf(err)))
		}
		span.End()
	}
}

// phases adds the spans of a job that was answered: its time in the queue, and that
// of the run which it shared.
func phases(j *job, end time.Time) {
	parent := trace.SpanFromContext(j.ctx)
	if !parent.IsRecording() {
		return
	}
	tracer := parent.TracerProvider().Tracer(scope)
	_, queued := tracer.Start(j.ctx, "queue", trace.WithTimestamp(j.came))
	queued.End(trace.WithTimestamp(j.began))
	_, run := tracer.Start(j.ctx, "run", trace.WithTimestamp(j.began),
		trace.WithAttributes(attribute.Int64("rows", j.rows)))
	run.End(trace.WithTimestamp(end))
}

// rpcHeaders are the metadata of a call, as traces read them.
type rpcHeaders struct{ metadata.MD }

// Get implements propagation.TextMapCarrier.
func (h rpcHeaders) Get(key string) string {
	if v := h.MD.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (h rpcHeaders) Set(key, value string) { h.MD.Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (h rpcHeaders) Keys() []string {
	var out []string
	for k := range h.MD {
		out = append(out, k)
	}
	return out
}
