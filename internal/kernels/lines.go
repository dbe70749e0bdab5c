package kernels

import (
	"fmt"
	"unsafe"
)

// lineBytes is the size of a pixel of a LineLayout, and of a row of a tile.
const lineBytes = 64

// Lanes of a pixel of a LineLayout.
const (
	BF16Lanes  = 32
	Int8Lanes  = 64
	PixelLanes = 4 // of bytes of maps of few channels, which are no lines: pixels follow one another
)

// LineLayout describes a map whose pixels are cache lines:
// [N][ceil(C/Lanes)][H+2*Halo][W+2*Halo][Lanes], of 32 lanes of bf16 or 64 of bytes. Halo and lanes past
// C are zero, or the zero point of quantized values. N may be 0.
type LineLayout struct {
	N, C, H, W int
	Halo       int
	Lanes      int
}

// Blocks is the number of channel blocks.
func (l LineLayout) Blocks() int { return (l.C + l.Lanes - 1) / l.Lanes }

// rowLines, planeLines and imageLines are the distances, in lines, between rows, channel blocks and images.
func (l LineLayout) rowLines() int   { return l.W + 2*l.Halo }
func (l LineLayout) planeLines() int { return (l.H + 2*l.Halo) * l.rowLines() }
func (l LineLayout) imageLines() int { return l.Blocks() * l.planeLines() }

// image is the number of values between images. Pixels of 4 lanes are read by the line, up
// to 60 bytes past the last.
func (l LineLayout) image() int {
	if l.Lanes == PixelLanes {
		return (l.imageLines()*PixelLanes+lineBytes-1)/lineBytes*lineBytes + lineBytes
	}
	return l.imageLines() * l.Lanes
}

// imageBytes is the bytes between images.
func (l LineLayout) imageBytes() int {
	if l.Lanes == PixelLanes {
		return l.image()
	}
	return l.imageLines() * lineBytes
}

// pixel is the bytes of a pixel.
func (l LineLayout) pixel() int {
	if l.Lanes == PixelLanes {
		return PixelLanes
	}
	return lineBytes
}

// Size is the number of values.
func (l LineLayout) Size() int { return l.N * l.image() }

// at is the line of pixel (h, w) of channel block b of image n.
func (l LineLayout) at(n, b, h, w int) int {
	return ((n*l.Blocks()+b)*(l.H+2*l.Halo)+h+l.Halo)*l.rowLines() + w + l.Halo
}

// value is where the lanes of pixel (h, w) of channel block b of image n begin.
func (l LineLayout) value(n, b, h, w int) int { return n*l.image() + l.at(0, b, h, w)*l.Lanes }

// mostLines bounds a plane: places in it are counted in bytes by int32.
const mostLines = (1<<31 - 1) / lineBytes

func (l LineLayout) valid(lanes int) error {
	if l.N < 0 || l.C <= 0 || l.H <= 0 || l.W <= 0 || l.Halo < 0 || l.Lanes != lanes {
		return fmt.Errorf("kernels: layout %+v: sizes must be positive and lanes %d", l, lanes)
	}
	for _, n := range []int{l.N, l.C, l.H, l.W, l.Halo} {
		if n > mostLines {
			return fmt.Errorf("kernels: layout %+v is too large", l)
		}
	}
	h, w := l.H+2*l.Halo, l.W+2*l.Halo
	if h > mostLines/w {
		return fmt.Errorf("kernels: layout %+v: a plane exceeds 2 GiB", l)
	}
	if float64(l.N)*float64(l.Blocks())*float64(h*w) > 1<<50/lineBytes {
		return fmt.Errorf("kernels: layout %+v is too large", l)
	}
	return nil
}

// fillHalo writes v to the halo around rows [lo, hi) of block b of image n: left and right of them, above the
// first row of the map and below the last.
func fillHalo[T comparable](l LineLayout, y []T, n, b, lo, hi int, v T) {
	if l.Halo == 0 || lo == hi {
		return
	}
	row := l.rowLines()
	start := l.at(n, b, lo, -l.Halo)
	first, last := start, start+l.Halo
	if lo == 0 {
		first -= l.Halo * row
	}
	for range hi - lo {
		fill(y[first*l.Lanes:last*l.Lanes], v)
		start += row
		first, last = start-l.Halo, start+l.Halo
	}
	if last = start; hi == l.H {
		last += l.Halo * row
	}
	fill(y[first*l.Lanes:last*l.Lanes], v)
}

func fill[T comparable](s []T, v T) {
	var zero T
	if v == zero {
		clear(s)
		return
	}
	for i := range s {
		s[i] = v
	}
}

// AlignedBF16 is a zero slice of n values that starts on a 64-byte boundary.
func AlignedBF16(n int) []uint16 { return asBF16(AlignedSlice((n + 1) / 2))[:n] }

// AlignedBytes is a zero slice of n values that starts on a 64-byte boundary.
func AlignedBytes(n int) []uint8 { return asBytes(AlignedSlice((n + 3) / 4))[:n] }

// asBF16 is the memory of x as bf16.
func asBF16(x []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), 2*len(x))
}

// asInt32 is the memory of x as int32.
func asInt32(x []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// asBytes is the memory of x as bytes.
func asBytes(x []float32) []uint8 {
	return unsafe.Slice((*uint8)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
