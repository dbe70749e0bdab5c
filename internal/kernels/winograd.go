package kernels

const (
	side      = 4 // pixels of y that a tile has in each direction
	positions = 36
)

// Winograd is a convolution of stride 1 and no dilation by Winograd's method: of kernel 3x3 by
// F(4x4,3x3), with a quarter of the multiplications; of kernels with rows of 5 taps by F(4,5) along
// rows, with two fifths; less what tiles at the edge waste. It stands beside a Conv, whose packed
// weights and gradients it shares.
type Winograd struct {
	Forward WinogradPass
	Data    WinogradPass // from dy
	Weights WinogradWeights
}

// WinogradPass is a planned convolution from one map to another: forward, or backward-data.
type WinogradPass interface {
	// Form names the form of the transformed weights: passes of one form read the same.
	Form() string
	// WeightSize is the number of floats of the transformed weights.
	WeightSize() int
	// Transform transforms packed weights in so many chunks: one an output block.
	Transform(chunk int, scratch, u, packed []float32)
	TransformChunks() int
	TransformScratch() int
	// TransformBlock is Transform from the packed weights of the output block alone, where
	// the pass does not flip them.
	TransformBlock(chunk int, scratch, u, weights []float32)
	Flips() bool
	// Run computes a part of y = conv(x, w) from transformed weights, in so many chunks.
	Run(chunk int, scratch, y, x, u []float32, e Epilogue)
	Chunks() int
	Scratch() int
	// Moments describes the records of Run.
	Moments() Moments
	// Cost estimates Run and, unless the weights are constant, Transform.
	Cost(constant bool) float64
}

// WinogradWeights is a planned gradient of a convolution's weights.
type WinogradWeights interface {
	// Run writes a part of the partial sums, of so many floats, in so many chunks.
	Run(chunk int, scratch, sums, x, dy []float32)
	Chunks() int
	Scratch() int
	Sums() int
	// Reduce adds the partial sums in their order into the packed gradient, in so many chunks.
	Reduce(chunk int, dw, sums []float32)
	ReduceChunks() int
	// Cost estimates Run.
	Cost() float64
}

// NewWinograd plans c by Winograd's method; a nil pass says that the direct kernel does better or the method
// does not fit. constant says that the weights are transformed once and for all. c may be one of so many
// portions of a batch: what does better is asked of the whole, for the bits do not depend on portions.
func NewWinograd(c *Conv, constant bool, portions int) *Winograd {
	w := planWinograd(c)
	whole, all := w, c
	if portions > 1 {
		all = c.times(portions)
		whole = planWinograd(all)
	}
	if w.Forward != nil && whole.Forward != nil && whole.Forward.Cost(constant) >= all.ForwardCost() {
		w.Forward = nil
	}
	if w.Data != nil && whole.Data != nil && whole.Data.Cost(constant) >= all.BackwardDataCost() {
		w.Data = nil
	}
	if w.Weights != nil && whole.Weights != nil && whole.Weights.Cost() >= all.BackwardWeightsCost() {
		w.Weights = nil
	}
	return w
}

// times is c for so many times its images.
func (c *Conv) times(n int) *Conv {
	all := *c
	for _, l := range []*Layout{&all.X, &all.Y, &all.DX, &all.DY} {
		l.N *= n
	}
	return &all
}

// planWinograd plans the passes that the method fits, whether they pay or not.
func planWinograd(c *Conv) *Winograd {
	w := &Winograd{}
	switch {
	case c.StrideH != 1 || c.StrideW != 1 || c.DilH != 1 || c.DilW != 1 || c.Group != 1:
	case c.KW == rowTap:
		w.planRows(c)
	case c.KH == 3 && c.KW == 3:
		w.planTiles(c)
	}
	return w
}

func (w *Winograd) planTiles(c *Conv) {
	if c.X.Lanes == Block && c.Y.Lanes == Block {
		w.Forward = newTilePass(c.X, c.Y, c.PadTop, c.PadLeft, nil)
	}
	if c.X.Lanes == Block && c.DY.Lanes == Block {
		w.Weights = newTileWeights(c)
	}
	if c.DX.Lanes == Block && c.DY.Lanes == Block && c.PadTop <= 2 && c.PadLeft <= 2 {
		w.Data = newTilePass(c.DY, c.DX, 2-c.PadTop, 2-c.PadLeft, c)
	}
}

func (w *Winograd) planRows(c *Conv) {
	if p := newRowPass(c.X, c.Y, c.KH, c.PadTop, c.PadLeft, nil); p != nil {
		w.Forward = p
	}
	if p := newRowWeights(c); p != nil {
		w.Weights = p
	}
	if c.DX.Lanes < narrowBlock { // nothing writes so few lanes
		return
	}
	if p := newRowPass(c.DY, c.DX, c.KH, c.KH-1-c.PadTop, rowTap-1-c.PadLeft, c); p != nil {
		w.Data = p
	}
}

// blockWeights is the weights of an output block, n floats of them, as a pass reads them: packed, or flipped
// into scratch where flip is the convolution that the pass is the backward-data of.
func blockWeights(flip *Conv, block, n int, scratch, packed []float32) []float32 {
	if flip == nil {
		return packed[block*n:][:n]
	}
	flip.flipBlock(block, scratch[:n], packed)
	return scratch[:n]
}

func flipScratch(flip *Conv, n int) int {
	if flip == nil {
		return 0
	}
	return n
}

// tiles says how a map that is read lies under the tiles of one that is computed: the tile that computes
// pixels from (h, w) on reads from (h-top, w-left) on. Tiles lie side by side; those that may overlap end
// with the map instead of beyond it, so that all that they read is inside the halo.
type tiles struct {
	in         Layout
	outH, outW int
	top, left  int
	high       int // rows of tiles an image has
	wide       int // tiles a row has
	reads      int // pixels a tile reads in each direction
	overlap    bool
}

func newTiles(in Layout, outH, outW, top, left, reads int) tiles {
	return tiles{in: in, outH: outH, outW: outW, top: top, left: left, high: (outH + side - 1) / side,
		wide: (outW + side - 1) / side, reads: reads}
}

// rows is the number of rows of tiles of all images.
func (t *tiles) rows() int { return t.in.N * t.high }

// begin is the first pixel, of size, that tile i computes.
func (t *tiles) begin(i, size int) int {
	if t.overlap {
		return min(i*side, size-side)
	}
	return i * side
}

// regular is the number of tiles of a row that begin at a multiple of 4.
func (t *tiles) regular() int {
	if t.overlap {
		return t.outW / side
	}
	return t.wide
}

// inside reports whether a tile that reads from pixel i of size on reads nothing beyond the halo.
func (t *tiles) inside(i, size int) bool {
	return i >= -t.in.Halo && i+t.reads <= size+t.in.Halo
}

// straight is the range of the regular tiles of a row that can be read where they lie.
func (t *tiles) straight(top int) (lo, hi int) {
	if !t.inside(top, t.in.H) {
		return 0, 0
	}
	for hi = t.regular(); hi > 0 && !t.inside((hi-1)*side-t.left, t.in.W); hi-- {
	}
	for lo < hi && !t.inside(lo*side-t.left, t.in.W) {
		lo++
	}
	return lo, hi
}

// edge is the number of floats that the widest piece to be cut out has.
func (t *tiles) edge() int { return t.reads * ((t.wide-1)*side + t.reads) * Block }

// cut copies wide pixels of each row that a tile reads, from (top, left) of block b of image n on, into dst,
// [reads][wide][16], with zeros around the map.
func (t *tiles) cut(dst, x []float32, n, b, top, left, wide int) {
	halo := t.in.Halo
	first, last := max(0, -halo-left), min(wide, t.in.W+halo-left)
	for r := range t.reads {
		row := dst[r*wide*Block:][:wide*Block]
		if y := top + r; y < -halo || y >= t.in.H+halo || first >= last {
			clear(row)
			continue
		}
		clear(row[:first*Block])
		copy(row[first*Block:last*Block], x[t.in.at(n, b, top+r, left+first):])
		clear(row[last*Block:])
	}
}

// kernel is B' x B for tiles that read 6x6 pixels, A x A' for those that read 4x4. (A function value would
// move its argument to the heap.)
func (t *tiles) kernel(a *winogradTile) {
	if t.reads == side {
		winogradGradient(a)
	} else {
		winogradInput(a)
	}
}

// transform transforms the tiles of row (n, h), blocks of channels from lo to hi: tile i, block b goes to
// positions[i*a.next+(b-lo)*blockStep:].
func (t *tiles) transform(a *winogradTile, edge, x []float32, n, h, lo, hi, blockStep int) {
	top := t.begin(h, t.outH) - t.top
	from, to := t.straight(top)
	base := a.positions
	for b := lo; b < hi; b++ {
		at := base[(b-lo)*blockStep:]
		ends := [...]int{from, to, t.regular(), t.wide}
		for i, w := 0, 0; i < len(ends); i, w = i+1, ends[i] {
			many, left := ends[i]-w, t.begin(w, t.outW)-t.left
			if many == 0 {
				continue
			}
			a.n, a.positions = many, at[w*a.next:]
			if t.inside(top, t.in.H) && t.inside(left, t.in.W) && t.inside(left+(many-1)*side, t.in.W) {
				a.pixels, a.row = x[t.in.at(n, b, top, left):], t.in.row()
			} else {
				wide := (many-1)*side + t.reads
				t.cut(edge, x, n, b, top, left, wide)
				a.pixels, a.row = edge, wide*Block
			}
			t.kernel(a)
		}
	}
	a.positions = base
}

// apart makes a distance between positions that does not fall into the same sets of a cache again and again.
func apart(floats int) int {
	lines := (floats + Block - 1) / Block
	return (lines | 1) * Block
}

// tilePass is F(4x4,3x3) from one map to another.
type tilePass struct {
	tiles
	out    Layout
	flip   *Conv // the convolution that this is the backward-data of
	runs   [1]run
	group  int // rows of tiles a chunk has
	parts  int // parts into which the output's blocks are divided
	vNext  int // floats between tiles of V
	vStep  int
	mStep  int
	blocks int // the most output blocks a part has
}

// spilled is the number of floats of scratch for registers.
const spilled = positions * Block

func newTilePass(in, out Layout, top, left int, flip *Conv) *tilePass {
	p := &tilePass{tiles: newTiles(in, out.H, out.W, top, left, side+2), out: out, flip: flip}
	p.overlap = out.H >= side && out.W >= side
	p.runs[0] = run{0, in.C}
	// V and M of a chunk should stay in the second-level cache, and a chunk should read the weights seldom.
	want := max(24, min(96, 320/(in.Blocks()+min(4, out.Blocks()))))
	p.group = max(1, min(p.rows(), (want+p.wide/2)/p.wide))
	p.parts = 1
	least := shares(out.N*out.H*out.W*out.C*in.C*9, 8)
	// few chunks: let two threads have as many each
	if n := max(p.groups(), min(least, p.rows(), p.rows()*p.wide/16)); n > 1 && n < 16 {
		n += n % 2
		p.group = (p.rows() + n - 1) / n
	}
	for p.parts < out.Blocks() && (out.Blocks()/p.parts > 4 && p.groups()*p.parts < 16 ||
		p.groups()*p.parts < min(least, 2)) {
		p.parts *= 2
	}
	p.blocks = (out.Blocks() + p.parts - 1) / p.parts
	n := p.group * p.wide
	p.vNext = in.Blocks() * Block
	if p.vNext%128 == 0 {
		p.vNext += Block
	}
	p.vStep, p.mStep = apart(n*p.vNext), apart(min(p.blocks, 4)*n*Block)
	return p
}

// WeightSize is the number of floats of the transformed weights: [36][O/16][C][16].
func (p *tilePass) WeightSize() int { return positions * p.uStep() }

func (p *tilePass) uStep() int { return apart(p.out.Blocks() * p.in.C * Block) }

// TransformChunks is the number of chunks of Transform: one an output block.
func (p *tilePass) TransformChunks() int { return p.out.Blocks() }

// TransformScratch is the number of floats of scratch that Transform needs.
func (p *tilePass) TransformScratch() int { return spilled + flipScratch(p.flip, p.perBlock()) }

// perBlock is the number of floats of the weights of an output block.
func (p *tilePass) perBlock() int { return p.in.C * 9 * Block }

// Flips reports whether Transform flips the weights.
func (p *tilePass) Flips() bool { return p.flip != nil }

// Transform transforms packed weights.
func (p *tilePass) Transform(chunk int, scratch, u, packed []float32) {
	p.TransformBlock(chunk, scratch, u, blockWeights(p.flip, chunk, p.perBlock(), scratch[spilled:], packed))
}

// TransformBlock transforms the weights of an output block.
func (p *tilePass) TransformBlock(chunk int, scratch, u, weights []float32) {
	a := winogradTile{spill: scratch[:spilled], step: p.uStep(), next: Block}
	for b := range p.in.Blocks() {
		a.n = p.in.real(b)
		a.row = a.n * Block
		a.pixels = weights[b*Block*9*Block:]
		a.positions = u[(chunk*p.in.C+b*Block)*Block:]
		winogradWeights(&a)
	}
}

// Chunks is the number of chunks of Run.
func (p *tilePass) Chunks() int { return p.groups() * p.parts }

func (p *tilePass) groups() int { return (p.rows() + p.group - 1) / p.group }

// Scratch is the number of floats of scratch that Run needs.
func (p *tilePass) Scratch() int { return spilled + p.spare() + positions*(p.vStep+p.mStep) }

// spare is the number of floats for what is cut out of x, and for a row of tiles at the lower edge of y.
func (p *tilePass) spare() int { return max(p.edge(), side*p.out.row(), 2*side*side*Block) }

// Run computes a part of y = conv(x, w) from transformed weights.
func (p *tilePass) Run(chunk int, scratch, y, x, u []float32, e Epilogue) {
	part, group := chunk%p.parts, chunk/p.parts
	first, last := group*p.group, min(p.rows(), (group+1)*p.group)
	n := (last - first) * p.wide
	spill, scratch := scratch[:spilled], scratch[spilled:]
	edge, scratch := scratch[:p.spare()], scratch[p.spare():]
	v, m := scratch[:positions*p.vStep], scratch[positions*p.vStep:][:positions*p.mStep]
	a := winogradTile{spill: spill, step: p.vStep, next: p.vNext}
	for r := first; r < last; r++ {
		a.positions = v[(r-first)*p.wide*p.vNext:]
		p.transform(&a, edge, x, r/p.high, r%p.high, 0, p.in.Blocks(), Block)
	}
	from, to := span(p.out.Blocks(), part, p.parts)
	for ob := from; ob < to; ob += 4 {
		many := min(4, to-ob)
		p.products(m, v, u[ob*p.in.C*Block:], n, many)
		for o := range many {
			for r := first; r < last; r++ {
				p.back(r, ob+o, y, m[(o*n+(r-first)*p.wide)*Block:], e, spill, edge)
				e.finish(&p.out, y, r/p.high, ob+o, r%p.high*side, min(p.out.H, (r%p.high+1)*side))
			}
			if e.Moments != nil {
				var s moments
				for r := first; r < last; r++ {
					for h := r % p.high * side; h < min(p.out.H, (r%p.high+1)*side); h++ {
						s.add(y[p.out.at(r/p.high, ob+o, h, 0):][:p.out.W*Block])
					}
				}
				s.store(e.Moments[(group*p.out.Blocks()+ob+o)*record:])
			}
		}
	}
}

// products multiplies the V of n tiles by so many blocks of U.
func (p *tilePass) products(m, v, u []float32, n, blocks int) {
	panel := p.in.C * Block
	t := tile{runs: p.runs[:], xStride: p.vNext, yStride: Block}
	for o := 0; o < blocks; {
		wide := 1
		if pairWidth() > 0 && blocks-o > 1 {
			wide, t.wNext, t.yBeside = 2, panel, n*Block
		} else {
			t.wNext = 0
		}
		groups := min((blocks-o)/wide, max(1, mostProducts/(n*panel*wide)))
		most := max(1, mostProducts/(n*panel*wide*groups))
		// the tiles of each width go through all weights
		if n > t.width() && n%((n+t.width()-1)/t.width()) > 0 {
			most = min(most, max(1, firstFloats/(panel*wide*groups)))
		}
		for i := 0; i < positions; i += most {
			many := min(most, positions-i)
			t.again[0] = again{times: groups, y: wide * n * Block, w: wide * panel}
			t.again[1] = again{times: many, y: p.mStep, x: p.vStep, w: p.uStep()}
			t.x, t.y, t.w = v[i*p.vStep:], m[i*p.mStep+o*n*Block:], u[i*p.uStep()+o*panel:]
			t.row(n)
		}
		o += wide * groups
	}
}

// back computes a row of tiles of y from M.
func (p *tilePass) back(row, ob int, y, m []float32, e Epilogue, spill, edge []float32) {
	n, h := row/p.high, row%p.high
	first, last := h*side, min(p.out.H, (h+1)*side)
	a := winogradTile{spill: spill, step: p.mStep, next: Block, act: e.act()}
	if e.Bias != nil {
		a.bias = e.Bias[ob*Block:][:Block]
	}
	p.out.clearHalo(y, n, ob, first, last)
	if !p.overlap {
		for w := range p.wide {
			p.small(&a, y, m[w*Block:], e.beside(), edge, n, ob, first, w*side)
		}
		return
	}
	// The last row of tiles computes rows of y of the one before again. They may be another chunk's.
	begin := p.begin(h, p.out.H)
	at, to := p.out.at(n, ob, begin, 0), edge
	if begin == first {
		to = y[at:]
	}
	a.row = p.out.row()
	for w, many := 0, p.regular(); w < p.wide; w, many = w+many, 1 {
		pixel := p.begin(w, p.out.W) * Block
		a.pixels, a.positions, a.n = to[pixel:], m[w*Block:], many
		if beside := e.beside(); beside != nil {
			a.res = beside[at+pixel:]
		}
		winogradOutput(&a)
	}
	if begin < first {
		for r := first; r < last; r++ {
			copy(y[p.out.at(n, ob, r, 0):][:p.out.W*Block], edge[(r-begin)*a.row:])
		}
	}
}

// small computes the tile at (h, w) of a map that is smaller than a tile.
func (p *tilePass) small(a *winogradTile, y, m, beside, edge []float32, n, ob, h, w int) {
	a.pixels, a.positions, a.row, a.n = edge, m, side*Block, 1
	high, long, at := min(side, p.out.H-h), min(side, p.out.W-w)*Block, p.out.at(n, ob, h, w)
	if beside != nil {
		a.res = edge[side*side*Block:][:side*side*Block]
		for r := range high {
			copy(a.res[r*side*Block:][:long], beside[at+r*p.out.row():])
		}
	}
	winogradOutput(a)
	for r := range high {
		copy(y[at+r*p.out.row():][:long], edge[r*side*Block:])
	}
}

// tileWeights is the gradient of a 3x3 convolution's weights by F(3x3,4x4):
//
//	dw = G' [ sum over tiles of (B' x B) . (A dy A') ] G
type tileWeights struct {
	x, dy  tiles
	group  int // rows of tiles that are transformed at a time
	groups int // partial sums
	parts  int // parts of the output's blocks
	blocks int // the most that a part has
	c, o   Layout
	vNext  int
	vStep  int
	dStep  int
	uStep  int
}

func newTileWeights(c *Conv) *tileWeights {
	w := &tileWeights{
		x:  newTiles(c.X, c.Y.H, c.Y.W, c.PadTop, c.PadLeft, side+2),
		dy: newTiles(c.DY, c.Y.H, c.Y.W, 0, 0, side),
		c:  c.X, o: c.DY,
	}
	// The sums of a chunk are read and written once for every group of tiles: they should fit into the
	// second-level cache, or the groups should be long.
	w.parts = 1
	for w.o.Blocks()%(2*w.parts) == 0 && positions*w.c.C*w.o.Blocks()/w.parts*Block > 1<<19 {
		w.parts *= 2
	}
	w.blocks = (w.o.Blocks() + w.parts - 1) / w.parts
	w.groups = max(1, min(w.x.rows(), 16/w.parts))
	want := max(32, min(96, 320/(w.c.Blocks()+w.blocks)))
	w.group = max(1, min((w.x.rows()+w.groups-1)/w.groups, (want+w.x.wide/2)/w.x.wide))
	n := w.group * w.x.wide
	w.vNext = w.c.Blocks() * Block
	w.vStep, w.dStep = apart(n*w.vNext), apart(n*w.blocks*Block)
	w.uStep = apart(w.blocks * w.c.C * Block)
	return w
}

// Chunks is the number of chunks of Run.
func (w *tileWeights) Chunks() int { return w.groups * w.parts }

// Scratch is the number of floats of scratch that Run needs.
func (w *tileWeights) Scratch() int {
	return spilled + w.x.edge() + positions*(w.vStep+w.dStep+w.uStep)
}

// Sums is the number of floats of the partial sums: packed weights, once for each group of tiles.
func (w *tileWeights) Sums() int { return w.groups * w.weights() }

func (w *tileWeights) weights() int { return w.o.Blocks() * w.c.C * 9 * Block }

// Run writes the gradient of a part of the weights over a group of tiles into sums.
func (w *tileWeights) Run(chunk int, scratch, sums, x, dy []float32) {
	part, group := chunk%w.parts, chunk/w.parts
	lo, hi := span(w.x.rows(), group, w.groups)
	from, to := span(w.o.Blocks(), part, w.parts)
	spill, scratch := scratch[:spilled], scratch[spilled:]
	edge, scratch := scratch[:w.x.edge()], scratch[w.x.edge():]
	v, scratch := scratch[:positions*w.vStep], scratch[positions*w.vStep:]
	d, u := scratch[:positions*w.dStep], scratch[positions*w.dStep:][:positions*w.uStep]
	clear(u)
	wide, countWide, narrow, countNarrow := widths(w.c.C, gradDepth(false))
	for ; lo < hi; lo += w.group {
		rows := min(w.group, hi-lo)
		a := winogradTile{spill: spill, step: w.vStep, next: w.vNext}
		b := winogradTile{spill: spill, step: w.dStep, next: Block}
		n := rows * w.x.wide
		for r := range rows {
			image, h := (lo+r)/w.x.high, (lo+r)%w.x.high
			a.positions = v[r*w.x.wide*w.vNext:]
			w.x.transform(&a, edge, x, image, h, 0, w.c.Blocks(), Block)
			b.positions = d[r*w.x.wide*Block:]
			w.dy.transform(&b, edge, dy, image, h, from, to, n*Block)
		}
		t := gradTile{rows: 1, cols: n, xStride: w.vNext, dyStride: Block}
		for i := range positions {
			for ob := range to - from {
				t.dy = d[i*w.dStep+ob*n*Block:]
				at := 0
				for k := range countWide + countNarrow {
					deep := wide
					if k >= countWide {
						deep = narrow
					}
					t.x, t.dw = v[i*w.vStep+at:], u[i*w.uStep+(ob*w.c.C+at)*Block:]
					gradTiles(deep, &t)
					at += deep
				}
			}
		}
	}
	a := winogradTile{spill: spill, step: w.uStep, next: Block}
	dw := sums[group*w.weights():][:w.weights()]
	for ob := from; ob < to; ob++ {
		for b := range w.c.Blocks() {
			a.n = w.c.real(b)
			a.row = a.n * Block
			a.pixels = dw[(ob*w.c.C+b*Block)*9*Block:]
			a.positions = u[((ob-from)*w.c.C+b*Block)*Block:]
			winogradTaps(&a)
		}
	}
}

// ReduceChunks is the number of chunks of Reduce.
func (w *tileWeights) ReduceChunks() int { return (w.weights() + reduceSpan - 1) / reduceSpan }

// Reduce adds the partial sums in their order into the packed gradient.
func (w *tileWeights) Reduce(chunk int, dw, sums []float32) {
	reduce(chunk, dw, sums, w.weights(), w.groups)
}
