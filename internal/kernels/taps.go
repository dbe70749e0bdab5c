package kernels

import "fmt"

// TapWeights is the float32 form in which weights that convolutions in bf16 read are trained: [O/32][KH*KW][C
// up to 32][32 outputs]. Rows of 32 outputs are what ConvBF16Weights sums, and what tiles are packed from
// without a scattered read.
//
// Of a convolution that reads gathered pixels (see GatherBF16) the taps that were gathered count as channels.
type TapWeights struct {
	O, C, KH, KW int
	Rows, Across int // taps that were gathered into a pixel; 0: none were
}

// NewTapWeights is the form of weights [o,c,kh,kw].
func NewTapWeights(o, c, kh, kw int) *TapWeights { return &TapWeights{O: o, C: c, KH: kh, KW: kw} }

// Form names the order of Pack.
func (t *TapWeights) Form() string {
	s := fmt.Sprintf("taps %dx%dx%dx%d", t.O, t.C, t.KH, t.KW)
	if t.Rows > 0 {
		s += fmt.Sprintf(", %dx%d gathered", t.Rows, t.Across)
	}
	return s
}

// shape is the number of taps that the kernel moves over, and of channels that each has.
func (t *TapWeights) shape() (taps, channels int) {
	if t.Rows == 0 {
		return t.KH * t.KW, t.C
	}
	return t.KH / t.Rows * (t.KW / t.Across), t.C * t.Rows * t.Across
}

// group is the number of floats of 32 outputs, tap that of one of their taps.
func (t *TapWeights) group() int { taps, _ := t.shape(); return taps * t.tap() }
func (t *TapWeights) tap() int   { _, c := t.shape(); return roundLines(c) * tileOuts }

// roundLines rounds channels up to whole lines.
func roundLines(c int) int { return (c + BF16Lanes - 1) / BF16Lanes * BF16Lanes }

// WeightSize is the number of floats.
func (t *TapWeights) WeightSize() int { return roundLines(t.O) / tileOuts * t.group() }

// at is where the weight of output o, channel c and tap (kh, kw) lies.
func (t *TapWeights) at(o, c, kh, kw int) int {
	tap, channel := kh*t.KW+kw, c
	if t.Rows > 0 {
		tap = kh/t.Rows*(t.KW/t.Across) + kw/t.Across
		channel = (kh%t.Rows*t.Across+kw%t.Across)*t.C + c
	}
	return o/tileOuts*t.group() + tap*t.tap() + channel*tileOuts + o%tileOuts
}

// Pack writes plain weights [O,C,KH,KW] in this form.
func (t *TapWeights) Pack(dst, oihw []float32) {
	clear(dst[:t.WeightSize()])
	t.each(func(packed, plain int) { dst[packed] = oihw[plain] })
}

// Unpack is the reverse of Pack.
func (t *TapWeights) Unpack(oihw, packed []float32) {
	t.each(func(from, plain int) { oihw[plain] = packed[from] })
}

func (t *TapWeights) each(f func(packed, plain int)) {
	plain := 0
	for o := range t.O {
		for c := range t.C {
			for kh := range t.KH {
				for kw := range t.KW {
					f(t.at(o, c, kh, kw), plain)
					plain++
				}
			}
		}
	}
}

// TapChunks is the number of chunks of PackTaps: one for 32 outputs of a pass.
func (c *ConvBF16) TapChunks() int { return len(c.passes) * c.groups() }

// PackTaps rounds and packs a part of weights in the form of TapWeights, those of 32 outputs, for either
// direction: what Pack does from plain ones.
func (c *ConvBF16) PackTaps(chunk int, dst []uint16, w []float32) {
	p, g := &c.passes[chunk/c.groups()], chunk%c.groups()
	c.packTaps(p, g, dst[p.weights/2+g*len(p.steps)*stepSize/2:], w)
}

func (c *ConvBF16) packTaps(p *convPass, g int, dst []uint16, w []float32) {
	ins, outs := c.in.Blocks(), c.out.Blocks() // of 32 channels
	tap := outs * BF16Lanes * tileOuts         // floats, where outputs lie across
	if !c.flipped {
		tap = ins * BF16Lanes * tileOuts
	}
	var lines, turned [stepSize / 2]uint16
	for b := range ins {
		for t, at := range p.taps {
			k := at.kh*c.kw + at.kw
			to := dst[(b*len(p.taps)+t)*stepSize/2:]
			if !c.flipped {
				ToBF16(lines[:], w[(g*c.kh*c.kw+k)*tap+b*BF16Lanes*tileOuts:][:stepSize/2])
				pair(to, lines[:])
				continue
			}
			ToBF16(lines[:], w[(b*c.kh*c.kw+k)*tap+g*BF16Lanes*tileOuts:][:stepSize/2])
			turnLines(turned[:], BF16Lanes, lines[:])
			pair(to, turned[:])
		}
	}
}

// turnLines transposes 32 lines of 32 values: dst[j*apart+i] = src[i*32+j].
func turnLines(dst []uint16, apart int, src []uint16) {
	var paired [stepSize / 2]uint16
	pair(paired[:], src)
	for t := range 2 {
		turnPairs(asPairs(dst[t*Block*apart:]), apart/2, asPairs(paired[t*stepSize/4:]))
	}
}

// ReduceTapsChunks is the number of chunks of ReduceTaps: one for a tap of 32 outputs.
func (k *ConvBF16Weights) ReduceTapsChunks() int { return k.dy.Blocks() * len(k.taps) }

// ReduceTaps adds the sums of the groups of images in their order into a part of the gradient
// in the form of TapWeights.
func (k *ConvBF16Weights) ReduceTaps(chunk int, dw, sums []float32) {
	rows, size := k.rows(), roundLines(k.x.C)*tileOuts
	to := dw[chunk*size:][:size]
	real := min(rows, (k.x.C+tileRows-1)/tileRows*tileRows) * tileOuts
	clear(to[real:])
	apart := k.dy.Blocks() * len(k.taps) * rows * tileOuts
	copy(to[:real], sums[chunk*rows*tileOuts:])
	for g := 1; g < k.groups; g++ {
		Add(to[:real], to[:real], sums[g*apart+chunk*rows*tileOuts:][:real])
	}
}

// PackChunks is the number of chunks of PackPart.
func (t *TapWeights) PackChunks() int { return 1 }

// PackPart is Pack.
func (t *TapWeights) PackPart(_ int, dst, oihw []float32) { t.Pack(dst, oihw) }
