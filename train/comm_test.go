package train

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// hub connects goroutines as ranks, with an optional delay as that of a link: one for each rank, used in both
// directions at once.
type hub struct {
	size    int
	latency time.Duration
	perByte time.Duration // times 1000
	links   []sync.Mutex

	mu       sync.Mutex
	meetings []*meeting
	lost     int // a rank that has left, from 1; 0: none

	waits   []time.Time // when each rank began to wait for its gradients; zero: it computes
	waited  time.Duration
	exposed time.Duration // of waited, while the rank waited
}

// goComm is a rank of a hub.
type goComm struct {
	hub      *hub
	rank, at int  // at: the meeting
	dups     *int // of this rank
}

// meeting is where the ranks' calls of one Comm meet.
type meeting struct {
	cond  *sync.Cond
	round int
	parts [][]float32
	come  int
}

var _ Comm = goComm{}

// newHub makes the Comms of as many ranks.
func newHub(size int) (*hub, []Comm) {
	h := &hub{size: size, links: make([]sync.Mutex, size), waits: make([]time.Time, size)}
	comms := make([]Comm, size)
	for rank := range comms {
		comms[rank] = goComm{h, rank, 0, new(int)}
	}
	return h, comms
}

// slow gives the hub's links a latency and a bandwidth in bytes a second.
func (h *hub) slow(latency time.Duration, bandwidth float64) {
	h.latency, h.perByte = latency, time.Duration(1e12/bandwidth)
}

// leave lets a rank die.
func (h *hub) leave(rank int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = rank + 1
	for _, m := range h.meetings {
		m.cond.Broadcast()
	}
}

func (h *hub) meeting(at int) *meeting {
	for len(h.meetings) <= at {
		h.meetings = append(h.meetings, &meeting{cond: sync.NewCond(&h.mu), parts: make([][]float32, h.size)})
	}
	return h.meetings[at]
}

// meet waits for all ranks' vectors, and puts what combine makes of them into each.
func (c goComm) meet(x []float32, bytes float64, combine func(parts [][]float32) []float32) error {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost > 0 {
		return &LostError{Rank: h.lost - 1, Err: errors.New("it has left")}
	}
	m := h.meeting(c.at)
	m.parts[c.rank] = x
	round := m.round
	if m.come++; m.come == h.size {
		out := combine(m.parts)
		for _, p := range m.parts {
			if len(p) != len(out) {
				panic("ranks call with vectors of different lengths")
			}
			copy(p, out)
		}
		m.come, m.round = 0, m.round+1
		m.cond.Broadcast()
	}
	for m.round == round {
		if h.lost > 0 {
			return &LostError{Rank: h.lost - 1, Err: errors.New("it has left")}
		}
		m.cond.Wait()
	}
	h.mu.Unlock()
	c.delay(bytes)
	h.mu.Lock()
	return nil
}

// delay takes as long as the link does.
func (c goComm) delay(bytes float64) {
	h := c.hub
	if h.perByte == 0 {
		return
	}
	h.links[c.rank].Lock()
	defer h.links[c.rank].Unlock()
	start := time.Now()
	time.Sleep(h.latency + time.Duration(bytes*float64(h.perByte)/1000))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waited += time.Since(start)
	if waits := h.waits[c.rank]; !waits.IsZero() {
		h.exposed += min(time.Since(start), time.Since(waits))
	}
}

// begin and end say that a rank waits for its gradients, and that it computes.
func (h *hub) begin(rank int) { h.waiting(rank, time.Now()) }
func (h *hub) end(rank int)   { h.waiting(rank, time.Time{}) }

func (h *hub) waiting(rank int, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits[rank] = since
}

// forget begins to measure anew; hidden is the share of delays in which ranks computed.
func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waited, h.exposed = 0, 0
}

func (h *hub) hidden() float64 { return 1 - float64(h.exposed)/float64(h.waited) }

func (c goComm) Rank() int { return c.rank }
func (c goComm) Size() int { return c.hub.size }

// AllReduce sends as reduce-scatter and allgather do: twice (N-1)/N of the vector.
func (c goComm) AllReduce(_ context.Context, x []float32) error {
	n := float64(c.hub.size)
	return c.meet(x, 8*float64(len(x))*(n-1)/n, func(parts [][]float32) []float32 {
		sum := make([]float32, len(x))
		copy(sum, parts[0])
		for _, p := range parts[1:] {
			for i, v := range p {
				sum[i] += v
			}
		}
		return sum
	})
}

func (c goComm) Broadcast(_ context.Context, x []float32) error {
	return c.meet(x, 4*float64(len(x)), func(parts [][]float32) []float32 {
		return append([]float32{}, parts[0]...)
	})
}

func (c goComm) Barrier(context.Context) error {
	return c.meet(nil, 0, func([][]float32) []float32 { return nil })
}

func (c goComm) Dup() (Comm, error) {
	*c.dups++
	return goComm{c.hub, c.rank, *c.dups, c.dups}, nil
}

func (c goComm) Close() error { return nil }

// eachRank calls f on every rank at the same time and gives the errors.
func eachRank(comms []Comm, f func(c Comm) error) []error {
	errs := make([]error, len(comms))
	var all sync.WaitGroup
	for i, c := range comms {
		all.Go(func() { errs[i] = f(c) })
	}
	all.Wait()
	return errs
}

// float64s travel in three float32 without loss.
func TestLimbs(t *testing.T) {
	var x [limbs]float32
	for _, v := range []float64{0, 1, -1.0 / 3, 1<<53 - 1, 0x1.123456789abcdp-40, -6.02214076e23} {
		if limbsOf(x[:], v); joined(x[:]) != v {
			t.Errorf("%v comes back as %v", v, joined(x[:]))
		}
	}
}
