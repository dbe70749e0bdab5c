package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
)

// maxSegments bounds the plans that a lane keeps.
const maxSegments = 48

// Lane is what one Run at a time needs: the memory of its values, and plans that live in it. Several lanes
// let several Runs of a program go on at once. The zero value is ready; it is not safe for concurrent use.
type Lane struct {
	// Pool runs the plans of the lane; nil is that of the program. It has as many threads.
	Pool     *parallel.Pool
	arena    []float32
	segments map[segmentKey]*kept
	clock    int64
	draws    uint64
	live     int64 // bytes of the values of the Run, and of those inside it
}

type segmentKey struct {
	program *Program
	key     string
}

type kept struct {
	*segment
	last int64
}

// Bytes is the memory that the lane holds.
func (l *Lane) Bytes() int64 { return int64(len(l.arena)) * 4 }

// Segments is the number of plans that the lane holds.
func (l *Lane) Segments() int { return len(l.segments) }

// room gives an arena of at least size floats, the same for all plans as long as they fit.
func (l *Lane) room(size int) []float32 {
	size = max(size, unit)
	if l.arena == nil || len(l.arena) < size {
		for _, e := range l.segments {
			if e.plan != nil {
				e.plan.detach()
			}
		}
		l.arena = nil // before the new one comes
		l.arena = kernels.AlignedSlice(size)
	}
	return l.arena
}

// first is the segment with which a program begins for inputs of the shapes that key encodes.
func (l *Lane) first(p *Program, key []byte) *segment {
	return l.touch(l.segments[segmentKey{p, string(key)}])
}

func (l *Lane) segment(k segmentKey) *segment { return l.touch(l.segments[k]) }

func (l *Lane) touch(e *kept) *segment {
	if e == nil {
		return nil
	}
	l.clock++
	e.last = l.clock
	return e.segment
}

// keep holds a segment, and forgets the one that was used longest ago when there are too many.
func (l *Lane) keep(k segmentKey, s *segment) {
	if l.segments == nil {
		l.segments = map[segmentKey]*kept{}
	}
	if len(l.segments) >= maxSegments {
		var oldest segmentKey
		first := l.clock + 1
		for key, e := range l.segments {
			if e.last < first {
				oldest, first = key, e.last
			}
		}
		delete(l.segments, oldest)
	}
	if s.plan != nil && l.Pool != nil {
		s.plan.pool = l.Pool
	}
	l.clock++
	l.segments[k] = &kept{s, l.clock}
}
