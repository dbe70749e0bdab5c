package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// model is one version of a model in service: a session, a queue before it, and the workers that carry
// jobs from one to the other.
type model struct {
	name    string
	version int64
	config  *oip.ModelConfig
	levels  uint64 // priorities; 0: none
	timeout time.Duration
	extend  bool // a request may ask for a longer timeout

	session runtime.Session
	meaning *spec.Spec // nil: the model takes no images
	foreign string     // why it takes none
	weights int64      // bytes
	queue   *queue
	stats   recorder
	metrics *metrics
	log     *slog.Logger

	workers sync.WaitGroup
	uses    sync.WaitGroup // requests that hold the model; added to under the repository's lock
}

func (m *model) id() string { return m.name + "/" + m.versionText() }

func (m *model) versionText() string { return strconv.FormatInt(m.version, 10) }

// start lets the workers run.
func (m *model) start(n int) {
	for range n {
		m.workers.Go(func() {
			for jobs := m.queue.take(); jobs != nil; jobs = m.queue.take() {
				m.work(jobs)
			}
		})
	}
}

// close waits for the requests that hold the model, and releases it.
func (m *model) close() {
	m.uses.Wait()
	m.queue.close()
	m.workers.Wait()
	if err := m.session.Close(); err != nil {
		m.log.Error("closing a model", "model", m.id(), "error", err)
	}
}

// inferAs runs a request: it waits for its turn and for the answer. It calls arrived when
// the request is in the queue.
func (m *model) inferAs(ctx context.Context, r *request, arrived func()) (map[string]*onnxio.Tensor, error) {
	if err := m.accepts(r); err != nil {
		return nil, err
	}
	j := &job{inputs: r.inputs, key: m.key(r.inputs), rows: m.rows(r.inputs), came: time.Now(),
		done: make(chan result, 1)}
	if most := m.queue.most; most > 0 && j.rows > most {
		return nil, invalid("a batch of %d: %s takes %d at most", j.rows, m.name, most)
	}
	if j.rows == 0 {
		j.key = "" // an empty batch says nothing of the others' shapes
	}
	var err error
	if j.priority, err = m.priority(r.priority); err != nil {
		return nil, err
	}
	j.ctx = ctx
	if t := m.allowed(r.timeout); t > 0 {
		var cancel context.CancelFunc
		j.ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	if err := m.queue.put(j); err != nil {
		m.stats.answered(false, 0, time.Since(j.came))
		return nil, err
	}
	arrived()
	var out result
	select {
	case out = <-j.done:
	case <-j.ctx.Done():
		out.err = j.ctx.Err()
		if errors.Is(out.err, context.DeadlineExceeded) {
			out.err = fail(http.StatusGatewayTimeout,
				"the request's time was over before its answer was there")
		}
	}
	m.record(j, out.err)
	return out.outputs, out.err
}

func (m *model) record(j *job, err error) {
	total := time.Since(j.came)
	if err != nil {
		m.stats.answered(false, 0, total)
		return
	}
	phases(j, time.Now())
	queued := j.began.Sub(j.came)
	m.stats.answered(true, queued, total)
	m.metrics.queued(m, queued)
}

// accepts checks a request's inputs and outputs.
func (m *model) accepts(r *request) error {
	if err := runtime.CheckInputs(m.session, r.inputs); err != nil {
		return &failure{http.StatusBadRequest, err}
	}
	for i, o := range r.outputs {
		if !slices.ContainsFunc(m.session.Outputs(), func(v *onnxio.ValueInfo) bool {
			return v.Name == o.name
		}) {
			return invalid("%s has no output %q", m.name, o.name)
		}
		if slices.ContainsFunc(r.outputs[:i], func(p wanted) bool { return p.name == o.name }) {
			return invalid("output %q is asked for twice", o.name)
		}
	}
	return nil
}

func (m *model) priority(asked uint64) (uint64, error) {
	switch {
	case m.levels == 0:
		return 1, nil
	case asked == 0:
		return max(m.config.GetDynamicBatching().GetDefaultPriorityLevel(), 1), nil
	case asked > m.levels:
		return 0, invalid("priority %d: %s has 1 to %d", asked, m.name, m.levels)
	}
	return asked, nil
}

// allowed is the time that a request has; 0: any.
func (m *model) allowed(asked time.Duration) time.Duration {
	if m.timeout > 0 && (asked == 0 || asked > m.timeout && !m.extend) {
		return m.timeout
	}
	return asked
}

// rows is the batch of a request; 1 of a model that has none.
func (m *model) rows(in map[string]*onnxio.Tensor) int64 {
	if m.queue.most == 0 {
		return 1
	}
	for _, v := range m.session.Inputs() {
		return in[v.Name].Dims[0]
	}
	return 1
}

// key names what must be equal for requests to share a run: types and shapes, but for the batch.
func (m *model) key(in map[string]*onnxio.Tensor) string {
	if m.queue.most == 0 || len(in) != len(m.session.Inputs()) {
		return ""
	}
	b := make([]byte, 0, 64)
	for _, v := range m.session.Inputs() {
		t := in[v.Name]
		b = strconv.AppendInt(append(b, '|'), int64(t.Type), 10)
		for _, d := range t.Dims[1:] {
			b = strconv.AppendInt(append(b, ','), d, 10)
		}
	}
	return string(b)
}

// work runs jobs together. Where that fails each runs alone, so that one client's data
// are no fault of another's.
func (m *model) work(jobs []*job) {
	now := time.Now()
	for _, j := range jobs {
		j.began = now
	}
	ctx, cancel := jointly(jobs)
	defer cancel()
	outputs, err := m.together(ctx, jobs)
	if err != nil && len(jobs) > 1 && ctx.Err() == nil {
		m.log.Warn("a batch failed, and its requests run one by one", "model", m.id(), "requests", len(jobs),
			"error", err)
		for _, j := range jobs {
			m.work([]*job{j})
		}
		return
	}
	for i, j := range jobs {
		if err != nil {
			j.done <- result{err: runError(err)}
		} else {
			j.done <- result{outputs: outputs[i]}
		}
	}
}

// runError has the status of an error of a run: inputs of sound types and shapes that the model cannot
// compute with are the client's.
func runError(err error) error {
	if statusOf(err) != http.StatusInternalServerError || isFault(err) {
		return err
	}
	return invalid("the model cannot run on these inputs: %w", err)
}

// jointly is a context that ends when those of all jobs have.
func jointly(jobs []*job) (context.Context, context.CancelFunc) {
	if len(jobs) == 1 {
		return context.WithCancel(jobs[0].ctx)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(jobs[0].ctx))
	var left atomic.Int64
	left.Store(int64(len(jobs)))
	var stops []func() bool
	for _, j := range jobs {
		stops = append(stops, context.AfterFunc(j.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// together runs jobs of one key as one batch.
func (m *model) together(ctx context.Context, jobs []*job) ([]map[string]*onnxio.Tensor, error) {
	e := execution{requests: len(jobs)}
	start := time.Now()
	in := jobs[0].inputs
	for _, j := range jobs {
		e.rows += j.rows
	}
	if len(jobs) > 1 {
		in = joined(jobs)
	}
	e.input = time.Since(start)
	start = time.Now()
	out, err := m.session.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	e.infer = time.Since(start)
	start = time.Now()
	all := []map[string]*onnxio.Tensor{out}
	if len(jobs) > 1 {
		if all, err = parted(out, jobs, e.rows); err != nil {
			return nil, err
		}
	}
	e.output = time.Since(start)
	m.stats.ran(e)
	m.metrics.ran(m, e)
	return all, nil
}

// joined has the inputs of all jobs, one behind the other.
func joined(jobs []*job) map[string]*onnxio.Tensor {
	in := make(map[string]*onnxio.Tensor, len(jobs[0].inputs))
	for name, first := range jobs[0].inputs {
		t := &onnxio.Tensor{Name: name, Type: first.Type, Dims: slices.Clone(first.Dims)}
		t.Dims[0] = 0
		size := 0
		for _, j := range jobs {
			t.Dims[0] += j.inputs[name].Dims[0]
			size += len(j.inputs[name].Raw)
		}
		if t.Type != onnxio.String {
			t.Raw = make([]byte, 0, size)
		}
		for _, j := range jobs {
			t.Raw = append(t.Raw, j.inputs[name].Raw...)
			t.Strings = append(t.Strings, j.inputs[name].Strings...)
		}
		in[name] = t
	}
	return in
}

// parted gives each job its rows of the outputs, in the same memory.
func parted(out map[string]*onnxio.Tensor, jobs []*job, rows int64) ([]map[string]*onnxio.Tensor, error) {
	all := make([]map[string]*onnxio.Tensor, len(jobs))
	for i := range all {
		all[i] = make(map[string]*onnxio.Tensor, len(out))
	}
	for name, t := range out {
		if len(t.Dims) == 0 || t.Dims[0] != rows {
			return nil, fmt.Errorf("output %q is %v for a batch of %d", name, t.Dims, rows)
		}
		at := int64(0)
		for i, j := range jobs {
			all[i][name] = part(t, at, j.rows)
			at += j.rows
		}
	}
	return all, nil
}

func part(t *onnxio.Tensor, from, n int64) *onnxio.Tensor {
	p := &onnxio.Tensor{Name: t.Name, Type: t.Type, Dims: slices.Clone(t.Dims)}
	p.Dims[0] = n
	if t.Type == onnxio.String {
		per := int64(len(t.Strings)) / t.Dims[0]
		p.Strings = t.Strings[from*per : (from+n)*per]
		return p
	}
	per := int64(len(t.Raw)) / t.Dims[0]
	p.Raw = t.Raw[from*per : (from+n)*per]
	return p
}
