// Package resample resizes images [C,H,W] of 8 bits as PIL's Image.resize does, to the bit.
package resample

import "math"

// Image has its pixels in planes [C,H,W].
type Image struct {
	C, H, W int
	Pix     []uint8
}

// New allocates an image.
func New(c, h, w int) Image { return Image{c, h, w, make([]uint8, c*h*w)} }

func (m Image) plane(c int) []uint8 { return m.Pix[c*m.H*m.W:][:m.H*m.W] }

// Kernel says how a pixel between pixels is made.
type Kernel string

// The kernels, which widen where the image shrinks (antialias); the zero value is Bilinear.
const (
	Nearest  Kernel = "nearest"
	Bilinear Kernel = "bilinear"
	Bicubic  Kernel = "bicubic"
)

// Resize fills dst, of the size that is wanted and of src's channels: a pass along the rows and one
// along the columns, each rounding to levels. The columns go first where they lose more than twice as
// many pixels as the rows, as in Pillow 13.0. Older ones begin with the rows always, so that for those
// sizes a few levels differ.
func Resize(dst, src Image, by Kernel) {
	switch {
	case dst.W == src.W && dst.H == src.H:
		copy(dst.Pix, src.Pix)
	case by == Nearest:
		nearest(dst, src)
	case dst.H == src.H:
		resizeRows(dst, src, weights(src.W, dst.W, by))
	case dst.W == src.W:
		resizeColumns(dst, src, weights(src.H, dst.H, by))
	case dst.H < src.H && src.H-dst.H > 2*(src.W-dst.W):
		mid := New(src.C, dst.H, src.W)
		resizeColumns(mid, src, weights(src.H, dst.H, by))
		resizeRows(dst, mid, weights(src.W, dst.W, by))
	default:
		mid := New(src.C, src.H, dst.W)
		resizeRows(mid, src, weights(src.W, dst.W, by))
		resizeColumns(dst, mid, weights(src.H, dst.H, by))
	}
}

// nearest takes the pixel under the center of each new one.
func nearest(dst, src Image) {
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		for y := range dst.H {
			row := in[int((float64(y)+0.5)*float64(src.H)/float64(dst.H))*src.W:][:src.W]
			for x := range dst.W {
				out[y*dst.W+x] = row[int((float64(x)+0.5)*float64(src.W)/float64(dst.W))]
			}
		}
	}
}

// weightBits is the fixed point of PIL's weights: 8 bits for the pixel and 2 for the
// overshoot of bicubic are left.
const weightBits = 32 - 8 - 2

// tap is one output pixel's inputs: weights of the pixels from first on.
type tap struct {
	first int
	w     []int32
}

// weights are the kernel's, for every output pixel, in fixed point and with sum one.
func weights(in, out int, by Kernel) []tap {
	kernel, support := tent, 1.0
	if by == Bicubic {
		kernel, support = cubic, 2.0
	}
	ratio := float64(in) / float64(out)
	stretch := max(ratio, 1)
	support *= stretch
	taps := make([]tap, out)
	size := int(math.Ceil(support))*2 + 1
	all := make([]int32, 0, out*size)
	exact := make([]float64, 0, size)
	for i := range taps {
		centre := float64((float64(i) + 0.5) * ratio)
		from, to := max(int(centre-support+0.5), 0), min(int(centre+support+0.5), in)
		sum := 0.0
		exact = exact[:0]
		for x := from; x < to; x++ {
			w := kernel((float64(x) - centre + 0.5) * (1 / stretch))
			exact = append(exact, w)
			sum += w
		}
		start := len(all)
		for _, w := range exact {
			if sum != 0 {
				w /= sum
			}
			all = append(all, int32(math.Trunc(float64(w*(1<<weightBits))+math.Copysign(0.5, w))))
		}
		taps[i] = tap{from, all[start:len(all):len(all)]}
	}
	return taps
}

func tent(x float64) float64 { return max(1-math.Abs(x), 0) }

// cubic is Keys' kernel with a = -1/2, as PIL has it; PyTorch's tensors take -3/4.
func cubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64((a+2)*x)-(a+3))*x*x) + 1
	case x < 2:
		return (float64((float64((x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

func clip8(v int32) uint8 { return uint8(min(max(v>>weightBits, 0), 255)) }

func resizeRows(dst, src Image, taps []tap) {
	for y := range src.C * src.H {
		in, out := src.Pix[y*src.W:][:src.W], dst.Pix[y*dst.W:][:dst.W]
		for x := range out {
			t := &taps[x]
			sum := int32(1) << (weightBits - 1)
			pixels := in[t.first:][:len(t.w)]
			for i, w := range t.w {
				sum += int32(pixels[i]) * w
			}
			out[x] = clip8(sum)
		}
	}
}

func resizeColumns(dst, src Image, taps []tap) {
	w := dst.W
	sums := make([]int32, w)
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		for y := range taps {
			for x := range sums {
				sums[x] = 1 << (weightBits - 1)
			}
			for i, weight := range taps[y].w {
				row := in[(taps[y].first+i)*w:][:w]
				for x, p := range row {
					sums[x] += int32(p) * weight
				}
			}
			row := out[y*w:][:w]
			for x, sum := range sums {
				row[x] = clip8(sum)
			}
		}
	}
}
