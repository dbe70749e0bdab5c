package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/runtime/serve"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "answer requests to models over HTTP and gRPC, with a page to try them",
		UsageText: "cnnkit serve DIR|MODEL|NAME=MODEL... [--http-port 8000] [--grpc-port 8001] [--max-batch 32] [--engine E]",
		Description: `Speaks the Open Inference Protocol, version 2, as Triton and KServe do, so their clients work. DIR has models in Triton's
layout (NAME/1/model.onnx, with or without NAME/config.pbtxt) or plain .onnx files, which are called as their files, a
model.onnx as its folder. Requests that come together share runs where the model's batch is free.

  cnnkit serve lenet5-mnist/model.onnx
  cnnkit serve digits=lenet5-mnist/model.onnx --http-port 9000
  cnnkit serve repository/ --host 0.0.0.0 --token-file tokens --tls-cert cert.pem --tls-key key.pem
  curl localhost:8000/v2/models/digits

The server is ready (/v2/health/ready) when every model is loaded and warm. SIGHUP loads what has changed on disk; SIGTERM
and Ctrl-C let the requests that have been taken end, within 15 seconds. Metrics for Prometheus are at /metrics.`,
		Flags: slices.Concat(engineFlags(), listenFlags(), limitFlags(), accessFlags(), logFlags()),
		Action: func(c *cli.Context) error {
			opt, err := serveOptions(c)
			if err != nil {
				return err
			}
			overHTTP, err := listen(c, "http-port")
			if err != nil {
				return err
			}
			overGRPC, err := listen(c, "grpc-port")
			if err != nil {
				return err
			}
			if overHTTP == nil && overGRPC == nil {
				return usageError("both --http-port and --grpc-port are -1: nobody could ask")
			}
			traces, err := traceTo(c)
			if err != nil {
				return err
			}
			if traces != nil {
				defer endTraces(traces, opt.Log)
				opt.Traces = traces
			}
			return serveModels(c, opt, overHTTP, overGRPC)
		},
	}
}

func listenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Value: "127.0.0.1",
			Usage: "`ADDRESS` to listen on; 0.0.0.0 lets other machines ask"},
		&cli.IntFlag{Name: "http-port", Value: 8000, Usage: "0 takes a free one, -1 none"},
		&cli.IntFlag{Name: "grpc-port", Value: 8001, Usage: "0 takes a free one, -1 none"},
		&cli.DurationFlag{Name: "poll",
			Usage: "look for changed models this often, such as 10s (0: at SIGHUP only)"},
		&cli.BoolFlag{Name: "control", Usage: "let clients load and unload models"},
	}
}

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "max-batch", Value: 32,
			Usage: "images of one run, of a model without a config.pbtxt; 1: requests run one by one"},
		&cli.DurationFlag{Name: "max-delay", Value: time.Millisecond,
			Usage: "the longest wait for requests that are on their way"},
		&cli.IntFlag{Name: "instances", Value: 1,
			Usage: "runs of a model that go on at once, a thread each when there are several"},
		&cli.IntFlag{Name: "max-queue", Value: 512,
			Usage: "requests that may wait for a model; others get 429"},
		&cli.IntFlag{Name: "max-body", Value: 64, Usage: "megabytes of a request"},
		&cli.IntFlag{Name: "max-clients", Value: 4096, Usage: "connections at once"},
	}
}

func accessFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "tls-cert", Usage: "certificate `FILE` (PEM), with --tls-key"},
		&cli.StringFlag{Name: "tls-key", Usage: "private key `FILE` (PEM)"},
		&cli.StringFlag{Name: "token-file",
			Usage: "`FILE` of bearer tokens, one a line, of which a client must bring one"},
		&cli.StringSliceFlag{Name: "allow-origin",
			Usage: "let pages of this `ORIGIN` ask, such as https://example.com"},
		&cli.BoolFlag{Name: "no-page", Usage: "without the page at /"},
	}
}

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
		&cli.StringFlag{Name: "otlp",
			Usage: "send OpenTelemetry traces to this `URL`, such as http://127.0.0.1:4318/v1/traces (default: none)"},
	}
}

func serveOptions(c *cli.Context) (serve.Options, error) {
	var opt serve.Options
	if c.NArg() == 0 {
		return opt, usageError("cnnkit serve takes a folder or a MODEL: %s", c.Command.UsageText)
	}
	for _, name := range []string{"max-batch", "instances", "max-queue", "max-body", "max-clients"} {
		if c.Int(name) < 1 || c.Int(name) > 1<<20 {
			return opt, usageError("--%s must be from 1 to %d", name, 1<<20)
		}
	}
	if c.Duration("max-delay") < 0 || c.Duration("poll") < 0 {
		return opt, usageError("--max-delay and --poll must not be negative")
	}
	session, err := sessionOptions(c, c.String("engine"))
	if err != nil {
		return opt, err
	}
	opt = serve.Options{
		Models: c.Args().Slice(), Session: session,
		MaxBatch: c.Int("max-batch"), MaxDelay: c.Duration("max-delay"), Instances: c.Int("instances"),
		MaxQueue: c.Int("max-queue"),
		MaxBody:  int64(c.Int("max-body")) << 20, MaxClients: c.Int("max-clients"),
		Control: c.Bool("control"), Origins: c.StringSlice("allow-origin"), NoPage: c.Bool("no-page"),
	}
	if opt.Log, err = serveLog(c); err != nil {
		return opt, err
	}
	if opt.Tokens, err = tokens(c.String("token-file")); err != nil {
		return opt, err
	}
	opt.TLS, err = serveTLS(c)
	return opt, err
}

func serveLog(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usageError("--log-level is debug, info, warn or error, not %q", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	switch c.String("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, o)), nil
	}
	return nil, usageError("--log-format is text or json, not %q", c.String("log-format"))
}

// tokens reads a file of tokens; an empty one would lock everybody out, or nobody, so it is refused.
func tokens(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, badFile{err}
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if t := strings.TrimSpace(lines.Text()); t != "" && !strings.HasPrefix(t, "#") {
			out = append(out, t)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if len(out) == 0 {
		return nil, badFile{fmt.Errorf("%s has no token", path)}
	}
	return out, nil
}

func serveTLS(c *cli.Context) (*tls.Config, error) {
	cert, key := c.String("tls-cert"), c.String("tls-key")
	if cert == "" && key == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, usageError("--tls-cert and --tls-key go together")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, badFile{fmt.Errorf("%s, %s: %w", cert, key, err)}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"}}, nil
}

// listen opens a port; nil for -1.
func listen(c *cli.Context, flag string) (net.Listener, error) {
	port := c.Int(flag)
	switch {
	case port == -1:
		return nil, nil
	case port < 0 || port > 65535:
		return nil, usageError("--%s is a port from 0 to 65535, or -1 for none", flag)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(c.String("host"), strconv.Itoa(port)))
	if err != nil {
		return nil, hinted{err, fmt.Sprintf("choose another with --%s", flag)}
	}
	return l, nil
}

// serveModels serves until the context ends, and reloads meanwhile.
func serveModels(c *cli.Context, opt serve.Options, overHTTP, overGRPC net.Listener) error {
	hangup := make(chan os.Signal, 1) // from now on: a SIGHUP while models load must not end the program
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	s := serve.New(opt)
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, overHTTP, overGRPC) }()
	for name, l := range map[string]net.Listener{"http": overHTTP, "grpc": overGRPC} {
		if l == nil {
			continue
		}
		opt.Log.Info("listening", "protocol", name, "address", l.Addr().String())
		if host, ok := l.Addr().(*net.TCPAddr); ok && !host.IP.IsLoopback() && len(opt.Tokens) == 0 {
			opt.Log.Warn("other machines can ask without a token", "address", l.Addr().String())
		}
	}
	if err := s.Load(ctx); err != nil {
		stop()
		return errors.Join(serveError(ctx, err), <-served)
	}
	opt.Log.Info("ready")
	go reloads(ctx, hangup, c.Duration("poll"), func() {
		if err := s.Reload(ctx); err != nil {
			opt.Log.Error("reloading", "error", err)
		}
	})
	return <-served
}

// serveError is that of a model that does not load; an interruption while they load is none.
func serveError(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return openError("serve", err)
	}
	return nil
}

// reloads calls reload at every SIGHUP, and in intervals where there are any.
func reloads(ctx context.Context, hangup <-chan os.Signal, every time.Duration, reload func()) {
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		case <-tick:
		}
		reload()
	}
}
