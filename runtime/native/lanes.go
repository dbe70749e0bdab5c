package native

import (
	"sync"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
)

// maxIdleBytes bounds the memory of lanes that wait for a Run. The one used last is kept whatever its size.
const maxIdleBytes = 1 << 30

// lanes keeps lanes between Runs. The zero value is ready; it is safe for concurrent use.
type lanes struct {
	mu    sync.Mutex
	idle  []*engine.Lane // by last use, oldest first
	apart bool           // each has a thread of its own
}

// take gives the lane that was used last, so that one caller has one lane and its warm memory; a
// new one where all are taken.
func (l *lanes) take() *engine.Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.idle)
	if n == 0 {
		return l.fresh()
	}
	last := l.idle[n-1]
	l.idle[n-1] = nil
	l.idle = l.idle[:n-1]
	return last
}

func (l *lanes) fresh() *engine.Lane {
	lane := new(engine.Lane)
	if l.apart {
		lane.Pool = parallel.New(1)
	}
	return lane
}

// put gives a lane back, and forgets those used longest ago when they are too large together.
func (l *lanes) put(lane *engine.Lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, lane)
	bytes := int64(0)
	for i := len(l.idle) - 1; i >= 0; i-- {
		if bytes += l.idle[i].Bytes(); bytes > maxIdleBytes && i < len(l.idle)-1 {
			kept := copy(l.idle, l.idle[i+1:])
			clear(l.idle[kept:])
			l.idle = l.idle[:kept]
			return
		}
	}
}
