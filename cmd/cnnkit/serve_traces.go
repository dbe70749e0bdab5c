package main

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// traceTo sends traces to --otlp; nil without it.
func traceTo(c *cli.Context) (*trace.TracerProvider, error) {
	to := c.String("otlp")
	if to == "" {
		return nil, nil
	}
	if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError("--otlp wants a URL such as http://127.0.0.1:4318/v1/traces, not %q", to)
	}
	exporter, err := otlptracehttp.New(c.Context, otlptracehttp.WithEndpointURL(to))
	if err != nil {
		return nil, err
	}
	name := resource.NewSchemaless(attribute.String("service.name", "cnnkit"))
	return trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(name)), nil
}

// endTraces sends what is left.
func endTraces(p *trace.TracerProvider, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		log.Warn("the last traces are lost", "error", err)
	}
}
