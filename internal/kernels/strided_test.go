package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// at is the offset of an element of a broadcast array for the element number i of result.
func offsetOf(result, dims []int, i int) int {
	own, at := strides(dims), 0
	for axis := len(result) - 1; axis >= 0; axis-- {
		index := i % result[axis]
		i /= result[axis]
		if k := axis - len(result) + len(dims); k >= 0 && dims[k] != 1 {
			at += index * own[k]
		}
	}
	return at
}

// TestBinary compares operations with a loop, over the shapes of networks and over random ones.
func TestBinary(t *testing.T) {
	cases := [][3][]int{
		{{2, 3, 4}, {2, 3, 4}, {2, 3, 4}}, {{2, 197, 40}, {2, 197, 40}, {40}}, {{2, 5, 7, 7}, {2, 5, 7, 7},
			{5, 1, 1}},
		{{2, 5, 7, 7}, {2, 5, 1, 1}, {2, 5, 7, 7}}, {{6, 9}, {6, 9}, {6, 1}}, {{6, 9}, {6, 1},
			{9}}, {{3, 70000}, {3, 70000}, {1}},
		{{}, {}, {}}, {{1, 1}, {1}, {1, 1}}, {{4, 1, 5}, {4, 1, 1}, {1, 1, 1}}, {{8, 16, 49, 49},
			{8, 16, 49, 49}, {8, 1, 49, 49}},
	}
	r := rand.New(rand.NewPCG(51, 1))
	for range 60 {
		var c [3][]int
		for range r.IntN(5) {
			d := 1 + r.IntN(6)
			c[0] = append(c[0], d)
			for k := 1; k < 3; k++ {
				c[k] = append(c[k], []int{1, d}[r.IntN(2)])
			}
		}
		cases = append(cases, c)
	}
	levels(t, func(t *testing.T) {
		for _, c := range cases {
			for _, op := range []Operation{OpSub, OpMul, OpDiv} {
				checkBinary(t, r, op, c)
			}
		}
	})
	if _, err := NewBinary(OpAdd, []int{2, 3}, []int{2, 3}, []int{2}); err == nil {
		t.Error("[2] broadcast to [2,3]: no error")
	}
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func checkBinary(t *testing.T, r *rand.Rand, op Operation, c [3][]int) {
	t.Helper()
	name := fmt.Sprintf("%v = %v op %d %v", c[0], c[1], op, c[2])
	k, err := NewBinary(op, c[0], c[1], c[2])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	y, a, b := guard(product(c[0])), random(r, product(c[1])), random(r, product(c[2]))
	for chunk := range k.Chunks() {
		k.Run(chunk, y.s, a, b)
	}
	y.intact(t, name)
	for i, v := range y.s {
		if want := op.scalar(a[offsetOf(c[0], c[1], i)], b[offsetOf(c[0], c[2], i)]); v != want {
			t.Fatalf("%s: number %d is %g, want %g", name, i, v, want)
		}
	}
	noAllocations(t, name, func() { k.Run(0, y.s, a, b) })
}

// TestPermute compares transpositions with a loop: those between layouts, of attention and of
// shuffles, and random ones.
func TestPermute(t *testing.T) {
	cases := [][2][]int{
		{{2, 35, 9, 11}, {0, 2, 3, 1}}, {{2, 9, 11, 35}, {0, 3, 1, 2}}, {{1, 197, 3, 4, 16}, {2, 0, 3, 1, 4}},
		{{300, 700}, {1, 0}},
		{{2, 3, 4, 5}, {0, 1, 2, 3}}, {{7}, {0}}, {{}, {}}, {{1, 4, 2, 6, 5}, {0, 2, 1, 3, 4}},
		{{2, 7, 3, 7, 4, 5}, {0, 1, 3, 2, 4, 5}},
	}
	r := rand.New(rand.NewPCG(52, 1))
	for range 60 {
		var dims []int
		for range 1 + r.IntN(5) {
			dims = append(dims, 1+r.IntN(9))
		}
		cases = append(cases, [2][]int{dims, r.Perm(len(dims))})
	}
	levels(t, func(t *testing.T) {
		for _, c := range cases {
			dims, perm := c[0], c[1]
			name := fmt.Sprint(dims, perm)
			k, err := NewPermute(dims, perm)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			src, dst := random(r, product(dims)), guard(product(dims))
			for chunk := range k.Chunks() {
				k.Run(chunk, dst.s, src)
			}
			dst.intact(t, name)
			out, own := make([]int, len(dims)), strides(dims)
			for i, p := range perm {
				out[i] = dims[p]
			}
			for i, v := range dst.s {
				at, rest := 0, i
				for axis := len(out) - 1; axis >= 0; axis-- {
					at += rest % out[axis] * own[perm[axis]]
					rest /= out[axis]
				}
				if v != src[at] {
					t.Fatalf("%s: number %d is %g, want %g", name, i, v, src[at])
				}
			}
			noAllocations(t, name, func() { k.Run(0, dst.s, src) })
		}
	})
	for _, perm := range [][]int{{0}, {0, 0}, {0, 2}} {
		if _, err := NewPermute([]int{2, 3}, perm); err == nil {
			t.Errorf("permutation %v of two axes: no error", perm)
		}
	}
}

// TestStridedCopy takes every second pixel and writes into the inside of a larger array.
func TestStridedCopy(t *testing.T) {
	src, dst := make([]float32, 2*6*8), guard(2*5*9)
	for i := range src {
		src[i] = float32(i)
	}
	k, err := NewStridedCopy([]int{2, 3, 4}, []int{45, 9, 1}, []int{48, 16, 2})
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range k.Chunks() {
		k.Run(chunk, dst.s[9+2:], src[8:])
	}
	dst.intact(t, "copy")
	for n := range 2 {
		for h := range 3 {
			for w := range 4 {
				if got, want := dst.s[11+n*45+h*9+w], float32(8+n*48+h*16+w*2); got != want {
					t.Fatalf("[%d,%d,%d] = %g, want %g", n, h, w, got, want)
				}
			}
		}
	}
}

// TestPadding compares with a loop.
func TestPadding(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 1))
	for _, c := range [][3][]int{{{3}, {5}, {1}}, {{2, 3, 4}, {2, 5, 9}, {0, 1, 3}},
		{{1, 300, 200}, {2, 301, 210}, {1, 0, 0}}} {
		k, err := NewPadding(c[0], c[1], c[2])
		if err != nil {
			t.Fatal(err)
		}
		x, y := random(r, product(c[0])), guard(product(c[1]))
		for chunk := range k.Chunks() {
			k.Run(chunk, y.s, x, 7)
		}
		y.intact(t, "padding")
		own := strides(c[0])
		for i, v := range y.s {
			at, rest, inside := 0, i, true
			for axis := len(c[1]) - 1; axis >= 0; axis-- {
				index := rest%c[1][axis] - c[2][axis]
				rest /= c[1][axis]
				inside = inside && index >= 0 && index < c[0][axis]
				at += index * own[axis]
			}
			want := float32(7)
			if inside {
				want = x[at]
			}
			if v != want {
				t.Fatalf("%v: number %d is %g, want %g", c, i, v, want)
			}
		}
	}
	if _, err := NewPadding([]int{3}, []int{3}, []int{1}); err == nil {
		t.Error("3 numbers from the second of 3 on: no error")
	}
}
