package train

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// ranks are a Trainer's connections to the other processes of a data-parallel run. Gradients have
// one of their own, since they are added up while the backward pass goes on, whose
// BatchNormalizations may exchange statistics.
type ranks struct {
	comm, grads Comm
	ctx         context.Context // of the step
	portion     portion         // of the step

	queue  chan []float32 // of gradients on their way
	posted sync.WaitGroup
	err    error // of gradients; read after posted
}

var _ engine.Exchange = (*ranks)(nil)

// portion is what a process has of a joint batch: so many images of its total, from the first on.
type portion struct{ first, images, total int }

// whole is the part of a process that is alone.
func whole(images int) portion { return portion{0, images, images} }

// share is the portion's weight in sums over the joint batch.
func (p portion) share() float64 { return float64(p.images) / float64(p.total) }

// newRanks connects a Trainer; nil where there is one process.
func newRanks(c Comm) (*ranks, error) {
	if c == nil || c.Size() < 2 {
		return nil, nil
	}
	r := &ranks{comm: c, ctx: context.Background(), queue: make(chan []float32, 64)}
	var err error
	if r.grads, err = c.Dup(); err != nil {
		return nil, err
	}
	go func() {
		for x := range r.queue {
			if r.err == nil {
				r.err = r.grads.AllReduce(r.ctx, x)
			}
			r.posted.Done()
		}
	}()
	return r, nil
}

// threads is how many threads a process takes where it is not told: an equal share of the processors that it
// may use with other ranks of its machine, which launchers bind ranks to or do not.
func (r *ranks) threads(ctx context.Context) (int, error) {
	host, _ := os.Hostname()
	status, _ := os.ReadFile("/proc/self/status")
	allowed := ""
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cpus_allowed_list:") {
			allowed = line
		}
	}
	hash := hashOf(host, allowed)
	mine := []float64{float64(hash >> 32), float64(hash & math.MaxUint32)}
	rows, err := r.gather(ctx, mine...)
	if err != nil {
		return 0, err
	}
	sharing := 0
	for _, row := range rows {
		if slices.Equal(row, mine) {
			sharing++
		}
	}
	pool := parallel.New(0)
	defer pool.Close()
	return max(1, pool.Threads()/sharing), nil
}

// close ends the goroutine that adds up gradients.
func (r *ranks) close() {
	if r != nil {
		close(r.queue)
	}
}

// rank is 0 where there is one process.
func (r *ranks) rank() int {
	if r == nil {
		return 0
	}
	return r.comm.Rank()
}

func (r *ranks) size() int {
	if r == nil {
		return 1
	}
	return r.comm.Size()
}

// begin readies the exchange for a step.
func (r *ranks) begin(ctx context.Context, p portion) { r.ctx, r.portion, r.err = ctx, p, nil }

// Part implements engine.Exchange.
func (r *ranks) Part() (first, images, total int) {
	return r.portion.first, r.portion.images, r.portion.total
}

// Post implements engine.Exchange.
func (r *ranks) Post(x []float32) {
	r.posted.Add(1)
	r.queue <- x
}

// Wait implements engine.Exchange.
func (r *ranks) Wait() error {
	r.posted.Wait()
	return r.err
}

// Sum implements engine.Exchange.
func (r *ranks) Sum(x []float32) error { return r.comm.AllReduce(r.ctx, x) }

// Same implements engine.Exchange.
func (r *ranks) Same(hash uint64) (bool, error) {
	mine := []float64{float64(hash >> 32), float64(hash & math.MaxUint32)}
	rows, err := r.gather(r.ctx, mine...)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if !slices.Equal(row, rows[0]) {
			return false, nil
		}
	}
	return true, nil
}

// limbs is the number of float32 that hold a float64: 24 bits each.
const limbs = 3

// limbsOf writes v into limbs whose sum it is.
func limbsOf(to []float32, v float64) {
	to[0] = float32(v)
	to[1], to[2] = 0, 0
	if rest := v - float64(to[0]); finite(rest) {
		to[1] = float32(rest)
		to[2] = float32(rest - float64(to[1]))
	}
}

func joined(limbs []float32) float64 {
	return float64(limbs[0]) + float64(limbs[1]) + float64(limbs[2])
}

// gather gives every rank all ranks' numbers, exactly: of rank i row i.
func (r *ranks) gather(ctx context.Context, mine ...float64) ([][]float64, error) {
	n := len(mine)
	x := make([]float32, r.size()*n*limbs)
	for i, v := range mine {
		limbsOf(x[(r.rank()*n+i)*limbs:], v)
	}
	if err := r.comm.AllReduce(ctx, x); err != nil {
		return nil, err
	}
	rows := make([][]float64, r.size())
	for rank := range rows {
		for i := range n {
			rows[rank] = append(rows[rank], joined(x[(rank*n+i)*limbs:]))
		}
	}
	return rows, nil
}

// broadcast replaces the numbers by rank 0's.
func (r *ranks) broadcast(ctx context.Context, numbers []float64) error {
	x := make([]float32, len(numbers)*limbs)
	for i, v := range numbers {
		limbsOf(x[i*limbs:], v)
	}
	if err := r.comm.Broadcast(ctx, x); err != nil {
		return err
	}
	for i := range numbers {
		numbers[i] = joined(x[i*limbs:])
	}
	return nil
}

// same fails on every rank where some rank's hash is not rank 0's.
func (r *ranks) same(ctx context.Context, what string, hash uint64) error {
	rows, err := r.gather(ctx, float64(hash>>32), float64(hash&math.MaxUint32))
	if err != nil {
		return err
	}
	for rank, row := range rows {
		if row[0] != rows[0][0] || row[1] != rows[0][1] {
			return fmt.Errorf("rank %d does not have rank 0's %s", rank, what)
		}
	}
	return nil
}

// hashOf is a hash of words.
func hashOf(words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(w)))
		h.Write([]byte(w))
	}
	return h.Sum64()
}

// level is what the bits of a step depend on beside its numbers: the instructions that compute it.
func level() uint64 { return hashOf(kernels.Level()) }

// weightsHash is a hash of the trained weights.
func weightsHash(m *onnxio.Model, names []string) uint64 {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = string(m.Graph.Initializer(name).Raw)
	}
	return hashOf(words...)
}

// connect gives the ranks rank 0's weights and running statistics.
func (t *Trainer) connect() error {
	if t.ranks == nil {
		return nil
	}
	m := withOwnInitializers(t.graph)
	if err := t.trainer.Export(m); err != nil {
		return err
	}
	for _, name := range append(t.trainer.Running(), t.trainer.Params()...) {
		if err := t.ranks.comm.Broadcast(t.ranks.ctx, m.Graph.Initializer(name).Float32s()); err != nil {
			return err
		}
	}
	return t.trainer.Import(m)
}

// alike compares what a run is made of on all ranks.
func (r *run) alike(ctx context.Context) error {
	if r.ranks == nil {
		return nil
	}
	recipe := r.recipe
	recipe.Threads, recipe.Workers = 0, 0
	raw, err := json.Marshal(recipe)
	if err != nil {
		return err
	}
	digest, err := r.digest()
	if err != nil {
		return fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	position := fmt.Sprint(r.at, r.done, r.trainer.Steps(), r.updates())
	for _, c := range []struct {
		what string
		hash uint64
	}{
		{"recipe", hashOf(string(raw))},
		{"data set", hashOf(fmt.Sprint(r.splits.Train.Len()), digest)},
		{"checkpoint", hashOf(position)},
	} {
		if err := r.ranks.same(ctx, c.what, c.hash); err != nil {
			return fmt.Errorf("%w: all ranks are started by the same command and see the same files", err)
		}
	}
	if r.cfg.Deterministic {
		if err := r.ranks.same(ctx, "kernel level", level()); err != nil {
			return fmt.Errorf("%w, and deterministic wants the same instructions everywhere: "+
				"set CNNKIT_CPU on all ranks, or leave deterministic out", err)
		}
	}
	return nil
}

// firstCheckpoint writes one before the first step of several ranks, since a rank may be lost before
// the first epoch is finished.
func (r *run) firstCheckpoint() error {
	if r.ranks == nil || r.resumed {
		return nil
	}
	return r.checkpoint()
}

// halted says that the run has been interrupted: with several ranks once all of them
// know, after the same step.
func (r *run) halted(ctx context.Context) bool {
	if r.ranks != nil {
		return r.stopping
	}
	return ctx.Err() != nil
}

// lost says in the error of a lost rank where the run goes on.
func (r *run) lost(err error) error {
	if !errors.As(err, new(*LostError)) || r.dir == "" {
		return err
	}
	path := filepath.Join(r.dir, CheckpointFile)
	return fmt.Errorf("%w; the checkpoint of epoch %d, step %d is in %s", err, r.kept.Epoch,
		r.kept.Step, path)
}

// What rank 0 tells of its validation.
const (
	validated = iota
	failed
	interrupted
)

// jointMeasure validates on rank 0, and tells the others what came out.
func (r *run) jointMeasure(ctx context.Context) (Score, error) {
	if r.ranks == nil {
		return r.measure(ctx)
	}
	var v Score
	var err error
	names := r.measured()
	numbers := make([]float64, 3, 3+len(names)) // outcome, loss, accuracy, metrics
	if r.rank() == 0 {
		v, err = r.measure(ctx)
		numbers[1], numbers[2] = v.Loss, v.Accuracy
		switch {
		case ctx.Err() != nil:
			numbers[0] = interrupted
		case err != nil:
			numbers[0] = failed
		}
	}
	for _, name := range names {
		x, ok := v.Metrics[name]
		if !ok {
			x = math.NaN()
		}
		numbers = append(numbers, x)
	}
	if lost := r.ranks.broadcast(ctx, numbers); lost != nil {
		return v, cmp.Or(err, lost)
	}
	switch {
	case err != nil:
		return v, err
	case numbers[0] == interrupted:
		return v, cmp.Or(context.Cause(ctx), context.Canceled)
	case numbers[0] == failed:
		return v, errors.New("rank 0 could not validate")
	}
	v.Loss, v.Accuracy = numbers[1], numbers[2]
	for i, name := range names {
		if x := numbers[3+i]; !math.IsNaN(x) {
			if v.Metrics == nil {
				v.Metrics = map[string]float64{}
			}
			v.Metrics[name] = x
		}
	}
	return v, nil
}

// meet ends an epoch on all ranks: they hear whether rank 0's observer has ended the run, and with
// Deterministic their weights are the same.
func (r *run) meet(ctx context.Context) error {
	if r.ranks == nil {
		return nil
	}
	numbers := []float64{flag(r.ending)}
	if err := r.ranks.broadcast(ctx, numbers); err != nil {
		return err
	}
	r.ended = r.ended || numbers[0] != 0
	if !r.cfg.Deterministic {
		return nil
	}
	return r.ranks.same(ctx, "weights", weightsHash(r.kept.model, r.trainer.Params()))
}
