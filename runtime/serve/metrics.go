package serve

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the server's, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	wait     *prometheus.HistogramVec
	run      *prometheus.HistogramVec
	batch    *prometheus.HistogramVec
	versions *prometheus.GaugeVec
}

func newMetrics() *metrics {
	model := []string{"model", "version"}
	times := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cnnkit_requests_total",
			Help: "Requests that were answered, by protocol and HTTP status."},
			[]string{"model", "protocol", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cnnkit_request_seconds",
			Help: "Time from a request's header to its answer.", Buckets: times},
			[]string{"model", "protocol"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cnnkit_queue_seconds",
			Help: "Time that requests waited for their turn.", Buckets: times}, model),
		run: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cnnkit_run_seconds",
			Help: "Time of the engine's runs.", Buckets: times}, model),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cnnkit_batch_rows",
			Help: "Rows of the engine's runs.", Buckets: prometheus.ExponentialBuckets(1, 2, 9)}, model),
		versions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cnnkit_model_versions",
			Help: "Versions of a model in service."}, []string{"model"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.wait, m.run, m.batch, m.versions,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauges are read when they are asked for.
type gauges struct {
	s       *Server
	waiting *prometheus.Desc
	weights *prometheus.Desc
	memory  *prometheus.Desc
	ready   *prometheus.Desc
}

func newGauges(s *Server) *gauges {
	model := []string{"model", "version"}
	return &gauges{s,
		prometheus.NewDesc("cnnkit_queue_jobs", "Requests that wait for their turn.", model, nil),
		prometheus.NewDesc("cnnkit_model_weight_bytes", "Bytes of a model's weights.", model, nil),
		prometheus.NewDesc("cnnkit_body_bytes", "Bytes of the request bodies in memory.", nil, nil),
		prometheus.NewDesc("cnnkit_ready", "Whether the server is ready.", nil, nil)}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.waiting, g.weights, g.memory, g.ready} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, m := range g.s.models.models() {
		gauge(g.waiting, float64(m.queue.waiting()), m.name, m.versionText())
		gauge(g.weights, float64(m.weights), m.name, m.versionText())
	}
	gauge(g.memory, float64(g.s.memory.used.Load()))
	ready := 0.0
	if g.s.ready() {
		ready = 1
	}
	gauge(g.ready, ready)
}

// request counts an answer. The model is one that is there, so that clients cannot make up labels.
func (m *metrics) request(model, protocol string, status int, took time.Duration) {
	m.requests.WithLabelValues(model, protocol, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(model, protocol).Observe(took.Seconds())
}

func (m *metrics) queued(of *model, t time.Duration) {
	m.wait.WithLabelValues(of.name, of.versionText()).Observe(t.Seconds())
}

func (m *metrics) ran(of *model, e execution) {
	m.run.WithLabelValues(of.name, of.versionText()).Observe(e.infer.Seconds())
	m.batch.WithLabelValues(of.name, of.versionText()).Observe(float64(e.rows))
}

func (m *metrics) loaded(model string, versions int) {
	m.versions.WithLabelValues(model).Set(float64(versions))
}
