package kernels

// AttentionBF16 is a planned head whose products are in bf16, of queries, keys, values and weights that are
// rounded to it; scores, their softmax and y are float32.
type AttentionBF16 struct {
	*Attention
	scores, sums tiling // of a strip of queries: times the keys, and of weights times the values
}

// NewAttentionBF16 plans a head.
func NewAttentionBF16(s AttentionSpec) (*AttentionBF16, error) {
	base, err := NewAttention(s)
	if err != nil {
		return nil, err
	}
	k := &AttentionBF16{Attention: base}
	k.unit = tileOuts
	k.blank = k.noMask()
	const rows = 2 * tileRows
	k.strip = (min(s.Queries, stripQueries, max(rows, stripScores/k.Width())) + rows - 1) / rows * rows
	if err := k.scores.planRows(k.strip, k.depthSteps(), 2*k.queryRow(), 4*k.Width()); err != nil {
		return nil, err
	}
	return k, k.sums.planRows(k.strip, k.Width()/BF16Lanes, 2*k.weightRow(), 4*k.valuePanels()*tileOuts)
}

// depthSteps are those of a score, valuePanels the groups of 32 numbers of a value.
func (k *AttentionBF16) depthSteps() int  { return (k.Depth + BF16Lanes - 1) / BF16Lanes }
func (k *AttentionBF16) valuePanels() int { return (k.Values + tileOuts - 1) / tileOuts }

// queryRow and weightRow are the distances between rows in bf16.
func (k *AttentionBF16) queryRow() int  { return PaddedLDA(k.Depth) }
func (k *AttentionBF16) weightRow() int { return PaddedLDA(k.Width()) }

// Scratch is the number of floats that each concurrent Run needs.
func (k *AttentionBF16) Scratch() int {
	half := k.Width()*BF16Lanes*(k.depthSteps()+k.valuePanels()) + k.strip*(k.queryRow()+k.weightRow())
	return half/2 + k.strip*(k.Width()+k.valuePanels()*tileOuts) + tileScratch
}

// Run computes y of queries [lo, hi), as that of Attention does.
func (k *AttentionBF16) Run(scratch, y, q, keys, v, mask []float32, lo, hi int) {
	take := func(n int) []float32 {
		part := scratch[:n]
		scratch = scratch[n:]
		return part
	}
	keyPanels := asBF16(take(k.Width() * k.depthSteps() * BF16Lanes / 2))
	valuePanels := asBF16(take(k.Width() * k.valuePanels() * BF16Lanes / 2))
	queries, weights := asBF16(take(k.strip*k.queryRow()/2)), asBF16(take(k.strip*k.weightRow()/2))
	scores, sums := take(k.strip*k.Width()), take(k.strip*k.valuePanels()*tileOuts)
	k.packKeys(keyPanels, keys)
	k.packValues(valuePanels, v)
	for ; lo < hi; lo += k.strip {
		rows := min(k.strip, hi-lo)
		narrowRows(queries, k.queryRow(), q[lo*k.QRow:], k.QRow, rows, k.Depth)
		k.multiply(&k.scores, scores, k.Width(), queries, keyPanels, rows, scratch)
		k.softmax(scores, mask, lo, rows)
		narrowRows(weights, k.weightRow(), scores, k.Width(), rows, k.Width())
		k.multiply(&k.sums, sums, k.valuePanels()*tileOuts, weights, valuePanels, rows, scratch)
		for r := range rows {
			copy(y[(lo+r)*k.YRow:][:k.Values], sums[r*k.valuePanels()*tileOuts:])
		}
	}
}

// multiply computes the first rows of c, of width floats each: whole blocks of them.
func (k *AttentionBF16) multiply(t *tiling, c []float32, width int, a, panels []uint16, rows int,
	scratch []float32) {
	p := bf16Call{t: t, x: a, scratch: scratch, hi: (rows + t.m*t.rows - 1) / (t.m * t.rows),
		bias: noBias[:], apart: lineBytes}
	p.low, p.high = (&EpilogueBF16{}).bounds()
	for at := 0; at < width; at += tileOuts {
		p.w, p.out = panels[at/tileOuts*len(t.steps)*stepSize/2:], c[at:]
		p.run()
	}
}

// packKeys writes the keys as the weights of the scores: panels of 32 keys, zeros past the last.
func (k *AttentionBF16) packKeys(dst []uint16, keys []float32) {
	var lines [stepSize / 2]uint16
	for key := 0; key < k.Keys; key += tileOuts {
		many := min(tileOuts, k.Keys-key)
		for d := 0; d < k.Depth; d += BF16Lanes {
			deep := min(BF16Lanes, k.Depth-d)
			if k.KStep != 1 {
				narrowLines(&lines, keys[d*k.KStep+key:], k.KStep, deep, many)
				pair(dst, lines[:])
			} else {
				narrowLines(&lines, keys[key*k.KRow+d:], k.KRow, many, deep)
				for t := range 2 {
					turnPairs(asPairs(dst[t*stepSize/4:]), Block, asPairs(lines[t*stepSize/4:]))
				}
			}
			dst = dst[stepSize/2:]
		}
	}
}

// packValues writes the values as the weights of y: panels of 32 numbers, zeros past the last key.
func (k *AttentionBF16) packValues(dst []uint16, v []float32) {
	var lines [stepSize / 2]uint16
	for at := 0; at < k.Values; at += tileOuts {
		for key := 0; key < k.Width(); key += BF16Lanes {
			many := max(0, min(BF16Lanes, k.Keys-key))
			narrowLines(&lines, v[min(key, k.Keys-1)*k.VRow+at:], k.VRow, many, min(tileOuts, k.Values-at))
			pair(dst, lines[:])
			dst = dst[stepSize/2:]
		}
	}
}

// narrowLines rounds many rows of cols values, stride floats apart, to 32 lines of 32, zeros past them.
func narrowLines(dst *[stepSize / 2]uint16, src []float32, stride, many, cols int) {
	if cols == BF16Lanes {
		narrow(dst[:], src, src[Block:], many, stride)
	} else {
		for i := range many {
			line := dst[i*BF16Lanes:][:BF16Lanes]
			ToBF16(line[:cols], src[i*stride:][:cols])
			clear(line[cols:])
		}
	}
	clear(dst[many*BF16Lanes:])
}

// narrowRows rounds rows of cols values, stride floats apart, to rows of row values, zeros past them.
func narrowRows(dst []uint16, row int, src []float32, stride, rows, cols int) {
	for r := range rows {
		to := dst[r*row:][:row]
		ToBF16(to[:cols], src[r*stride:][:cols])
		clear(to[cols:])
	}
}
