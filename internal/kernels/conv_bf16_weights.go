package kernels

import (
	"fmt"
	"unsafe"
)

// ConvBF16Weights is the gradient of a convolution's weights from maps in bf16, in float32. Its products sum
// over pixels, 32 a step: of x turned, [channel][pixel], with dy in pairs of pixels, [pixel/2][output][2]. So
// the maps are repacked first, and both run over the gap between rows, where the pairs of dy are zero. A NaN
// or infinity of x beside the gap makes NaN.
//
// Repacked maps: x [C/32][N][residue of the stride][32][pitch], then dy [O/32][N][steps][2][16][16][2].
type ConvBF16Weights struct {
	x, dy  LineLayout
	window Window
	width  int         // pixels of a row of repacked maps
	pitch  int         // pixels of a repacked channel, with zeros at the end
	deep   int         // steps of an image
	taps   []weightTap // of the kernel
	bundle int         // images whose products are one sum
	parts  []tiling    // of a bundle: of several images one, of a large image several
	last   []tiling    // of the last bundle
	groups int         // of bundles, each summed by itself
	across int         // chunks of the outputs of a group
	strips int         // chunks of its channels
}

// weightTap is a pixel of the kernel: its residue of the stride and its place, in pixels of the repacked map.
type weightTap struct{ residue, at int }

// mostSteps bounds the steps of a part: 4,096 pixels of 32 channels of dy are 256 KiB. mostTurned bounds the
// bytes of x that are multiplied with them tap by tap: both stay in the second-level cache. mostSums bounds
// the bytes of the groups' sums.
const (
	mostSteps  = 128
	mostTurned = 640 << 10
	mostSums   = 4 << 20
)

// NewConvBF16Weights plans the gradient of the weights of the convolution s, of x of s.X and dy of s.Y.
func NewConvBF16Weights(s ConvBF16Spec) (*ConvBF16Weights, error) {
	if _, err := NewConvBF16(s); err != nil { // bounds all that follows
		return nil, err
	}
	if s.StrideH*s.StrideW > mostResidues {
		return nil, fmt.Errorf("kernels: gradient of a convolution with %+v", s.Window)
	}
	k := &ConvBF16Weights{x: s.X, dy: s.Y, window: s.Window}
	high, halo := (s.X.H+2*s.X.Halo+s.StrideH-1)/s.StrideH, s.X.Halo
	k.width = (s.X.W + 2*halo + s.StrideW - 1) / s.StrideW
	k.deep = ((s.Y.H-1)*k.width + s.Y.W + BF16Lanes - 1) / BF16Lanes
	end := high * k.width
	for i := range s.KH * s.KW {
		h, w := i/s.KW*s.DilH-s.PadTop+halo, i%s.KW*s.DilW-s.PadLeft+halo
		t := weightTap{h%s.StrideH*s.StrideW + w%s.StrideW, h/s.StrideH*k.width + w/s.StrideW}
		k.taps = append(k.taps, t)
		end = max(end, t.at+k.deep*BF16Lanes)
	}
	k.pitch = (end + BF16Lanes - 1) / BF16Lanes * BF16Lanes
	// an odd number of lines: channels do not fall into the same sets of the cache
	if k.pitch/BF16Lanes%2 == 0 {
		k.pitch += BF16Lanes
	}
	if s.X.N == 0 {
		return k, nil
	}
	k.bundle = max(1, min(s.X.N, mostSteps/k.deep))
	var err error
	if k.parts, err = k.plan(k.bundle); err != nil {
		return nil, err
	}
	if k.last, err = k.plan(s.X.N - (k.bundles()-1)*k.bundle); err != nil {
		return nil, err
	}
	k.divide()
	return k, nil
}

// bundles is the number of bundles of images.
func (k *ConvBF16Weights) bundles() int { return (k.x.N + k.bundle - 1) / k.bundle }

// plan is the parts of so many images: tiles of 16 channels, summed over pixels.
func (k *ConvBF16Weights) plan(images int) ([]tiling, error) {
	var steps []int
	for n := range images {
		for s := range k.deep {
			steps = append(steps, n*k.image()*2+s*lineBytes)
		}
	}
	c := cut{rows: tileRows}
	for i := 0; i < k.x.C; i += tileRows {
		c.tiles = append(c.tiles, tilePixels{0, i, 0, tileRows})
	}
	parts := make([]tiling, (len(steps)+mostSteps-1)/mostSteps)
	for i := range parts {
		lo, hi := span(len(steps), i, len(parts))
		parts[i] = tiling{stride: k.pitch * 2, steps: steps[lo:hi]}
		err := parts[i].plan(c, min(2, len(c.tiles)), func(_, i int) int {
			return (i/BF16Lanes*k.x.N*k.image() + i%BF16Lanes*k.pitch) * 2
		}, func(_, i int) int { return i * tileOuts * 4 })
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// divide decides on the chunks: groups of bundles as far as their sums do not take much memory,
// then outputs, then channels.
func (k *ConvBF16Weights) divide() {
	want := max(1, int(k.cycles()/(2*callCycles)))
	sums := k.dy.Blocks() * len(k.taps) * k.rows() * tileOuts * 4
	k.groups = max(1, min(k.bundles(), want, mostSums/sums))
	k.across = max(1, min(k.dy.Blocks(), (want+k.groups-1)/k.groups))
	n := k.groups * k.across
	turned := k.blocks() * len(k.parts[0].steps) * stepSize
	k.strips = max(1, min(k.blocks(), max((want+n-1)/n, (turned+mostTurned-1)/mostTurned)))
}

// blocks is the number of blocks of channels.
func (k *ConvBF16Weights) blocks() int { return k.parts[0].blocks() }

// cycles is what all products take.
func (k *ConvBF16Weights) cycles() float64 {
	var bundle float64
	for i := range k.parts {
		bundle += 1.4 * k.parts[i].blockCycles()
	}
	return bundle * float64(k.blocks()*k.bundles()*k.dy.Blocks()*len(k.taps))
}

// image is the values of 32 channels of a repacked image of x, residues that of the stride.
func (k *ConvBF16Weights) image() int { return k.residues() * BF16Lanes * k.pitch }

func (k *ConvBF16Weights) residues() int { return k.window.StrideH * k.window.StrideW }

// turned is the number of values of repacked x.
func (k *ConvBF16Weights) turned() int { return k.x.Blocks() * k.x.N * k.image() }

// RepackSize is the number of values of both repacked maps.
func (k *ConvBF16Weights) RepackSize() int {
	return k.turned() + k.dy.Blocks()*k.dy.N*k.deep*stepSize/2
}

// RepackChunks is the number of chunks of Repack.
func (k *ConvBF16Weights) RepackChunks() int {
	return k.x.N * (k.x.Blocks()*k.residues() + k.dy.Blocks())
}

// Repack writes a part of the repacked maps.
func (k *ConvBF16Weights) Repack(chunk int, dst, x, dy []uint16) {
	if turns := k.x.N * k.x.Blocks() * k.residues(); chunk >= turns {
		k.pairDY(chunk-turns, dst[k.turned():], dy)
		return
	}
	residue, chunk := chunk%k.residues(), chunk/k.residues()
	n, b := chunk%k.x.N, chunk/k.x.N
	dst = dst[(b*k.x.N+n)*k.image()+residue*BF16Lanes*k.pitch:][:BF16Lanes*k.pitch]
	l, v := k.x, &k.window
	plane := x[l.at(n, b, -l.Halo, -l.Halo)*BF16Lanes:][:l.planeLines()*BF16Lanes]
	rows := gapRows{width: k.width, down: v.StrideH, across: v.StrideW, row: l.rowLines(),
		first: residue/v.StrideW*l.rowLines() + residue%v.StrideW}
	rows.h = (l.H + 2*l.Halo - residue/v.StrideW + v.StrideH - 1) / v.StrideH
	rows.w = (l.rowLines() - residue%v.StrideW + v.StrideW - 1) / v.StrideW
	var lines, paired [stepSize / 2]uint16
	for s := range k.pitch / BF16Lanes {
		pair(paired[:], rows.step(&lines, plane, s*BF16Lanes))
		for t := range 2 {
			turnPairs(asPairs(dst[t*Block*k.pitch+s*BF16Lanes:]), k.pitch/2, asPairs(paired[t*stepSize/4:]))
		}
	}
}

// pairDY writes an image's block of repacked dy.
func (k *ConvBF16Weights) pairDY(chunk int, dst, dy []uint16) {
	l := k.dy
	n, b := chunk%l.N, chunk/l.N
	dst = dst[(b*l.N+n)*k.deep*stepSize/2:]
	plane := dy[l.at(n, b, -l.Halo, -l.Halo)*BF16Lanes:][:l.planeLines()*BF16Lanes]
	rows := gapRows{h: l.H, w: l.W, width: k.width, down: 1, across: 1, row: l.rowLines(),
		first: l.Halo*l.rowLines() + l.Halo}
	var lines [stepSize / 2]uint16
	for s := range k.deep {
		pair(dst[s*stepSize/2:], rows.step(&lines, plane, s*BF16Lanes))
	}
}

// gapRows is h rows of w pixels of a plane, first the first of them, that are laid out in rows of width
// pixels with zeros in the gap and after the last.
type gapRows struct {
	h, w, width       int
	down, across, row int // rows and pixels apart; lines of a row of the plane
	first             int
}

// step is 32 lines from pixel at on: where they lie, or copied to buf.
func (r *gapRows) step(buf *[stepSize / 2]uint16, plane []uint16, at int) []uint16 {
	h, w := at/r.width, at%r.width
	if h < r.h && w+BF16Lanes <= r.w && r.across == 1 {
		return plane[(r.first+h*r.down*r.row+w)*BF16Lanes:][:stepSize/2]
	}
	for i := 0; i < BF16Lanes; {
		to := buf[i*BF16Lanes:]
		switch {
		case h >= r.h:
			clear(to)
			return buf[:]
		case w >= r.w:
			n := min(r.width-w, BF16Lanes-i)
			clear(to[:n*BF16Lanes])
			i, w = i+n, w+n
		case r.across == 1:
			n := min(r.w-w, BF16Lanes-i)
			copy(to[:n*BF16Lanes], plane[(r.first+h*r.down*r.row+w)*BF16Lanes:])
			i, w = i+n, w+n
		default:
			copy(to[:BF16Lanes], plane[(r.first+h*r.down*r.row+w*r.across)*BF16Lanes:])
			i, w = i+1, w+1
		}
		if w == r.width {
			h, w = h+1, 0
		}
	}
	return buf[:]
}

// Chunks is the number of chunks of Run.
func (k *ConvBF16Weights) Chunks() int { return k.groups * k.across * k.strips }

// rows is the number of rows of 32 sums of a product.
func (k *ConvBF16Weights) rows() int {
	if k.x.N == 0 {
		return 0
	}
	return len(k.parts[0].origins) * tileRows
}

// Sums is the number of floats that Run writes: [group of images][O/32][tap][C rounded up][32].
func (k *ConvBF16Weights) Sums() int {
	return k.groups * k.dy.Blocks() * len(k.taps) * k.rows() * tileOuts
}

// Scratch is the number of floats that each concurrent Run needs.
func (k *ConvBF16Weights) Scratch() int { return tileScratch }

// Images is the number of values of x and of dy.
func (k *ConvBF16Weights) Images() (x, dy int) { return k.x.Size(), k.dy.Size() }

// Run computes a part of the sums from the repacked maps: those of a group, bundle by bundle, part by part.
// With more it adds to what the sums are.
func (k *ConvBF16Weights) Run(chunk int, scratch, sums []float32, repacked []uint16, more bool) {
	strip, chunk := chunk%k.strips, chunk/k.strips
	from, to := span(k.dy.Blocks(), chunk%k.across, k.across)
	g := chunk / k.across
	first, last := span(k.bundles(), g, k.groups)
	a := bf16Call{scratch: scratch, apart: lineBytes}
	a.lo, a.hi = span(k.blocks(), strip, k.strips)
	a.low, a.high = (&EpilogueBF16{}).bounds()
	for n := first; n < last; n++ {
		parts := k.parts
		if n == k.bundles()-1 {
			parts = k.last
		}
		done := 0 // steps of the bundle
		for i := range parts {
			a.t, a.more = &parts[i], more || n > first || i > 0
			for o := from; o < to; o++ {
				at := (o*k.dy.N+n*k.bundle)*k.deep + done
				a.w = repacked[k.turned()+at*stepSize/2:]
				k.runTaps(&a, repacked[n*k.bundle*k.image():k.turned()],
					sums[(g*k.dy.Blocks()+o)*len(k.taps)*k.rows()*tileOuts:])
			}
			done += len(parts[i].steps)
		}
	}
}

// runTaps runs a for each tap of the kernel.
func (k *ConvBF16Weights) runTaps(a *bf16Call, x []uint16, sums []float32) {
	size := k.rows() * tileOuts
	for i, t := range k.taps {
		a.x = x[t.residue*BF16Lanes*k.pitch+t.at:]
		a.out, a.bias = sums[i*size:][:size], noBias[:]
		if a.more {
			a.bias = a.out[a.lo*a.t.m*tileRows*tileOuts:]
		}
		a.run()
	}
}

// ReduceChunks is the number of chunks of Reduce.
func (k *ConvBF16Weights) ReduceChunks() int { return k.dy.Blocks() }

// Reduce adds the sums of the groups of images in their order into a part of the gradient, [O,C,KH,KW].
func (k *ConvBF16Weights) Reduce(chunk int, dw, sums []float32) {
	taps, outs := len(k.taps), min(tileOuts, k.dy.C-chunk*tileOuts)
	for c := range k.x.C {
		for t := range taps {
			var row [tileOuts]float32
			for g := range k.groups {
				from := sums[(((g*k.dy.Blocks()+chunk)*taps+t)*k.rows()+c)*tileOuts:][:tileOuts]
				for o, v := range from {
					row[o] += v
				}
			}
			for o, v := range row[:outs] {
				dw[((chunk*tileOuts+o)*k.x.C+c)*taps+t] = v
			}
		}
	}
}

// Cost estimates Repack and Run.
func (k *ConvBF16Weights) Cost() float64 {
	if k.x.N == 0 {
		return 0
	}
	return amxCost(k.cycles()) + FarCost(int64(k.RepackSize())*2)
}

// asPairs is x in pairs.
func asPairs(x []uint16) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x))), len(x)/2)
}

// pairGo writes dst[512t+32j+2o+i] = src[(2j+i)*32+16t+o] for 16 pairs j, outputs o < 16 and t, i < 2.
func pairGo(dst, src []uint16) {
	for at := range stepSize / 2 {
		t, j, o, i := at/512, at/32%16, at/2%16, at%2
		dst[at] = src[(2*j+i)*BF16Lanes+16*t+o]
	}
}

// turnPairsGo writes dst[c*apart+j] = src[j*16+c] for 16 pairs j and channels c.
func turnPairsGo(dst []uint32, apart int, src []uint32) {
	for j := range Block {
		for c := range Block {
			dst[c*apart+j] = src[j*Block+c]
		}
	}
}
