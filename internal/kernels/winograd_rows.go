package kernels

const (
	rowSide      = 4 // pixels of y that a tile has
	rowTap       = 5 // taps of a kernel's row
	rowReads     = rowSide + rowTap - 1
	rowPositions = rowReads
	rowWanted    = 28 // tiles for the inner loop at a time
)

// rowTiles says how a map that is read lies under one that is computed by F(4,5) along rows, a sum over the
// rows of the kernel down columns:
//
//	y[h] = A' sum over kh of (G w[kh]) . (B' x[h-top+kh])
//
// A tile is 4 pixels of a row of y from 8 pixels of a row of x. The last tile of a row ends with the
// row: where the row's length is no multiple of 4 it computes pixels of the tile before again. So
// everything is read inside the halo.
type rowTiles struct {
	in, out   Layout
	kh        int
	top, left int
	wide      int // tiles of a row
}

// newRows reports whether the method fits.
func newRows(in, out Layout, kh, top, left int) (r rowTiles, ok bool) {
	r = rowTiles{in, out, kh, top, left, (out.W + rowSide - 1) / rowSide}
	inside := top >= 0 && top < kh && out.H-1-top < in.H // every row of y has a row of x
	return r, inside && out.W >= rowSide && left <= in.Halo && out.W-rowSide-left+rowReads <= in.W+in.Halo
}

// regular is the number of tiles of a row that begin at a multiple of 4 and end inside it.
func (r *rowTiles) regular() int { return r.out.W / rowSide }

// transform transforms a row of images [n, n+images), where a.row and a.down are the distances between
// images: tile t of block b goes to v[t*next+b*blockStep:].
func (r *rowTiles) transform(a *winogradTile, v, x []float32, n, images, h, next int) {
	for b := range r.in.Blocks() {
		at := r.in.at(n, b, h, -r.left)
		a.next = next
		if a.n = r.regular(); a.n > 0 {
			a.pixels, a.positions, a.rows = x[at:], v[b*r.in.Lanes:], images
			rowInput(a)
		}
		if r.regular() < r.wide {
			a.pixels, a.positions = x[at+(r.out.W-rowSide)*r.in.Lanes:], v[(r.wide-1)*next+b*r.in.Lanes:]
			a.n, a.rows = 1, images
			rowInput(a)
		}
	}
}

// transformWeights transforms the weights of an output block, [C][kh][5][16] by
// blocks of C, to [8][kh][C][16].
func (r *rowTiles) transformWeights(u, weights []float32, step int) {
	a := winogradTile{step: step, next: Block}
	r.eachTap(func(taps, position, channels int) {
		a.n, a.row = channels, channels*Block
		a.pixels, a.positions = weights[taps:], u[position:]
		rowWeights(&a)
	})
}

// perBlock is the number of floats of the weights of an output block, transformed that of a position's.
func (r *rowTiles) perBlock() (weights, position int) {
	rows := r.in.C * r.kh * Block
	return rows * rowTap, rows
}

// eachTap calls f for the rows of the kernel of every block of channels, with where an
// output block has their weights.
func (r *rowTiles) eachTap(f func(taps, position, channels int)) {
	for b := range r.in.Blocks() {
		real := r.in.real(b)
		for kh := range r.kh {
			taps := b*r.in.Lanes*r.kh*rowTap + kh*rowTap*real
			f(taps*Block, (kh*r.in.C+b*r.in.Lanes)*Block, real)
		}
	}
}

// mostRows bounds the rows of a kernel.
const mostRows = 16

// rowPass is a planned convolution from one map to another along rows: forward, or backward-data. V of a
// chunk is [8][row][image][tile][C], M is [8][row][image][tile][16] or of 8 lanes.
type rowPass struct {
	rowTiles
	flip   *Conv // the convolution that this is the backward-data of
	groups int   // of images
	images int   // that a group has at most
	parts  int   // of the rows of y
	vNext  int   // floats between tiles of V
	vStep  int   // between positions
	mStep  int
}

func newRowPass(in, out Layout, kh, top, left int, flip *Conv) *rowPass {
	r, ok := newRows(in, out, kh, top, left)
	if !ok || kh > mostRows {
		return nil
	}
	p := &rowPass{rowTiles: r, flip: flip}
	p.groups = (out.N + max(1, rowWanted/p.wide) - 1) / max(1, rowWanted/p.wide)
	p.images = (out.N + p.groups - 1) / p.groups
	p.vNext = max(4, in.Blocks()*in.Lanes)
	if p.vNext%128 == 0 {
		p.vNext += Block
	}
	// V and M of a chunk should stay in the second-level cache, and there should be
	// enough chunks for some threads.
	tiles := p.images * p.wide
	high := max(rowSide, nearFloats/2/(rowPositions*tiles*(p.vNext+out.Lanes))-kh)
	p.parts = max((out.H+high-1)/high, min((15+p.groups)/p.groups, out.H/8), 1)
	high = (out.H + p.parts - 1) / p.parts
	p.vStep, p.mStep = apart(min(in.H, high+kh-1)*tiles*p.vNext), apart(high*tiles*out.Lanes)
	return p
}

// WeightSize is the number of floats of the transformed weights: [8][O/16][kh][C][16].
func (p *rowPass) WeightSize() int { return rowPositions * p.uStep() }

func (p *rowPass) uStep() int { return apart(p.out.Blocks() * p.kh * p.in.C * Block) }

func (p *rowPass) TransformChunks() int { return p.out.Blocks() }

func (p *rowPass) TransformScratch() int {
	n, _ := p.perBlock()
	return flipScratch(p.flip, n)
}

// Flips reports whether Transform flips the weights.
func (p *rowPass) Flips() bool { return p.flip != nil }

// Transform transforms packed weights.
func (p *rowPass) Transform(chunk int, scratch, u, packed []float32) {
	n, _ := p.perBlock()
	p.TransformBlock(chunk, scratch, u, blockWeights(p.flip, chunk, n, scratch, packed))
}

// TransformBlock transforms the weights of an output block.
func (p *rowPass) TransformBlock(chunk int, _, u, weights []float32) {
	_, position := p.perBlock()
	p.transformWeights(u[chunk*position:], weights, p.uStep())
}

func (p *rowPass) Chunks() int { return p.groups * p.parts }

func (p *rowPass) Scratch() int { return rowPositions * (p.vStep + p.mStep) }

func (p *rowPass) Moments() Moments { return Moments{p.out.Blocks(), p.Chunks()} }

// Run computes rows of y of some images.
func (p *rowPass) Run(chunk int, scratch, y, x, u []float32, e Epilogue) {
	n, end := span(p.out.N, chunk/p.parts, p.groups)
	images := end - n
	first, last := span(p.out.H, chunk%p.parts, p.parts)
	v, m := scratch[:rowPositions*p.vStep], scratch[rowPositions*p.vStep:][:rowPositions*p.mStep]
	from, to := max(0, first-p.top), min(p.in.H, last-p.top+p.kh-1)
	a := winogradTile{step: p.vStep, row: p.in.image(), down: p.wide * p.vNext, lanes: p.in.Lanes}
	for h := from; h < to; h++ {
		p.transform(&a, v[(h-from)*images*p.wide*p.vNext:], x, n, images, h, p.vNext)
	}
	for ob := range p.out.Blocks() {
		p.products(m, v, u[ob*p.kh*p.in.C*Block:], images*p.wide, first, last, from)
		for h := first; h < last; h++ {
			p.back(y, m[(h-first)*images*p.wide*p.out.Lanes:], n, images, ob, h, e)
		}
		for i := n; i < end; i++ {
			e.finish(&p.out, y, i, ob, first, last)
		}
		if e.Moments != nil {
			var s moments
			for h := first; h < last; h++ {
				for i := n; i < end; i++ {
					s.add(y[p.out.at(i, ob, h, 0):][:p.out.W*Block])
				}
			}
			s.store(e.Moments[(chunk*p.out.Blocks()+ob)*record:])
		}
		for i := n; i < end; i++ {
			p.out.clearHalo(y, i, ob, first, last)
		}
	}
}

// products multiplies rows [first, last) of so many tiles: a position after the other, so that its part of V
// and U stays in the first-level cache, or several whose parts of U do. Rows of the kernel outside the map
// are left out; rows of y without such go into the loop together.
func (p *rowPass) products(m, v, u []float32, tiles, first, last, from int) {
	var runs [mostRows]run
	for k := range p.kh {
		runs[k] = run{k * tiles * p.vNext, p.in.C}
	}
	t := tile{xStride: p.vNext, yStride: p.out.Lanes, narrow: p.out.narrow()}
	whole := p.in.H + p.top - p.kh + 1 // the first row of y below top that misses one
	deep := p.kh * p.in.C * Block
	each := max(1, min(rowPositions, firstFloats/deep, mostProducts/((last-first)*tiles*deep)))
	for i := 0; i < rowPositions; i += each {
		t.again[0] = again{times: min(each, rowPositions-i), x: p.vStep, y: p.mStep, w: p.uStep()}
		for h, many := first, 0; h < last; h += many {
			lo, hi := max(0, p.top-h), min(p.kh, p.in.H+p.top-h)
			if many = 1; hi-lo == p.kh {
				many = min(last, whole) - h
			}
			t.runs, t.w = runs[:hi-lo], u[i*p.uStep()+lo*p.in.C*Block:]
			t.x, t.y = v[i*p.vStep+(h-p.top+lo-from)*tiles*p.vNext:],
				m[i*p.mStep+(h-first)*tiles*p.out.Lanes:]
			if t.again[0].times > 1 {
				t.row(many * tiles)
				continue
			}
			t.w = t.w[:(hi-lo)*p.in.C*Block]
			rowOfTiles(many*tiles, &t)
		}
	}
}

// back computes row h of y of images from n on from M.
func (p *rowPass) back(y, m []float32, n, images, ob, h int, e Epilogue) {
	lanes := p.out.Lanes
	a := winogradTile{step: p.mStep, row: p.out.image(), down: p.wide * lanes, next: lanes, lanes: lanes,
		act: e.act()}
	if e.Bias != nil {
		a.bias = e.Bias[ob*Block:][:Block]
	}
	beside := e.beside()
	tiles := func(n, at int, m []float32) {
		a.n, a.rows, a.pixels, a.positions = n, images, y[at:], m
		if beside != nil {
			a.res = beside[at:]
		}
		rowOutput(&a)
	}
	at := p.out.at(n, ob, h, 0)
	if p.regular() > 0 {
		tiles(p.regular(), at, m)
	}
	if p.regular() < p.wide {
		tiles(1, at+(p.out.W-rowSide)*lanes, m[(p.wide-1)*lanes:])
	}
}

// rowWeightsPass is the gradient of a convolution's weights along rows:
//
//	dw[kh] = G' sum over rows and tiles of (B' x[h-top+kh]) . (A dy[h])
type rowWeightsPass struct {
	rowTiles
	groups int // partial sums
	parts  int // of the rows of dy
	images int // that are transformed at a time
	high   int // rows of dy that a part has at most
	vRow   int // floats between rows of V
	vNext  int // between tiles
	vStep  int // between positions
	dNext  int
	dBlock int
	dStep  int
	uStep  int
	runs   []run
}

func newRowWeights(c *Conv) *rowWeightsPass {
	in := c.X
	r, ok := newRows(in, c.DY, c.KH, c.PadTop, c.PadLeft)
	if bottom := c.DY.H - c.PadTop + c.KH - 1 - in.H; !ok || in.Halo < max(c.PadTop, bottom) {
		return nil
	}
	w := &rowWeightsPass{rowTiles: r}
	o := w.out
	w.vRow = in.Blocks() * in.Lanes
	// The tiles of a position should stay in the first-level cache, all of them in the second.
	tile := func(high int) int { return (high+w.kh-1)*w.vRow + high*o.Lanes*o.Blocks() }
	w.parts = 1
	for w.parts < o.H/8 && rowPositions*w.wide*tile(o.H/w.parts) > nearFloats/2 {
		w.parts++
	}
	w.high = (o.H + w.parts - 1) / w.parts
	w.images = 1
	if w.parts == 1 {
		w.images = max(1, min(8, 6<<10/(w.wide*tile(o.H)), (o.N+15)/16))
	}
	w.groups = min(16, w.units())
	w.vNext = (w.high+w.kh-1)*w.vRow + 4 // where 4 lanes are written for fewer
	w.dNext = w.high * o.Lanes
	w.dBlock = w.images * w.wide * w.dNext
	w.vStep, w.dStep = apart(w.images*w.wide*w.vNext), apart(o.Blocks()*w.dBlock)
	w.uStep = apart(o.Blocks() * w.kh * in.C * Block)
	if w.vRow == in.C {
		w.runs = []run{{0, w.kh * in.C}}
		return w
	}
	for k := range w.kh {
		w.runs = append(w.runs, run{k * w.vRow, in.C})
	}
	return w
}

// units counts the pieces that are transformed at a time: images or parts of one.
func (w *rowWeightsPass) units() int { return (w.out.N + w.images - 1) / w.images * w.parts }

func (w *rowWeightsPass) Chunks() int { return w.groups }

// edge is the number of floats of the last tile of a row of dy in all images.
func (w *rowWeightsPass) edge() int { return roundBlock(w.images * rowSide * w.out.Lanes) }

func roundBlock(n int) int { return (n + Block - 1) / Block * Block }

func (w *rowWeightsPass) Scratch() int {
	return w.edge() + rowPositions*(w.vStep+w.dStep+w.uStep)
}

func (w *rowWeightsPass) Sums() int { return w.groups * w.weights() }

func (w *rowWeightsPass) weights() int { return w.out.Blocks() * w.in.C * w.kh * rowTap * Block }

// Run writes the gradient over a group of images into sums.
func (w *rowWeightsPass) Run(chunk int, scratch, sums, x, dy []float32) {
	edge, scratch := scratch[:w.edge()], scratch[w.edge():]
	v, scratch := scratch[:rowPositions*w.vStep], scratch[rowPositions*w.vStep:]
	d, u := scratch[:rowPositions*w.dStep], scratch[rowPositions*w.dStep:][:rowPositions*w.uStep]
	clear(u)
	lo, hi := span(w.units(), chunk, w.groups)
	for unit := lo; unit < hi; unit++ {
		n := unit / w.parts * w.images
		images := min(w.images, w.out.N-n)
		first, last := span(w.out.H, unit%w.parts, w.parts)
		a := winogradTile{step: w.vStep, row: w.in.image(), down: w.wide * w.vNext, lanes: w.in.Lanes}
		for h := range last - first + w.kh - 1 {
			w.transform(&a, v[h*w.vRow:], x, n, images, first-w.top+h, w.vNext)
		}
		for ob := range w.out.Blocks() {
			for h := first; h < last; h++ {
				w.gradient(d[ob*w.dBlock+(h-first)*w.out.Lanes:], edge, dy, n, images, ob, h)
			}
		}
		w.products(u, v, d, images*w.wide, last-first)
	}
	dw := sums[chunk*w.weights():][:w.weights()]
	a := winogradTile{step: w.uStep, next: Block}
	perBlock, perPosition := w.perBlock()
	for ob := range w.out.Blocks() {
		w.eachTap(func(taps, position, channels int) {
			a.n, a.row = channels, channels*Block
			a.pixels, a.positions = dw[ob*perBlock+taps:], u[ob*perPosition+position:]
			rowTaps(&a)
		})
	}
}

// gradient transforms row h of block ob of dy. Of a last tile that begins inside the tile before it
// leaves out what that has.
func (w *rowWeightsPass) gradient(d, edge, dy []float32, n, images, ob, h int) {
	lanes, at := w.out.Lanes, w.out.at(n, ob, h, 0)
	a := winogradTile{step: w.dStep, row: w.out.image(), down: w.wide * w.dNext, next: w.dNext, lanes: lanes}
	if a.n = w.regular(); a.n > 0 {
		a.pixels, a.positions, a.rows = dy[at:], d, images
		rowGradient(&a)
	}
	if w.regular() == w.wide {
		return
	}
	again := (rowSide*w.wide - w.out.W) * lanes
	for i := range images {
		tile := edge[i*rowSide*lanes:][:rowSide*lanes]
		clear(tile[:again])
		copy(tile[again:], dy[at+i*w.out.image()+w.regular()*rowSide*lanes:])
	}
	a.pixels, a.positions = edge, d[(w.wide-1)*w.dNext:]
	a.row, a.n, a.rows = rowSide*lanes, 1, images
	rowGradient(&a)
}

// products adds the products of tiles of high rows to u.
func (w *rowWeightsPass) products(u, v, d []float32, tiles, high int) {
	t := gradTile{rows: tiles, cols: high, xStride: w.vRow, xRow: w.vNext, dyStride: w.out.Lanes,
		dyRow: w.dNext, narrow: w.out.narrow()}
	most := gradDepth(t.narrow)
	for i := range rowPositions {
		for ob := range w.out.Blocks() {
			t.dy = d[i*w.dStep+ob*w.dBlock:]
			at := i*w.uStep + ob*w.kh*w.in.C*Block
			for _, r := range w.runs {
				wide, countWide, narrow, countNarrow := widths(r.length, most)
				from := i*w.vStep + r.offset
				for k := range countWide + countNarrow {
					deep := wide
					if k >= countWide {
						deep = narrow
					}
					t.x, t.dw = v[from:], u[at:]
					gradTiles(deep, &t)
					from, at = from+deep, at+deep*Block
				}
			}
		}
	}
}

func (w *rowWeightsPass) ReduceChunks() int { return (w.weights() + reduceSpan - 1) / reduceSpan }

func (w *rowWeightsPass) Reduce(chunk int, dw, sums []float32) {
	reduce(chunk, dw, sums, w.weights(), w.groups)
}
