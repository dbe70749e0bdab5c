package vision

import "image"

// A JPEG or lossy WebP holds its chroma at half the size. Go's image packages repeat each sample;
// the libraries behind PIL interpolate them, each in its own way and rounding, and models have
// learned from their pixels.

// chromaRows are the row of a chroma plane of w samples that covers image row y, and the nearer of its
// neighbors; at the edge it is its own neighbor. half says that the plane has half the height of the image.
func chromaRows(plane []uint8, src *image.YCbCr, w, y int, half bool) (near, far []uint8) {
	if !half {
		row := plane[y*src.CStride:][:w]
		return row, row
	}
	rows := (src.Rect.Dy() + 1) / 2
	at := y / 2
	other := at + 1
	if y%2 == 0 {
		other = at - 1
	}
	other = min(max(other, 0), rows-1)
	return plane[at*src.CStride:][:w], plane[other*src.CStride:][:w]
}

// chromaJPEG writes a row of chroma at the image's width, as libjpeg's "fancy upsampling" does: three parts
// of the near sample and one of the far, in each halved direction.
func chromaJPEG(dst, plane []uint8, src *image.YCbCr, y int) {
	w := src.Rect.Dx()
	cw := (w + 1) / 2
	switch src.SubsampleRatio {
	case image.YCbCrSubsampleRatio444:
		copy(dst, plane[y*src.CStride:][:w])
		return
	case image.YCbCrSubsampleRatio440:
		near, far := chromaRows(plane, src, w, y, true)
		for x := range w {
			dst[x] = uint8((3*int(near[x]) + int(far[x]) + 1 + y%2) >> 2)
		}
		return
	case image.YCbCrSubsampleRatio422:
		if cw > 2 {
			near, _ := chromaRows(plane, src, cw, y, false)
			spread(dst, cw, func(x int) int { return int(near[x]) }, 2)
			return
		}
	case image.YCbCrSubsampleRatio420:
		if cw > 2 {
			near, far := chromaRows(plane, src, cw, y, true)
			spread(dst, cw, func(x int) int { return 3*int(near[x]) + int(far[x]) }, 4)
			return
		}
	}
	for x := range w { // libjpeg repeats the others
		dst[x] = plane[src.COffset(src.Rect.Min.X+x, src.Rect.Min.Y+y)]
	}
}

// spread doubles a row of cw sums, which are divided by 1<<bits, 4 at least: the outer ones stand for
// themselves, the inner ones are three parts of the nearer and one of the farther. Left and right pixels
// round apart, so that neither direction is preferred.
func spread(dst []uint8, cw int, sum func(int) int, bits int) {
	left, right := 1, 2
	if bits == 4 {
		left, right = 8, 7
	}
	last, this := 0, sum(0)
	for x := range cw {
		next := this
		if x+1 < cw {
			next = sum(x + 1)
		}
		if x == 0 {
			last = this
		}
		dst[2*x] = uint8((3*this + last + left) >> bits)
		dst[2*x+1] = uint8((3*this + next + right) >> bits)
		last, this = this, next
	}
}

// chromaWebP writes a row of chroma as libwebp does: nine parts of the nearest of four samples, three of its
// neighbors, one of the farthest, rounded in three steps.
func chromaWebP(dst, plane []uint8, src *image.YCbCr, y int) {
	w := src.Rect.Dx()
	cw := (w + 1) / 2
	near, far := chromaRows(plane, src, cw, y, true)
	edge := func(x int) uint8 { return uint8((3*int(near[x]) + int(far[x]) + 2) >> 2) }
	dst[0] = edge(0)
	for x := 1; x < cw; x++ {
		a, b, c, d := int(near[x-1]), int(near[x]), int(far[x-1]), int(far[x])
		all := a + b + c + d + 8
		dst[2*x-1] = uint8(((all+2*(b+c))>>3 + a) >> 1)
		dst[2*x] = uint8(((all+2*(a+d))>>3 + b) >> 1)
	}
	if w%2 == 0 {
		dst[w-1] = edge(cw - 1)
	}
}

func clamp8(v int) uint8 { return uint8(min(max(v, 0), 255)) }

// jpegRGB is libjpeg's conversion from full-range BT.601, in 16 bits of fixed point.
func jpegRGB(y, cb, cr uint8) (r, g, b uint8) {
	const half = 1 << 15
	l, u, v := int(y), int(cb)-128, int(cr)-128
	return clamp8(l + (91881*v+half)>>16), clamp8(l + (-22554*u-46802*v+half)>>16), clamp8(l +
		(116130*u+half)>>16)
}

// webpRGB is libwebp's conversion from limited-range BT.601 (black is 16, white 235),
// with 6 bits of fraction.
func webpRGB(y, cb, cr uint8) (r, g, b uint8) {
	l, u, v := int(y)*19077>>8, int(cb), int(cr)
	return clamp8((l + v*26149>>8 - 14234) >> 6), clamp8((l - u*6419>>8 - v*13320>>8 + 8708) >> 6),
		clamp8((l + u*33050>>8 - 17685) >> 6)
}
