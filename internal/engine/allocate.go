package engine

import (
	"cmp"
	"slices"
)

// lifetimes sets from which to which step every buffer is in use. Graph inputs are written before the first
// step, values in kept are read after the last.
func lifetimes(steps []*step, inputs, kept []*value) {
	for i, s := range steps {
		for _, b := range s.bufs {
			if b.persistent {
				continue // shared with other plans
			}
			if b.first < 0 {
				b.first = i
			}
			b.last = i
		}
	}
	for _, v := range inputs {
		if v.buf != nil {
			v.buf.first, v.buf.last = 0, max(v.buf.last, 0)
		}
	}
	for _, v := range kept {
		if !v.buf.persistent {
			v.buf.first, v.buf.last = max(v.buf.first, 0), len(steps)
		}
	}
}

// allocate gives every buffer that is not persistent its place in one arena and returns the arena's size in
// floats: largest first, each at the lowest offset where no buffer alive at the same time lies.
func allocate(buffers []*buffer) (offsets map[*buffer]int, size int) {
	var todo []*buffer
	for _, b := range buffers {
		if !b.persistent && b.first >= 0 {
			todo = append(todo, b)
		}
	}
	slices.SortStableFunc(todo, func(a, b *buffer) int {
		return cmp.Or(cmp.Compare(b.floats, a.floats), cmp.Compare(a.first, b.first))
	})
	offsets = map[*buffer]int{}
	var placed []*buffer // by offset
	for _, b := range todo {
		at := 0
		for _, p := range placed {
			if p.last < b.first || b.last < p.first {
				continue
			}
			if offsets[p] >= at+b.floats {
				break
			}
			at = max(at, offsets[p]+p.floats)
		}
		offsets[b] = at
		i, _ := slices.BinarySearchFunc(placed, at, func(p *buffer, at int) int {
			return cmp.Compare(offsets[p], at)
		})
		placed = slices.Insert(placed, i, b)
		size = max(size, at+b.floats)
	}
	return offsets, size
}
