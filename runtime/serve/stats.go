package serve

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// duration is a number of events and the time that they took together.
type duration struct {
	Count uint64 `json:"count"`
	NS    uint64 `json:"ns"`
}

func (d *duration) add(n uint64, t time.Duration) {
	d.Count += n
	d.NS += n * uint64(max(t, 0))
}

// statistics are Triton's of a version of a model, since it was loaded.
type statistics struct {
	Name           string           `json:"name"`
	Version        string           `json:"version"`
	LastInference  uint64           `json:"last_inference"` // milliseconds since 1970
	InferenceCount uint64           `json:"inference_count"`
	ExecutionCount uint64           `json:"execution_count"`
	InferenceStats inferenceStats   `json:"inference_stats"`
	BatchStats     []batchStatistic `json:"batch_stats"`
}

type inferenceStats struct {
	Success       duration `json:"success"`
	Fail          duration `json:"fail"`
	Queue         duration `json:"queue"`
	ComputeInput  duration `json:"compute_input"`
	ComputeInfer  duration `json:"compute_infer"`
	ComputeOutput duration `json:"compute_output"`
}

type batchStatistic struct {
	BatchSize     uint64   `json:"batch_size"`
	ComputeInput  duration `json:"compute_input"`
	ComputeInfer  duration `json:"compute_infer"`
	ComputeOutput duration `json:"compute_output"`
}

// recorder counts. It is safe for concurrent use.
type recorder struct {
	mu    sync.Mutex
	total statistics
	sizes map[uint64]*batchStatistic
}

// execution is one run of the engine: of so many requests with so many rows together.
type execution struct {
	requests             int
	rows                 int64
	input, infer, output time.Duration
}

func (r *recorder) ran(e execution) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := uint64(max(e.rows, 1))
	r.total.ExecutionCount++
	r.total.InferenceCount += size
	r.total.LastInference = uint64(time.Now().UnixMilli())
	s, n := &r.total.InferenceStats, uint64(e.requests)
	s.ComputeInput.add(n, e.input)
	s.ComputeInfer.add(n, e.infer)
	s.ComputeOutput.add(n, e.output)
	if r.sizes == nil {
		r.sizes = map[uint64]*batchStatistic{}
	}
	b := r.sizes[size]
	if b == nil {
		if len(r.sizes) >= maxBatchStats {
			return
		}
		b = &batchStatistic{BatchSize: size}
		r.sizes[size] = b
	}
	b.ComputeInput.add(1, e.input)
	b.ComputeInfer.add(1, e.infer)
	b.ComputeOutput.add(1, e.output)
}

// maxBatchStats bounds the batch sizes that are told apart.
const maxBatchStats = 1024

// answered counts a request that waited and was answered, or failed, so long after it came.
func (r *recorder) answered(ok bool, queued, total time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.total.InferenceStats
	if !ok {
		s.Fail.add(1, total)
		return
	}
	s.Success.add(1, total)
	s.Queue.add(1, queued)
}

func (r *recorder) snapshot(name, version string) statistics {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.total
	out.Name, out.Version = name, version
	out.BatchStats = make([]batchStatistic, 0, len(r.sizes))
	for _, b := range r.sizes {
		out.BatchStats = append(out.BatchStats, *b)
	}
	slices.SortFunc(out.BatchStats, func(a, b batchStatistic) int {
		return cmp.Compare(a.BatchSize, b.BatchSize)
	})
	return out
}
