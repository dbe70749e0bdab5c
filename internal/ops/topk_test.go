package ops

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFront: the heap gives what sorting gives, equals by index.
func TestFront(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		v := make([]int, r.IntN(200))
		list := make([]int, len(v))
		for i := range v {
			v[i], list[i] = r.IntN(20), i
		}
		compare := func(a, b int) int { return cmp.Or(cmp.Compare(v[b], v[a]), cmp.Compare(a, b)) }
		want := slices.SortedFunc(slices.Values(list), compare)
		k := r.IntN(len(v) + 1)
		if r.IntN(2) == 0 {
			k = len(v) / 16
		}
		front(list, k, compare)
		if !slices.Equal(list[:k], want[:k]) {
			t.Fatalf("%d of %v: %v, not %v", k, v, list[:k], want[:k])
		}
	}
}
