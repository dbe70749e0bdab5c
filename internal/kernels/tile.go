package kernels

// run is a stretch of the reduction of a convolution: length consecutive floats of x at offset from the
// window's origin, and as many rows of 16 weights.
type run struct{ offset, length int }

// tile is a call of the convolution's inner loop: n tiles of p pixels each, 16 output channels or 8. The
// assembly reads the fields by their place, and keeps its own place in the last of them.
//
// Pixel i of tile t reads x[fromX+t*xNext+i*xStride+...] and writes y[fromY+t*yNext+i*yStride:][:16]: the
// tiles follow one another in a row of the map, or are rows of it. Pixels 7, 14 and 21 need not follow the
// ones before: a tile can have several short rows.
type tile struct {
	y, x, w []float32
	bias    []float32 // nil or 16
	res     []float32 // nil or as y
	runs    []run
	xStride int
	yStride int
	n       int
	act     int // activation
	xNext   int // floats to the next tile
	yNext   int
	narrow  bool  // y, bias and res have 8 lanes
	taps    []tap // instead of runs, of a depthwise convolution
	high    float32
	per     int // channels of a group, 1 or 4, where there are taps
	// wNext is the floats from the panel at w to a second one, whose outputs stand 16 floats from the first's
	// in the bias and yBeside floats (0: 16) in y and res. 0: there is none. Meanwhile the processor fetches
	// what lies at ahead, aheadStep bytes further on every four floats of a run.
	wNext     int
	ahead     []float32
	aheadStep int
	xApart    [2]int // floats to pixels 7 and 14; to pixel 21 it is their sum
	yApart    [2]int // 0 where pixels follow one another
	yBeside   int
	again     [2]again // the first within the second
	fromX     int      // floats to the first pixel of the first tile
	fromY     int
	_         [5]int // where the assembly is: its y, x, w and res, and the tiles left
}

// again says that tiles are computed several times: the next time from x and w and to y and
// res so many floats further.
type again struct {
	times, y, x, w   int // 0 times is once
	left             int // times, which the assembly counts down
	hopY, hopX, hopW int // floats from where the assembly is after the tiles
}

// more is how many times follow the first.
func (r *again) more() int { return max(0, r.times-1) }

// group is how many pixels of a tile follow one another for sure.
const group = 7

// placeOf is where pixel i of a tile lies.
func placeOf(i, stride int, apart [2]int) int {
	return i%group*stride + i/group&1*apart[0] + i/group>>1*apart[1]
}

// settle says where the pixels lie, if nobody has.
func (a *tile) settle() {
	if a.yApart[0] == 0 {
		a.xApart = [2]int{group * a.xStride, 2 * group * a.xStride}
		a.yApart = [2]int{group * a.yStride, 2 * group * a.yStride}
	}
	if a.yBeside == 0 {
		a.yBeside = Block
	}
	if a.ahead == nil { // the processor would look for an address that is none
		a.ahead = a.w
	}
	y, x, w := a.n*a.yNext, a.n*a.xNext, 0
	for i := range a.again {
		r := &a.again[i]
		if r.left = r.times; r.times > 1 {
			r.hopY, r.hopX, r.hopW = r.y-y, r.x-x, r.w-w
			y, x, w = y+r.y*r.more(), x+r.x*r.more(), w+r.w*r.more()
		}
	}
}

// lanes is the number of output channels.
func (a *tile) lanes() int {
	if a.wNext > 0 {
		return 2 * Block
	}
	return lanes(a.narrow)
}

// width is the number of pixels of the widest tile.
func (a *tile) width() int {
	switch {
	case a.per == 4:
		return quadWidth()
	case a.wNext > 0:
		return pairWidth()
	}
	return tileWidth(a.narrow)
}

func lanes(narrow bool) int {
	if narrow {
		return narrowBlock
	}
	return Block
}

// convTilesGo computes, for every pixel i < p of n tiles t and every lane o of 16,
//
//	y[at+o] = finish( bias[o] + sum over runs r, k < r.length of x[t*xNext+i*xStride+r.offset+k] * w[k'*16+o], res[at+o] ),
//	at = t*yNext+i*yStride,
//
// where x and y begin at fromX and fromY, k' counts on through the runs and finish is the epilogue; all that
// as often as again says. Lanes from 16 on have their weights at w[wNext:].
func convTilesGo(p int, a *tile) {
	for i := range a.times() {
		b := a.time(i)
		panelsGo(p, &b)
	}
}

// panelsGo is convTilesGo for one time.
func panelsGo(p int, a *tile) {
	if a.wNext == 0 {
		panelTilesGo(p, a)
		return
	}
	a.settle()
	for i := range 2 {
		b := *a
		b.wNext = 0
		b.y, b.w = a.y[i*a.yBeside:], a.w[i*a.wNext:cap(a.w)]
		if a.bias != nil {
			b.bias = a.bias[i*Block:]
		}
		if a.res != nil {
			b.res = a.res[i*a.yBeside:]
		}
		panelTilesGo(p, &b)
	}
}

// times is how often the tiles are computed.
func (a *tile) times() int { return max(1, a.again[0].times) * max(1, a.again[1].times) }

// time is the call of time i alone.
func (a *tile) time(i int) tile {
	b := *a
	b.again = [2]again{}
	for _, r := range a.again {
		n := max(1, r.times)
		b.fromY, b.fromX, b.w = b.fromY+i%n*r.y, b.fromX+i%n*r.x, b.w[i%n*r.w:]
		i /= n
	}
	return b
}

// pixel is where pixel i of tile t lies.
func (a *tile) pixel(t, i int) (x, y int) {
	return a.fromX + t*a.xNext + placeOf(i, a.xStride, a.xApart), a.fromY + t*a.yNext + placeOf(i,
		a.yStride, a.yApart)
}

// panelTilesGo is convTilesGo for one panel of weights.
func panelTilesGo(p int, a *tile) {
	a.settle()
	lanes := a.lanes()
	for j := range a.n * p {
		i := j % p
		from, at := a.pixel(j/p, i)
		var acc [Block]float32
		copy(acc[:], a.bias)
		w := a.w
		for _, r := range a.runs {
			x := a.x[from+r.offset:][:r.length]
			for k, v := range x {
				row := w[k*Block:][:lanes]
				for o, f := range row {
					acc[o] += v * f
				}
			}
			w = w[r.length*Block:]
		}
		y := a.y[at:][:lanes]
		for o, v := range acc[:lanes] {
			y[o] = a.finish(v, at+o)
		}
	}
}

// gradTile is a call of the inner loop of the gradient of weights: the products of k consecutive floats of x
// with 16 lanes of dy, summed over the pixels of some rows.
type gradTile struct {
	dw, x, dy       []float32
	rows, cols      int
	xStride, xRow   int // floats between pixels and between rows
	dyStride, dyRow int
	apart           int  // floats between runs of x, where there are several
	narrow          bool // dy has 8 lanes
}

// gradTilesGo computes, for t < k and every lane o of 16,
//
//	dw[t*16+o] += sum over rows r, cols c of x[r*xRow+c*xStride+t] * dy[r*dyRow+c*dyStride+o]
func gradTilesGo(k int, a *gradTile) {
	lanes := lanes(a.narrow)
	for t := range k {
		acc := a.dw[t*Block:][:lanes]
		for r := range a.rows {
			for c := range a.cols {
				v := a.x[r*a.xRow+c*a.xStride+t]
				dy := a.dy[r*a.dyRow+c*a.dyStride:][:lanes]
				for o := range acc {
					acc[o] += v * dy[o]
				}
			}
		}
	}
}

// gradRunsGo computes, for i < m, t < k and every lane o of 16,
//
//	dw[(i*k+t)*16+o] += sum over rows r, cols c of x[r*xRow+c*xStride+i*apart+t] * dy[r*dyRow+c*dyStride+o]
func gradRunsGo(m, k int, a *gradTile) {
	for i := range m {
		b := *a
		b.x, b.dw = a.x[i*a.apart:], a.dw[i*k*Block:]
		gradTilesGo(k, &b)
	}
}

// check panics where the call would leave a slice: the assembly does not look.
func (a *tile) check(p int) {
	a.settle()
	lastX, lastY := a.pixel(a.n-1, p-1)
	lastW, k := a.wNext, 0
	for i := range a.again {
		r := &a.again[i]
		lastX, lastY, lastW = lastX+r.x*r.more(), lastY+r.y*r.more(), lastW+r.w*r.more()
	}
	for _, t := range a.taps {
		_, _ = a.x[t.x:t.x+lastX+Block], a.w[t.w+lastW:t.w+lastW+a.per*Block]
	}
	for _, r := range a.runs {
		_ = a.x[r.offset : r.offset+lastX+r.length]
		k += r.length
	}
	_ = a.w[lastW : lastW+k*Block]
	lanes := a.lanes()
	if a.wNext > 0 {
		lanes = a.yBeside + Block
	}
	_ = a.y[lastY:][:lanes]
	if a.res != nil {
		_ = a.res[lastY:][:lanes]
	}
	if a.bias != nil {
		_ = a.bias[:max(Block, a.lanes())]
	}
}

func (a *gradTile) check(m, k int) {
	_ = a.dw[:m*k*Block]
	_ = a.x[(a.rows-1)*a.xRow+(a.cols-1)*a.xStride+(m-1)*a.apart:][:k]
	_ = a.dy[(a.rows-1)*a.dyRow+(a.cols-1)*a.dyStride:][:lanes(a.narrow)]
}

// widths splits a row of n pixels into tiles of nearly equal width, at most most: first tiles of a
// pixels, then tiles of b = a-1.
func widths(n, most int) (a, countA, b, countB int) {
	tiles := (n + most - 1) / most
	b = n / tiles
	countA = n - b*tiles
	return b + 1, countA, b, tiles - countA
}

// mostProducts bounds the multiplications of one call of the inner loop, which cannot
// be preempted: about 70 us.
const mostProducts = 4 << 20

// products is about the multiplications of a pixel.
func (a *tile) products() int {
	if a.wNext > 0 {
		return 2 * a.wNext
	}
	return len(a.w)
}

// rowOfTiles runs the inner loop over n pixels.
func rowOfTiles(n int, a *tile) {
	most := max(a.width(), mostProducts/max(1, a.products()))
	x, y := a.fromX, a.fromY
	for done := 0; done < n; done += most {
		a.fromX, a.fromY = x+done*a.xStride, y+done*a.yStride
		a.row(min(most, n-done))
	}
	a.fromX, a.fromY = x, y
}

// row runs the inner loop over n pixels without a pause, as often as a.again says.
func (a *tile) row(n int) {
	wide, countWide, narrow, countNarrow := widths(n, a.width())
	x, y := a.fromX, a.fromY
	if countWide > 0 {
		a.n, a.xNext, a.yNext = countWide, wide*a.xStride, wide*a.yStride
		a.run(wide)
		a.fromX, a.fromY = x+countWide*a.xNext, y+countWide*a.yNext
	}
	if countNarrow > 0 {
		a.n, a.xNext, a.yNext = countNarrow, narrow*a.xStride, narrow*a.yStride
		a.run(narrow)
	}
	a.fromX, a.fromY = x, y
}

// run runs the inner loop over tiles of p pixels, and moves on what is fetched ahead.
func (a *tile) run(p int) {
	convTiles(p, a)
	if a.aheadStep > 0 {
		a.ahead = a.ahead[min(len(a.ahead), a.n*a.times()*(a.wNext/Block/4)*a.aheadStep/4):]
	}
}

// What becomes of the sums of a convolution at last, as the assembly reads it.
const (
	asTheyAre = iota
	clipped   // 0 where they are not positive: ReLU
	masked    // 0 where res is not positive, which is not added: ReLU's gradient
	between   // clipped, and high where they are larger: ReLU6
)

// Epilogue is what a convolution does to its sums before it stores them: add the bias (nil, or padded with
// zeros to a multiple of 16) and the residual (nil, or of y's layout), then clip at zero; or, with a mask (of
// y's layout), clear what lies where the mask is not positive. A mask excludes residual and ReLU.
type Epilogue struct {
	Bias, Residual, Mask []float32
	ReLU                 bool
	High                 float32 // where ReLU clips above, 0 for nowhere; Winograd's passes do not
	// Then is a function of what all that gives, nil for none: taken while it is in the cache.
	Then *Map
	// Moments, of the size that the convolution's Moments tells, takes the statistics of what is written; nil
	// leaves them out. A forward pass writes them, backward-data does not.
	Moments []float32
}

// finish takes Then of rows [lo, hi) of block b of image n.
func (e *Epilogue) finish(l *Layout, y []float32, n, b, lo, hi int) {
	if e.Then == nil {
		return
	}
	rows, width := hi-lo, l.W*l.Lanes
	if l.Halo == 0 {
		rows, width = 1, rows*width
	}
	for h := lo; h < lo+rows; h++ {
		row := y[l.at(n, b, h, 0):][:width]
		e.Then.Forward(row, row)
		if l.real(b) < l.Lanes && !e.Then.KeepsZero() {
			clearLanes(row, l.real(b), l.Lanes)
		}
	}
}

func (e Epilogue) act() int {
	switch {
	case e.Mask != nil:
		return masked
	case e.ReLU && e.High > 0:
		return between
	case e.ReLU:
		return clipped
	}
	return asTheyAre
}

// beside is the map that is read pixel by pixel with y: residual or mask.
func (e Epilogue) beside() []float32 {
	if e.Mask != nil {
		return e.Mask
	}
	return e.Residual
}

// finish applies an epilogue to one sum; res is beside it.
func finish(act int, v float32, res []float32, at int) float32 {
	switch {
	case act == masked:
		if !(res[at] > 0) {
			return 0
		}
		return v
	case res != nil:
		v += res[at]
	}
	if (act == clipped || act == between) && v < 0 { // NaN stays
		return 0
	}
	return v
}

// finish applies the tile's epilogue to one sum.
func (a *tile) finish(v float32, at int) float32 {
	if v = finish(a.act, v, a.res, at); a.act == between && v > a.high {
		return a.high
	}
	return v
}

// rowsOfTiles runs the inner loop over rows of n pixels each, xRow and yRow floats apart.
// Rows of few products go into the loop together, and into a tile where they follow one
// another or are whole groups of it.
func rowsOfTiles(rows, n, xRow, yRow int, a *tile) {
	if xRow == n*a.xStride && yRow == n*a.yStride {
		rowOfTiles(rows*n, a)
		return
	}
	width := a.width()
	if each := rowsOfTile(n, width); each > 1 && rows > 1 {
		tilesOfRows(rows, n, each, xRow, yRow, a)
		return
	}
	together := max(1, min(rows, mostProducts/max(1, n*a.products())))
	tiles := (n + width - 1) / width
	if n%tiles > 0 { // the tiles of each width go through all rows
		together = max(1, min(together, firstFloats/max(1, xRow)))
	}
	x, y := a.fromX, a.fromY
	for done := 0; done < rows; done += together {
		a.fromX, a.fromY = x+done*xRow, y+done*yRow
		many := min(together, rows-done)
		switch {
		case many == 1:
			rowOfTiles(n, a)
		case tiles == 1:
			a.n, a.xNext, a.yNext = many, xRow, yRow
			a.run(n)
		default:
			a.again[0] = again{times: many, x: xRow, y: yRow}
			a.row(n)
			a.again[0].times = 0
		}
	}
	a.fromX, a.fromY = x, y
}

// rowsOfTile is how many rows of n pixels fill a tile of at most width pixels.
func rowsOfTile(n, width int) int {
	if width < 2*group || width%group != 0 || n != group && n != 2*group {
		return 1
	}
	return width / n
}

// tilesOfRows is rowsOfTiles for rows of 7 or 14 pixels, of which each go into a tile.
func tilesOfRows(rows, n, each, xRow, yRow int, a *tile) {
	x, y := a.fromX, a.fromY
	a.xApart, a.yApart = [2]int{xRow, 2 * xRow}, [2]int{yRow, 2 * yRow}
	if n > group {
		a.xApart, a.yApart = [2]int{group * a.xStride, xRow}, [2]int{group * a.yStride, yRow}
	}
	high, countHigh, low, countLow := widths(rows, each)
	most := max(1, mostProducts/max(1, each*n*a.products())) // tiles of a call
	done := 0
	for _, t := range [2]struct{ rows, tiles int }{{high, countHigh}, {low, countLow}} {
		for tiles := t.tiles; tiles > 0; tiles -= a.n {
			a.fromX, a.fromY = x+done*xRow, y+done*yRow
			a.n, a.xNext, a.yNext = min(tiles, most), t.rows*xRow, t.rows*yRow
			a.run(t.rows * n)
			done += a.n * t.rows
		}
	}
	a.fromX, a.fromY = x, y
	a.yApart = [2]int{}
}

// flag is a bool as the assembly takes it.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
