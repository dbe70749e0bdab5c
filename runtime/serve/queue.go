package serve

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// job is a request on its way through a model.
type job struct {
	ctx      context.Context
	inputs   map[string]*onnxio.Tensor
	key      string // jobs of the same key can share a run; "": none can
	rows     int64
	priority uint64 // 1 goes first
	came     time.Time
	began    time.Time // when it left the queue
	done     chan result
}

type result struct {
	outputs map[string]*onnxio.Tensor
	err     error
}

// queue holds the jobs of a model: by priority, then in their order. A worker takes as
// many as fit into one run.
//
// A worker that is free never waits for jobs that may come: it waits only, and no longer than delay, while
// requests whose bodies are being read are known to be on their way. So a single client is answered at
// once, and many share runs.
type queue struct {
	limit int           // jobs that may wait
	most  int64         // rows of a request and of a run; 0: there are no rows
	share bool          // jobs may share runs
	sizes []int64       // rows that a run of several jobs may have, ascending
	delay time.Duration // the longest wait for others

	mu      sync.Mutex
	changed sync.Cond
	jobs    []*job
	coming  int
	closed  bool
}

func newQueue(limit int, most int64, sizes []int64, delay time.Duration) *queue {
	q := &queue{limit: limit, most: most, sizes: sizes, delay: delay}
	q.changed.L = &q.mu
	return q
}

// expect says that a request is on its way; the function that it gives says that it has come, or never will.
func (q *queue) expect() (arrived func()) {
	q.mu.Lock()
	q.coming++
	q.mu.Unlock()
	return sync.OnceFunc(func() {
		q.mu.Lock()
		q.coming--
		q.mu.Unlock()
		q.changed.Broadcast()
	})
}

// put queues a job, or refuses it at once.
func (q *queue) put(j *job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) >= q.limit {
		q.forget()
	}
	switch {
	case q.closed:
		return fail(http.StatusServiceUnavailable, "the model is being unloaded")
	case len(q.jobs) >= q.limit:
		return fail(http.StatusTooManyRequests,
			"%d requests are waiting for the model, its limit: try again later", q.limit)
	}
	at, _ := slices.BinarySearchFunc(q.jobs, j.priority, func(o *job, p uint64) int {
		if o.priority <= p {
			return -1
		}
		return 1
	})
	q.jobs = slices.Insert(q.jobs, at, j)
	q.changed.Signal()
	return nil
}

// waiting is the number of jobs in the queue.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// close lets the workers end once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.changed.Broadcast()
}

// take waits for the jobs of the next run; nil when the queue is closed and empty.
func (q *queue) take() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		q.forget()
		if len(q.jobs) == 0 {
			if q.closed {
				return nil
			}
			q.changed.Wait()
			continue
		}
		group, full := q.group()
		left := q.delay - time.Since(q.jobs[0].came)
		if full || q.coming == 0 || left <= 0 || q.closed {
			return q.remove(group)
		}
		timer := time.AfterFunc(left, q.changed.Broadcast)
		q.changed.Wait()
		timer.Stop()
	}
}

// forget drops the jobs whose time is over or whose client has gone: those have been answered.
func (q *queue) forget() {
	q.jobs = slices.DeleteFunc(q.jobs, func(j *job) bool { return j.ctx.Err() != nil })
}

// group are the places of the jobs that can run with the first; full says that no other would fit.
func (q *queue) group() (places []int, full bool) {
	first := q.jobs[0]
	places = []int{0}
	if first.key == "" || !q.share {
		return places, true
	}
	rows, best, count := first.rows, first.rows, 1
	for i := 1; i < len(q.jobs) && rows < q.most; i++ {
		j := q.jobs[i]
		if j.key != first.key || rows+j.rows > q.most {
			continue
		}
		rows += j.rows
		places = append(places, i)
		if slices.Contains(q.sizes, rows) {
			best, count = rows, len(places)
		}
	}
	if count == 1 { // requests of odd numbers of rows: a run of any size is better than one each
		return places, rows == q.most
	}
	return places[:count], best == q.most
}

func (q *queue) remove(places []int) []*job {
	out := make([]*job, len(places))
	for k, i := range places {
		out[k] = q.jobs[i]
		q.jobs[i] = nil
	}
	q.jobs = slices.DeleteFunc(q.jobs, func(j *job) bool { return j == nil })
	if len(q.jobs) > 0 {
		q.changed.Signal() // another worker may go on
	}
	return out
}

// runSizes are the rows of runs of several jobs: few enough for a plan of each to be kept,
// near enough to lose little.
func runSizes(most int64) []int64 {
	var out []int64
	for n := int64(1); n < most; n *= 2 {
		out = append(out, n)
		if n > 1 && n+n/2 < most {
			out = append(out, n+n/2)
		}
	}
	if most > 0 {
		out = append(out, most)
	}
	return out
}
