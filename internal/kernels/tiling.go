package kernels

import (
	"fmt"
	"slices"
)

// tileRows is the number of rows of a tile of AMX: pixels, or rows of A. tileOuts is the number of outputs of
// a product: two tiles side by side. A block has up to mostTiles.
const (
	tileRows  = 16
	tileOuts  = 32
	mostTiles = 2
	stepSize  = tileOuts * lineBytes // bytes of weights of a step
)

// tiling is how the pixels of a plane are cut into tiles, and what is summed for each. A tile is up to 16
// pixels of x that lie stride bytes apart, a block is m tiles, and a step of the reduction is a line of each
// pixel. Places and distances are in bytes.
type tiling struct {
	m, rows int // tiles of a block, pixels of a tile
	stride  int
	origins []int   // m a block: the first pixel of each tile
	places  []int32 // 16 m a block: where each pixel goes, -1 for nowhere
	steps   []int   // from the pixel on
	reach   int     // the end of what is read
	extent  int     // the end of what is written, one line a pixel
}

// cut is the tiles of a plane before they are put into blocks: where each begins and which of
// its pixels it is there for.
type cut struct {
	rows  int
	tiles []tilePixels
}

// tilePixels is a tile: pixels at to at+rows-1 of the plane of an image, in the pitch of the cut, of which those
// from at+from to before at+to are not in an earlier tile.
type tilePixels struct{ image, at, from, to int }

// of is the cut of so many images behind one another.
func (c cut) of(images int) cut {
	all := cut{rows: c.rows}
	for i := range images {
		for _, t := range c.tiles {
			t.image = i
			all.tiles = append(all.tiles, t)
		}
	}
	return all
}

// flatCut cuts a plane of rows of w pixels, pitch pixels apart, into tiles that run over the gap between the
// rows: as few as there can be, and no higher than they need to be.
func flatCut(h, w, pitch int) cut {
	total := (h-1)*pitch + w
	c := flatTiles(total, w, pitch, min(tileRows, total))
	n := len(c.tiles) // gaps between rows that no tile has do not count
	if even := flatTiles(total, w, pitch, min(c.rows, (total+n-1)/n)); len(even.tiles) == n {
		return even
	}
	return c
}

func flatTiles(total, w, pitch, rows int) cut {
	c := cut{rows: rows}
	for next := 0; next < total; {
		if in := next % pitch; in >= w {
			next += pitch - in
		}
		at := min(next, total-c.rows)
		c.tiles = append(c.tiles, tilePixels{0, at, next - at, c.rows})
		next = at + c.rows
	}
	return c
}

// rowCut cuts every row into tiles of equal width, of which the last overlaps the one before.
// Places are in a pitch of w.
func rowCut(h, w int) cut {
	many := (w + tileRows - 1) / tileRows
	c := cut{rows: (w + many - 1) / many}
	for row := range h {
		for next := 0; next < w; next += c.rows {
			at := min(next, w-c.rows)
			c.tiles = append(c.tiles, tilePixels{0, row*w + at, next - at, c.rows})
		}
	}
	return c
}

// tileCycles is what a product of tiles of so many rows takes, as measured on Emerald Rapids.
func tileCycles(rows int) float64 { return min(16, max(9.5, float64(rows)+1.2)) }

// stepCycles is what a step of m tiles takes. Weights of few steps stay in the first-level cache, and one tile
// has its pixels finished sooner and holds less; a single step is soon done with two; weights of many come from
// the second, for two tiles at once.
func stepCycles(m, rows, steps int) float64 {
	each := 2 * tileCycles(rows) / efficiency
	switch {
	case m == 1 && steps == 1:
		return 1.05 * each
	case m == 1 && steps <= nearSteps:
		return 0.95 * each
	case m == 1:
		return 1.25 * each
	}
	return 2 * each
}

// nearSteps are those whose weights stay in the first-level cache, of 2 KiB each.
const nearSteps = 20

const efficiency = 0.65 // of the products' own cycles

const lastCycles = 128 // to finish the pixels of the last block, a tile

// best is the number of tiles in a block that does so many with the least cycles, and those cycles.
func (c cut) best(steps int) (m int, cycles float64) {
	for i := 1; i <= mostTiles; i++ {
		blocks := (len(c.tiles) + i - 1) / i
		n := float64(blocks*steps)*stepCycles(i, c.rows, steps) + float64(i*lastCycles)
		if m == 0 || n < cycles {
			m, cycles = i, n
		}
	}
	return m, cycles
}

// plan fills in the blocks of m tiles. origin and place tell where pixel i of the cut of an image lies in x and
// in y; place is negative where it is none. Tiles that fill up the last block go nowhere.
func (t *tiling) plan(c cut, m int, origin, place func(image, i int) int) error {
	t.m, t.rows = m, c.rows
	for len(c.tiles)%m != 0 {
		last := c.tiles[len(c.tiles)-1]
		c.tiles = append(c.tiles, tilePixels{last.image, last.at, 0, 0})
	}
	t.origins, t.places = make([]int, len(c.tiles)), make([]int32, len(c.tiles)*tileRows)
	first, last := origin(0, c.tiles[0].at), 0
	for i, s := range c.tiles {
		at := origin(s.image, s.at)
		first, last = min(first, at), max(last, at)
		t.origins[i] = at
		for j := range tileRows {
			p := -1
			if j >= s.from && j < s.to {
				p = place(s.image, s.at+j)
			}
			if p > 1<<31-1-lineBytes {
				return fmt.Errorf("kernels: a plane of the output exceeds 2 GiB")
			}
			t.places[i*tileRows+j] = int32(max(p, -1))
			t.extent = max(t.extent, p+lineBytes)
		}
	}
	low, high := slices.Min(t.steps), slices.Max(t.steps)
	if low < 0 { // origins that lie in the map, and steps from there on
		for i := range t.steps {
			t.steps[i] -= low
		}
		for i := range t.origins {
			t.origins[i] += low
		}
		first, last, high, low = first+low, last+low, high-low, 0
	}
	t.reach = last + high + (t.rows-1)*t.stride + lineBytes
	if first+low < 0 || t.stride < 0 {
		return fmt.Errorf("kernels: a tile lies outside of its map")
	}
	return nil
}

// blocks is the number of blocks of a plane.
func (t *tiling) blocks() int { return len(t.origins) / t.m }

// blockCycles is what a block takes.
func (t *tiling) blockCycles() float64 {
	return float64(len(t.steps))*stepCycles(t.m, t.rows, len(t.steps)) + 30*float64(t.m)
}

// turnover is how the pixels of a block are finished in the steps of the next: per pixels in each
// of the first early steps.
func (t *tiling) turnover() (early, per, quads int) {
	n := t.m * tileRows
	for _, per := range []int{1, 2, 4, 8, 16, 32} {
		if n%per == 0 && n/per <= len(t.steps) {
			return n / per, min(per, 4), per / 4
		}
	}
	panic("kernels: a tiling without steps")
}

// tileScratch is the number of floats that each concurrent Run of a kernel on tiles needs: the sums of two
// blocks, and a line that takes what nobody wants.
const tileScratch = 2*mostTiles*tileRows*tileOuts + Block

// fetching is how many lines of the weights that come next a step fetches while so many blocks are computed:
// none where all weights stay in the second-level cache, where those of two calls do not, or where waiting for
// them counts for little.
func fetching(blocks, weights, allWeights int) int {
	if blocks > stepSize/lineBytes || weights > nearBytes*3/4 || allWeights <= nearBytes/2 {
		return 0
	}
	return stepSize / lineBytes / blocks
}

// pixelGrid is an output of h by w pixels that lie strideH rows and strideW pixels of the map in apart. Images
// are apartIn and apartOut bytes apart.
type pixelGrid struct {
	h, w, strideH, strideW int
	in                     LineLayout
	apartIn, apartOut      int
}

// gridCut is a cut of the images of a bunch in a pitch, into blocks of m tiles, and what they take.
type gridCut struct {
	cut
	images, pitch, m int
	cycles           float64
}

// cut cuts so many images for sums of steps: over the gaps between rows or row by row, by what takes less.
func (v *pixelGrid) cut(images, steps int) gridCut {
	best := gridCut{cut: rowCut(v.h, v.w).of(images), images: images, pitch: v.w}
	best.m, best.cycles = best.best(steps)
	if row := v.strideH * v.in.rowLines(); row%v.strideW == 0 {
		flat := gridCut{cut: flatCut(v.h, v.w, row/v.strideW).of(images), images: images,
			pitch: row / v.strideW}
		if flat.m, flat.cycles = flat.best(steps); flat.cycles < best.cycles {
			best = flat
		}
	}
	return best
}

// callOverhead is what a call of the assembly takes beside its blocks, in cycles.
const callOverhead = 250

// bunch cuts as many images together as take least, a power of two of them that divides n: the tiles of
// small maps do not fill blocks, and a call of few blocks does not overlap them.
func (v *pixelGrid) bunch(n, steps int) gridCut {
	best := v.cut(1, steps)
	each := func(c gridCut) float64 { return (c.cycles + callOverhead) / float64(c.images) }
	for images := 2; n%images == 0 && n > 0; images *= 2 {
		if images*v.apartIn > nearBytes/4 || images*v.apartOut > nearBytes || each(best) > callCycles/4 {
			break
		}
		if c := v.cut(images, steps); each(c) < 0.98*each(best) {
			best = c
		}
	}
	return best
}

// lay plans the tiles of a cut of a grid for the steps of the tiling. place is where a pixel goes in an image. It
// returns the row in which each block begins, counted through the images, and the end.
func (t *tiling) lay(v pixelGrid, c gridCut, place func(h, w int) int) ([]int, error) {
	row, pitch := v.in.rowLines(), c.pitch
	base := v.in.at(0, 0, 0, 0)
	t.stride = v.strideW * v.in.pixel()
	err := t.plan(c.cut, c.m, func(image, i int) int {
		return image*v.apartIn + (base+i/pitch*v.strideH*row+i%pitch*v.strideW)*v.in.pixel()
	}, func(image, i int) int {
		if i%pitch >= v.w {
			return -1
		}
		return image*v.apartOut + place(i/pitch, i%pitch)
	})
	var rows []int
	for i := 0; i < len(c.tiles); i += c.m {
		s := c.tiles[i]
		rows = append(rows, s.image*v.h+(s.at+s.from)/pitch)
	}
	return append(rows, c.images*v.h), err
}
