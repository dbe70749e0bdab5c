package kernels

import (
	"fmt"
	"iter"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/pages"
)

// Block is the number of channels of a block: one AVX-512 vector or two of AVX2.
const Block = 16

// narrowBlock is the number of lanes of maps with few channels: one AVX2 vector.
const narrowBlock = 8

// Layout describes a blocked feature map: [N][ceil(C/Lanes)][H+2*Halo][W+2*Halo][Lanes] float32.
type Layout struct {
	N, C, H, W int
	Halo       int
	Lanes      int // 16, or 8 for C <= 8, or C <= 4
}

// Blocks is the number of channel blocks: one where there are fewer lanes than 16. Kernels ask for every row,
// so it does not divide by Lanes.
func (l Layout) Blocks() int {
	if l.C <= l.Lanes {
		return 1
	}
	return (l.C + Block - 1) / Block
}

// row, plane and image are the distances, in floats, between rows, channel blocks and images.
func (l Layout) row() int   { return (l.W + 2*l.Halo) * l.Lanes }
func (l Layout) plane() int { return (l.H + 2*l.Halo) * l.row() }
func (l Layout) image() int { return l.Blocks() * l.plane() }

// Size is the number of floats.
func (l Layout) Size() int { return l.N * l.image() }

// at is the offset of pixel (h, w) of channel block b of image n.
func (l *Layout) at(n, b, h, w int) int {
	return (((n*l.Blocks()+b)*(l.H+2*l.Halo)+h+l.Halo)*(l.W+2*l.Halo) + w + l.Halo) * l.Lanes
}

// real is the number of channels in block b.
func (l Layout) real(b int) int { return min(l.Lanes, l.C-b*l.Lanes) }

// narrow says that a pixel has 8 lanes.
func (l Layout) narrow() bool { return l.Lanes == narrowBlock }

// sameShape reports whether both describe maps of one shape; halo and lanes may differ.
func (l Layout) sameShape(m Layout) bool { return l.N == m.N && l.C == m.C && l.H == m.H && l.W == m.W }

func (l Layout) valid() error {
	if l.N <= 0 || l.C <= 0 || l.H <= 0 || l.W <= 0 || l.Halo < 0 {
		return fmt.Errorf("kernels: empty layout %+v", l)
	}
	if l.Lanes != Block && (l.Lanes != narrowBlock || l.C > narrowBlock) && (l.Lanes != l.C || l.C > 4) {
		return fmt.Errorf("kernels: layout %+v: lanes must be 16, or 8 for C <= 8, or C for C <= 4", l)
	}
	return nil
}

// clearHalo zeroes the halo around rows [lo, hi) of block b of image n: left and right of them, above the
// first row of the map and below the last.
func (l Layout) clearHalo(y []float32, n, b, lo, hi int) {
	if l.Halo == 0 {
		return
	}
	side, row := l.Halo*l.Lanes, l.row()
	start := l.at(n, b, lo, -l.Halo)
	// of what is cleared next: the end of a row and the beginning of the one below
	first, last := start, start+side
	if lo == 0 {
		first -= l.Halo * row
	}
	for range hi - lo {
		clear(y[first:last])
		start += row
		first, last = start-side, start+side
	}
	if last = start; hi == l.H {
		last += l.Halo * row
	}
	clear(y[first:last])
}

// rect is rows of width floats with skip floats between them: the pixels of a plane between its halos.
type rect struct{ width, rows, skip int }

// rect is rows of the map.
func (l Layout) rect(rows int) rect { return rect{l.W * l.Lanes, rows, 2 * l.Halo * l.Lanes} }

func (r rect) empty() bool { return r.width < Block || r.rows == 0 }

// extent is the floats from the first to the last.
func (r rect) extent() int { return r.rows*(r.width+r.skip) - r.skip }

// pixels is where each pixel of 16 lanes begins.
func (r rect) pixels() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range r.rows {
			for w := 0; w < r.width; w += Block {
				if !yield(i*(r.width+r.skip) + w) {
					return
				}
			}
		}
	}
}

// AlignedSlice is a zero slice of n floats that starts on a 64-byte boundary; a large one lies in huge pages
// where the system has them.
func AlignedSlice(n int) []float32 {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(pages.Aligned(n*4)))), n)
}

// span is the share [lo, hi) of n things that chunk number chunk of chunks gets.
func span(n, chunk, chunks int) (lo, hi int) { return n * chunk / chunks, n * (chunk + 1) / chunks }

// pieces is the number of chunks for work of so many floating-point operations in the given number of
// indivisible units: about 2 million a chunk (20 us), never more than the units.
func pieces(flops, units int) int {
	return max(1, min(units, flops/2_000_000))
}

// shares is the number of chunks for work of so many floating-point operations where a chunk costs nothing
// but its claim: as pieces, but several from half a million on (5 us), so that a small network on a single
// image has work for a few threads.
func shares(flops, units int) int {
	return max(pieces(flops, units), min(units, 8, flops/500_000))
}
