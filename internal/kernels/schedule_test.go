package kernels

import (
	"math/rand/v2"
	"testing"
)

// TestScheduleOnce: every block of every image and group of outputs is computed once, and each unit names the
// group of the one after it.
func TestScheduleOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	grouped := 0
	for range 2000 {
		steps, blocks := 1+r.IntN(200), 1+r.IntN(40)
		tiles := &tiling{m: 1, rows: tileRows, steps: make([]int, steps), origins: make([]int, blocks)}
		s := newSchedule(1+r.IntN(17), 1+r.IntN(40), tiles, 1+r.IntN(1<<21), steps*stepSize)
		if s.together > 1 {
			grouped++
		}
		times := make([]int, s.images*s.outs*blocks)
		next := -1
		for chunk := range s.chunks {
			s.each(chunk, func(u unit) {
				for b := u.lo; b < u.hi; b++ {
					times[(u.n*s.outs+u.o)*blocks+b]++
				}
				if next >= 0 && next != u.o {
					t.Fatalf("%+v: group %d follows, not %d", s, u.o, next)
				}
				next = u.next
			})
		}
		for i, n := range times {
			if n != 1 {
				t.Fatalf("%+v: block %d is computed %d times", s, i, n)
			}
		}
	}
	if grouped < 100 {
		t.Errorf("%d schedules group their images", grouped)
	}
}
