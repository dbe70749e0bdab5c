package kernels

import "fmt"

// tap is a place of a depthwise convolution's kernel: where it reads x, from the window's origin,
// and its weights, in floats.
type tap struct{ x, w int }

// Depthwise is a planned convolution of each channel of X [N,C,H,W] by itself, or of groups of four
// channels, whose lanes are spread over the group before they are multiplied: neither wastes a
// lane. All maps have 16 lanes.
//
// Weights are packed [C/16][KH][KW][per][16] with per channels of X a group, the lanes past C are zero. Every
// pass reads them so, except backward-data of groups of four, which reads them flipped.
type Depthwise struct {
	ConvSpec
	per     int // channels of a group
	taps    []tap
	back    []depthParity
	units   int // rows a forward unit has
	forward int // chunks
	data    int
	need    int // halo around dy that backward-data reads
	sums    int // partial sums of the weight gradient
}

// depthParity is the part of backward-data that writes the pixels of one residue of the stride.
type depthParity struct {
	h, w int
	taps []tap // x: of dy
}

// NewDepthwise plans a convolution whose Group is the number of channels of X and Y, or a quarter of that; an
// error says that these kernels do not cover it.
func NewDepthwise(s ConvSpec) (*Depthwise, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	per := s.X.C / s.Group
	if s.X.C != s.Y.C || per*s.Group != s.X.C || per != 1 && per != 4 {
		return nil, fmt.Errorf("kernels: depthwise convolution of %d to %d channels in %d groups", s.X.C,
			s.Y.C, s.Group)
	}
	for _, l := range []Layout{s.X, s.Y, s.DX, s.DY} {
		if l.Lanes != Block {
			return nil, fmt.Errorf("kernels: depthwise convolution of maps of %d lanes", l.Lanes)
		}
	}
	d := &Depthwise{ConvSpec: s, per: per}
	for kh := range s.KH {
		for kw := range s.KW {
			d.taps = append(d.taps, tap{kh*s.DilH*s.X.row() + kw*s.DilW*Block, d.row(kh, kw)})
		}
	}
	for ph := range min(s.StrideH, s.DX.H) {
		for pw := range min(s.StrideW, s.DX.W) {
			d.back = append(d.back, d.parity(ph, pw))
		}
	}
	perRow := s.Y.W * len(d.taps) * per * Block * 2
	d.units = max(1, min(s.Y.H, 1_000_000/perRow))
	// An operation takes some three times as long as in a dense convolution.
	d.forward = shares(3*s.Y.N*s.Y.Blocks()*s.Y.H*perRow, d.forwardUnits())
	d.data = shares(3*s.Y.N*s.Y.Blocks()*s.Y.H*perRow, s.DX.N*s.DX.Blocks())
	d.sums = max(1, min(s.Y.N, 16/s.Y.Blocks()))
	return d, nil
}

// row is where the weights of (kh, kw) begin in a block's.
func (d *Depthwise) row(kh, kw int) int { return (kh*d.KW + kw) * d.per * Block }

// parity finds the taps that reach the pixels of one residue of the stride, as
// planBackwardData does: those with
//
//	dx[h] += dy[(h + PadTop - kh*DilH)/StrideH] * w[kh] where that is whole
//
// and likewise for w, from the pixel of dy of the same index over the stride.
func (d *Depthwise) parity(ph, pw int) depthParity {
	p := depthParity{h: ph, w: pw}
	dy, lastH, lastW := d.DY, (d.DX.H-1-ph)/d.StrideH, (d.DX.W-1-pw)/d.StrideW
	for kh := d.KH - 1; kh >= 0; kh-- {
		for kw := d.KW - 1; kw >= 0; kw-- {
			h, w := ph+d.PadTop-kh*d.DilH, pw+d.PadLeft-kw*d.DilW
			if h%d.StrideH != 0 || w%d.StrideW != 0 {
				continue
			}
			h, w = h/d.StrideH, w/d.StrideW
			d.need = max(d.need, -h, -w, h+lastH+1-dy.H, w+lastW+1-dy.W)
			p.taps = append(p.taps, tap{(h+dy.Halo)*dy.row() + (w+dy.Halo)*Block, d.row(kh, kw)})
		}
	}
	return p
}

func (d *Depthwise) forwardUnits() int {
	return d.Y.N * d.Y.Blocks() * ((d.Y.H + d.units - 1) / d.units)
}

// WeightSize is the number of floats of the packed weights.
func (d *Depthwise) WeightSize() int { return d.X.Blocks() * len(d.taps) * d.per * Block }

// Pack packs weights [C,per,KH,KW].
func (d *Depthwise) Pack(dst, w []float32) {
	clear(dst[:d.WeightSize()])
	d.eachWeight(func(packed, plain int) { dst[packed] = w[plain] })
}

// PackChunks is the number of chunks of PackPart.
func (d *Depthwise) PackChunks() int { return 1 }

// PackPart is Pack: these weights are few.
func (d *Depthwise) PackPart(_ int, dst, w []float32) { d.Pack(dst, w) }

// Unpack is the reverse of Pack.
func (d *Depthwise) Unpack(w, packed []float32) {
	d.eachWeight(func(p, plain int) { w[plain] = packed[p] })
}

func (d *Depthwise) eachWeight(f func(packed, plain int)) {
	taps := len(d.taps)
	for i := range d.X.C * d.per * taps {
		c, j, k := i/taps/d.per, i/taps%d.per, i%taps
		f(((c/Block*taps+k)*d.per+j)*Block+c%Block, i)
	}
}

// weights are those of a block of channels.
func (d *Depthwise) weights(w []float32, block int) []float32 {
	n := len(d.taps) * d.per * Block
	return w[block*n:][:n]
}

// FlipSize is the number of floats of the flipped weights, 0 where backward-data reads the packed ones.
func (d *Depthwise) FlipSize() int {
	if d.per == 1 {
		return 0
	}
	return d.WeightSize()
}

// FlipChunks is the number of chunks of Flip: one a block of channels.
func (d *Depthwise) FlipChunks() int { return d.X.Blocks() }

// Flip swaps the channels of X and Y of every group:
//
//	flipped[tap][j][i] = w[tap][i%per][i/per*per+j]
func (d *Depthwise) Flip(chunk int, flipped, w []float32) {
	dst, src := d.weights(flipped, chunk), d.weights(w, chunk)
	for t := 0; t < len(src); t += d.per * Block {
		for j := range d.per {
			for i := range Block {
				dst[t+j*Block+i] = src[t+i%d.per*Block+i/d.per*d.per+j]
			}
		}
	}
}

// ForwardChunks is the number of chunks of Forward.
func (d *Depthwise) ForwardChunks() int { return d.forward }

// Moments describes the records of Forward.
func (d *Depthwise) Moments() Moments {
	return Moments{d.Y.Blocks(), d.Y.N * ((d.Y.H + d.units - 1) / d.units)}
}

// Forward computes a part of y = conv(x, w).
func (d *Depthwise) Forward(chunk int, y, x, w []float32, e Epilogue) {
	lo, hi := span(d.forwardUnits(), chunk, d.forward)
	perPlane := (d.Y.H + d.units - 1) / d.units
	a := tile{taps: d.taps, per: d.per, xStride: d.StrideW * Block, yStride: Block, act: e.act(),
		high: e.High}
	turns, beside := order{images: d.Y.N, blocks: d.Y.Blocks(), parts: perPlane, together: 1}, e.beside()
	for u := lo; u < hi; u++ {
		n, b, part := turns.unit(u)
		first, last := part*d.units, min(d.Y.H, (part+1)*d.units)
		to := d.Y.at(n, b, first, 0)
		a.y, a.x, a.w = y[to:], x[d.X.at(n, b, first*d.StrideH-d.PadTop, -d.PadLeft):], d.weights(w, b)
		if e.Bias != nil {
			a.bias = e.Bias[b*Block:][:Block]
		}
		if beside != nil {
			a.res = beside[to:]
		}
		stripsOfTiles(last-first, d.Y.W, d.StrideH*d.X.row(), d.Y.row(), &a)
		e.finish(&d.Y, y, n, b, first, last)
		if e.Moments != nil {
			var m moments
			for h := first; h < last; h++ {
				m.add(y[d.Y.at(n, b, h, 0):][:d.Y.W*Block])
			}
			m.store(e.Moments[((n*perPlane+part)*d.Y.Blocks()+b)*record:])
		}
		d.Y.clearHalo(y, n, b, first, last)
	}
}

// BackwardDataChunks is the number of chunks of BackwardData.
func (d *Depthwise) BackwardDataChunks() int { return d.data }

// BackwardData computes a part of dx, the gradient of the convolution's input, from dy and the
// flipped weights (the packed ones where every channel is a group). It is the forward pass of a
// transposed convolution too.
func (d *Depthwise) BackwardData(chunk int, dx, dy, w []float32, e Epilogue) {
	if d.DY.Halo < d.need {
		panic(fmt.Sprintf("kernels: backward-data needs a halo of %d around dy, which has %d",
			d.need, d.DY.Halo))
	}
	l := d.DX
	lo, hi := span(l.N*l.Blocks(), chunk, d.data)
	a := tile{per: d.per, xStride: Block, yStride: d.StrideW * Block, act: e.act(), high: e.High}
	beside := e.beside()
	for u := lo; u < hi; u++ {
		n, b := u/l.Blocks(), u%l.Blocks()
		a.w, a.x = d.weights(w, b), dy[d.DY.at(n, b, -d.DY.Halo, -d.DY.Halo):]
		if e.Bias != nil {
			a.bias = e.Bias[b*Block:][:Block]
		}
		for i := range d.back {
			p := &d.back[i]
			to := l.at(n, b, p.h, p.w)
			if a.taps = p.taps; a.taps == nil {
				a.taps = noTaps
			}
			a.y = dx[to:]
			if beside != nil {
				a.res = beside[to:]
			}
			rows, cols := (l.H-p.h+d.StrideH-1)/d.StrideH, (l.W-p.w+d.StrideW-1)/d.StrideW
			stripsOfTiles(rows, cols, d.DY.row(), d.StrideH*l.row(), &a)
		}
		l.clearHalo(dx, n, b, 0, l.H)
	}
}

// shortRow is the most pixels of a row whose tiles' calls cost much of what they compute.
const shortRow = 16

// stripsOfTiles is rowsOfTiles for few products: where rows are short but not one tile, the tiles below one
// another go into one call.
func stripsOfTiles(rows, n, xRow, yRow int, a *tile) {
	wide, countWide, narrow, countNarrow := widths(n, a.width())
	strips := countWide + countNarrow
	if strips == 1 || n > shortRow || rows*wide*len(a.w) > mostProducts {
		rowsOfTiles(rows, n, xRow, yRow, a)
		return
	}
	a.n, a.xNext, a.yNext = rows, xRow, yRow
	x, y := a.fromX, a.fromY
	for i := range strips {
		p := wide
		if i >= countWide {
			p = narrow
		}
		convTiles(p, a)
		a.fromX, a.fromY = a.fromX+p*a.xStride, a.fromY+p*a.yStride
	}
	a.fromX, a.fromY = x, y
}

// noTaps is of a parity that no tap reaches: its pixels are the bias alone.
var noTaps = []tap{}

// BackwardWeightsChunks is the number of chunks of BackwardWeights.
func (d *Depthwise) BackwardWeightsChunks() int { return d.sums * d.Y.Blocks() }

// BackwardWeightsScratch is the number of floats of its partial sums.
func (d *Depthwise) BackwardWeightsScratch() int { return d.sums * d.WeightSize() }

// BackwardWeights sums, over one group of images, the gradient of one block's weights into scratch:
//
//	dw[k][j][c] = sum over pixels of x[pixel's window + k][c/per*per+j] * dy[pixel][c]
func (d *Depthwise) BackwardWeights(chunk int, scratch, x, dy []float32) {
	group, b := chunk/d.Y.Blocks(), chunk%d.Y.Blocks()
	dw := d.weights(scratch[group*d.WeightSize():], b)
	clear(dw)
	lo, hi := span(d.Y.N, group, d.sums)
	rows := max(1, 128/d.DY.W)
	wide, countWide, narrow, countNarrow := widths(len(d.taps), depthGradTaps(d.per))
	for n := lo; n < hi; n++ {
		for h := 0; h < d.DY.H; h += rows {
			from, to := x[d.X.at(n, b, h*d.StrideH-d.PadTop, -d.PadLeft):], dy[d.DY.at(n, b, h, 0):]
			for i, k := 0, 0; i < countWide+countNarrow; i++ {
				many := wide
				if i >= countWide {
					many = narrow
				}
				a := depthGradTile{per: d.per, dw: dw, x: from, dy: to, taps: d.taps[k : k+many],
					rows: min(rows, d.DY.H-h), cols: d.DY.W,
					xStride: d.StrideW * Block, xRow: d.StrideH * d.X.row(), dyRow: d.DY.row()}
				depthGradTiles(&a)
				k += many
			}
		}
	}
}

// ReduceWeightsChunks is the number of chunks of ReduceWeights.
func (d *Depthwise) ReduceWeightsChunks() int { return (d.WeightSize() + reduceSpan - 1) / reduceSpan }

// ReduceWeights adds the groups' partial sums, in their order, into the packed gradient.
func (d *Depthwise) ReduceWeights(chunk int, dw, scratch []float32) {
	reduce(chunk, dw, scratch, d.WeightSize(), d.sums)
}

// depthTilesGo computes, for every pixel i < p of n tiles t and every lane o of 16,
//
//	y[at+o] = finish( bias[o] + sum over taps and j < per of x[t*xNext+i*xStride+tap.x+o/per*per+j] * w[tap.w+j*16+o], res[at+o] ),
//	at = t*yNext+i*yStride,
//
// where x and y begin at fromX and fromY and finish is the epilogue; all that as often as again says.
func depthTilesGo(p int, a *tile) {
	for i := range a.times() {
		b := a.time(i)
		depthPixelsGo(p, &b)
	}
}

// depthPixelsGo is depthTilesGo for one time.
func depthPixelsGo(p int, a *tile) {
	a.settle()
	for j := range a.n * p {
		i := j % p
		from, at := a.pixel(j/p, i)
		var acc [Block]float32
		copy(acc[:], a.bias)
		for _, t := range a.taps {
			x, w := a.x[from+t.x:][:Block], a.w[t.w:][:a.per*Block]
			for j := range a.per {
				for o := range acc {
					acc[o] += x[o/a.per*a.per+j] * w[j*Block+o]
				}
			}
		}
		y := a.y[at:][:Block]
		for o, v := range acc {
			y[o] = a.finish(v, at+o)
		}
	}
}

// depthGradTile is a call of the inner loop of the gradient of depthwise weights: the products of 16 lanes of
// x at some taps with those of dy, summed over the pixels of some rows. The assembly reads the fields by
// their place, moves x and dy and counts rows down.
type depthGradTile struct {
	dw, x, dy     []float32
	taps          []tap
	rows, cols    int
	xStride, xRow int // floats between pixels and between rows
	dyRow         int
	per           int // channels of a group, 1 or 4
}

func (a *depthGradTile) check() {
	last := (a.rows-1)*a.xRow + (a.cols-1)*a.xStride
	for _, t := range a.taps {
		_, _ = a.x[t.x:t.x+last+Block], a.dw[t.w:t.w+a.per*Block]
	}
	_ = a.dy[(a.rows-1)*a.dyRow:][:a.cols*Block]
}

// depthGradTilesGo computes, for the taps, every j < per and every lane o of 16,
//
//	dw[tap.w+j*16+o] += sum over rows r, cols c of x[r*xRow+c*xStride+tap.x+o/per*per+j] * dy[r*dyRow+c*16+o]
func depthGradTilesGo(a *depthGradTile) {
	for _, t := range a.taps {
		acc := a.dw[t.w:][:a.per*Block]
		for r := range a.rows {
			for c := range a.cols {
				x := a.x[r*a.xRow+c*a.xStride+t.x:][:Block]
				for o, v := range a.dy[r*a.dyRow+c*Block:][:Block] {
					for j := range a.per {
						acc[j*Block+o] += x[o/a.per*a.per+j] * v
					}
				}
			}
		}
	}
}
