package native

import (
	"sync"

	"github.com/cnnkit/cnnkit/internal/engine"
)

const (
	// maxIdle bounds the plans that wait for their next Run, of all shapes together.
	maxIdle = 16
	// maxIdleBytes bounds the memory of their arenas. The plan used last is kept whatever its size.
	maxIdleBytes = 1 << 30
)

// cache keeps plans between Runs. A plan serves one Run at a time, since it holds the arena of its intermediate values.
// The zero value is ready; it is safe for concurrent use.
type cache struct {
	mu    sync.Mutex
	idle  []idlePlan // by last use, oldest first
	bytes int64
}

type idlePlan struct {
	shapes string
	plan   *engine.Plan
	bytes  int64
}

// take removes and gives the plan for these shapes that was used last; nil when there is none.
func (c *cache) take(shapes []byte) *engine.Plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.idle) - 1; i >= 0; i-- {
		if e := c.idle[i]; e.shapes == string(shapes) {
			copy(c.idle[i:], c.idle[i+1:])
			c.drop(len(c.idle) - 1)
			c.bytes -= e.bytes
			return e.plan
		}
	}
	return nil
}

// put keeps a plan with an arena of so many bytes, and forgets those that were used longest ago when there are too many or they are too large.
func (c *cache) put(shapes string, p *engine.Plan, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := idlePlan{shapes, p, bytes}
	c.idle, c.bytes = append(c.idle, e), c.bytes+e.bytes
	old := 0
	for len(c.idle)-old > 1 && (len(c.idle)-old > maxIdle || c.bytes > maxIdleBytes) {
		c.bytes -= c.idle[old].bytes
		old++
	}
	if old > 0 {
		c.drop(copy(c.idle, c.idle[old:]))
	}
}

// drop forgets what lies behind the first n, the pointers too.
func (c *cache) drop(n int) {
	clear(c.idle[n:])
	c.idle = c.idle[:n]
}
