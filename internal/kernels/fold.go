package kernels

import "fmt"

// A folded map of few channels has several pixels of a row in a line: [N][H+2*Halo][W/fold+2*Halo][fold][C],
// where fold times C is 32. It takes no memory for lanes past C, and a convolution of it is one of 32
// channels and fewer pixels, with other weights.

// Fold is how many pixels of x, the larger map of a convolution, and of y are in a line.
type Fold struct{ X, Y int }

// FoldWindow gives the window of the convolution of folded maps that does what v does on the maps themselves,
// and whether there is one: the pixels under a line of y must be as far apart as lines of x.
func FoldWindow(v Window, f Fold) (Window, bool) {
	if v.DilW != 1 || min(f.X, f.Y) < 1 || v.StrideW*f.Y%f.X != 0 {
		return v, false
	}
	first := floorDiv(-v.PadLeft, f.X)
	last := floorDiv((f.Y-1)*v.StrideW+v.KW-1-v.PadLeft, f.X)
	v.StrideW, v.PadLeft, v.KW = v.StrideW*f.Y/f.X, -first, last-first+1
	return v, true
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

// FoldedWeights turns weights [O,C,KH,KW] into those of the convolution of folded maps, [Fold.Y*O, Fold.X*C,
// KH, more], and the gradient of those back.
type FoldedWeights struct {
	o, c  int
	v, to Window
	fold  Fold
	taps  *TapWeights
}

// NewFoldedWeights plans the weights of a convolution of o outputs of c channels, to be written as taps says.
func NewFoldedWeights(o, c int, v Window, f Fold, taps *TapWeights) (*FoldedWeights, error) {
	to, ok := FoldWindow(v, f)
	if !ok || taps.O != f.Y*o || taps.C != f.X*c || taps.KH != to.KH || taps.KW != to.KW {
		return nil, fmt.Errorf("kernels: weights %dx%d of %+v folded by %+v as %+v", o, c, v, f, *taps)
	}
	return &FoldedWeights{o, c, v, to, f, taps}, nil
}

// Form names the order of the folded weights: strides and pads decide which pixel each belongs to.
func (w *FoldedWeights) Form() string {
	return fmt.Sprintf("folded %dx%d, stride %d, pad %d", w.fold.Y, w.fold.X, w.v.StrideW, w.v.PadLeft)
}

// each calls f for each weight of the folded maps that is not zero for good, and the one that it is.
func (w *FoldedWeights) each(f func(wide, plain int)) {
	for py := range w.fold.Y {
		for d := range w.to.KW {
			for px := range w.fold.X {
				kw := w.fold.X*(d-w.to.PadLeft) + px + w.v.PadLeft - w.v.StrideW*py
				if kw < 0 || kw >= w.v.KW {
					continue
				}
				for kh := range w.v.KH {
					for c := range w.c {
						for o := range w.o {
							f(w.taps.at(py*w.o+o, px*w.c+c, kh, d), ((o*w.c+c)*w.v.KH+kh)*w.v.KW+kw)
						}
					}
				}
			}
		}
	}
}

// Expand writes the weights of the folded maps, in the form of taps.
func (w *FoldedWeights) Expand(taps, oihw []float32) {
	clear(taps[:w.taps.WeightSize()])
	w.each(func(wide, plain int) { taps[wide] = oihw[plain] })
}

// Sum adds up the gradient of each weight from that of the weights of folded maps that it is.
func (w *FoldedWeights) Sum(oihw, taps []float32) {
	clear(oihw[:w.o*w.c*w.v.KH*w.v.KW])
	w.each(func(wide, plain int) { oihw[plain] += taps[wide] })
}
