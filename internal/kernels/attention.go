package kernels

import "fmt"

// AttentionSpec is scaled-dot-product attention of one head: y = softmax(q k' scale + mask) v, the softmax of
// each query's row. Distances are in floats.
type AttentionSpec struct {
	Queries, Keys int
	Depth, Values int  // numbers of a query and of a key; of a value
	QRow, VRow    int  // between queries, between values
	YRow          int  // between rows of y
	KRow, KStep   int  // between keys, between the numbers of a key: one of the two is 1
	MaskRows      bool // the mask has a row for each query; else one is for all
	Scale         float32
}

// Attention is a planned head. It takes queries in strips, whose scores stay in the second-level cache.
type Attention struct {
	AttentionSpec
	unit  int // rows of scores are multiples of so many
	strip int
	blank []float32 // a row of the mask where there is none
}

// Strips of queries have about so many scores, and so many queries.
const (
	stripScores  = 1 << 15
	stripQueries = 8 * fewGemmRows
)

// NewAttention plans a head.
func NewAttention(s AttentionSpec) (*Attention, error) {
	if min(s.Queries, s.Keys, s.Depth, s.Values) < 1 || max(s.Queries, s.Keys, s.Depth, s.Values) > 1<<24 {
		return nil, fmt.Errorf("kernels: attention of %d queries of %d to %d keys with values of %d",
			s.Queries, s.Depth, s.Keys, s.Values)
	}
	if s.KRow != 1 && s.KStep != 1 {
		return nil, fmt.Errorf("kernels: keys in strides of %d and %d", s.KRow, s.KStep)
	}
	k := &Attention{AttentionSpec: s, unit: Block}
	k.strip = max(1, min(s.Queries, stripQueries, max(fewGemmRows, stripScores/k.Width())))
	k.blank = k.noMask()
	return k, nil
}

// noMask is a row of a mask that leaves the keys as they are.
func (k *Attention) noMask() []float32 {
	row := AlignedSlice(k.Width())
	fill(row[k.Keys:], -inf32)
	return row
}

// Width is the number of floats of a row of the mask: whole units, -inf past the keys.
func (k *Attention) Width() int { return (k.Keys + k.unit - 1) / k.unit * k.unit }

// valueWidth is the number of floats of a row of y in whole blocks.
func (k *Attention) valueWidth() int { return (k.Values + Block - 1) / Block * Block }

// Scratch is the number of floats that each concurrent Run needs.
func (k *Attention) Scratch() int {
	return k.Width()*k.Depth + k.valueWidth()*k.Keys + k.strip*(k.Width()+k.valueWidth())
}

// PadMask writes rows of a mask, of as many floats as there are keys, in rows of Width.
func (k *Attention) PadMask(dst, src []float32, rows int) {
	for r := range rows {
		to := dst[r*k.Width():][:k.Width()]
		fill(to[copy(to, src[r*k.Keys:][:k.Keys]):], -inf32)
	}
}

// Run computes y of queries [lo, hi), of which y, q and mask hold all; mask is as PadMask leaves it or nil.
func (k *Attention) Run(scratch, y, q, keys, v, mask []float32, lo, hi int) {
	w, sums := k.Width(), k.valueWidth()
	keyPanels, scratch := scratch[:w*k.Depth], scratch[w*k.Depth:]
	valuePanels, scratch := scratch[:sums*k.Keys], scratch[sums*k.Keys:]
	scores, rest := scratch[:k.strip*w], scratch[k.strip*w:]
	k.packKeys(keyPanels, keys)
	packPanels(valuePanels, v, k.VRow, k.Keys, k.Values)
	for ; lo < hi; lo += k.strip {
		rows := min(k.strip, hi-lo)
		t := tile{runs: []run{{0, k.Depth}}, x: q[lo*k.QRow:], xStride: k.QRow, y: scores, yStride: w}
		t.throughPanels(rows, keyPanels, w/Block)
		k.softmax(scores, mask, lo, rows)
		t = tile{runs: []run{{0, k.Keys}}, x: scores, xStride: w, y: y[lo*k.YRow:], yStride: k.YRow}
		if k.Values == sums {
			t.throughPanels(rows, valuePanels, sums/Block)
			continue
		}
		t.y, t.yStride = rest, sums
		t.throughPanels(rows, valuePanels, sums/Block)
		for r := range rows {
			copy(y[(lo+r)*k.YRow:][:k.Values], rest[r*sums:])
		}
	}
}

// softmax turns rows of scores, those of queries from lo on, into weights.
func (k *Attention) softmax(scores, mask []float32, lo, rows int) {
	step := 0
	if mask == nil {
		mask = k.blank
	} else if k.MaskRows {
		step = k.Width()
		mask = mask[lo*step:]
	}
	_, _ = mask[(rows-1)*step+k.Width()-1], scores[rows*k.Width()-1]
	if current == levelGo {
		attentionRowsGo(scores, mask, k.Scale, k.Width(), rows, step)
		return
	}
	attentionRowsBlocks(&scores[0], &mask[0], &k.Scale, k.Width()/Block, rows, k.Width(), step)
}

// attentionRowsGo computes y = exp(t-max(t)) / sum(exp(t-max(t))) for t = y*scale + mask over rows of width
// floats, rows of the mask step floats apart.
func attentionRowsGo(y, mask []float32, scale float32, width, rows, step int) {
	for r := range rows {
		row, add := y[r*width:][:width], mask[r*step:][:width]
		top, sums := spread(-inf32), [Block]float32{}
		for i, v := range row {
			row[i] = float32(v*scale) + add[i]
			top[i%Block] = max(top[i%Block], row[i])
		}
		foldLanes(&top, func(a, b float32) float32 { return max(a, b) })
		for i, v := range row {
			row[i] = decay32(v - top[0])
			sums[i%Block] += row[i]
		}
		foldLanes(&sums, func(a, b float32) float32 { return a + b })
		inverse := 1 / sums[0]
		for i := range row {
			row[i] *= inverse
		}
	}
}

// decayEnd is where decay32 ends: what lies below adds nothing to a sum of values, and
// denormal numbers are slow.
const decayEnd = -80

// decay32 is e to the power of x <= 0, and 0 below decayEnd.
func decay32(x float32) float32 {
	if x != x {
		return x
	}
	if x < decayEnd {
		return 0
	}
	e, n := expParts(x)
	return float32((e + 1) * power(n))
}

// packKeys writes panels of 16 keys, [keys/16][Depth][16], with zeros past the last.
func (k *Attention) packKeys(dst, keys []float32) {
	if k.KRow == 1 && k.KStep != 1 {
		packPanels(dst, keys, k.KStep, k.Depth, k.Keys)
		return
	}
	for key := 0; key < k.Keys; key += Block {
		panel, many := dst[key*k.Depth:][:k.Depth*Block], min(Block, k.Keys-key)
		if many < Block {
			clear(panel)
		}
		gather(panel, keys[key*k.KRow:], k.KRow, k.Depth, many)
	}
}

// packPanels writes a matrix of rows, stride floats apart, in panels of 16 columns:
// [cols/16][rows][16], with zeros past cols.
func packPanels(dst, src []float32, stride, rows, cols int) {
	for r := range rows {
		row := src[r*stride:][:cols]
		at := r * Block
		for ; len(row) >= Block; at += rows * Block {
			*(*[Block]float32)(dst[at:]) = *(*[Block]float32)(row)
			row = row[Block:]
		}
		if len(row) > 0 {
			clear(dst[at+copy(dst[at:], row) : at+Block])
		}
	}
}

// throughPanels multiplies t's pixels by panels of weights, one behind the other, whose
// outputs stand side by side.
func (a *tile) throughPanels(rows int, w []float32, panels int) {
	size := len(w) / panels
	for p := 0; p < panels; {
		b := *a
		b.y, b.w = a.y[p*Block:], w[p*size:][:size]
		p++
		if pairWidth() > 0 && p < panels {
			b.w, b.wNext = w[(p-1)*size:][:2*size], size
			p++
		}
		rowOfTiles(rows, &b)
	}
}
