package kernels

import "fmt"

// The names of the forms in which weights are kept. A name says all that the numbers' order and values depend
// on besides the weights themselves, so that kernels of one name can share a copy.

// Form names the order of Pack. The lanes of x do not count: blocks of fewer than 16
// hold all channels of a map.
func (c *Conv) Form() string {
	return fmt.Sprintf("conv %dx%dx%dx%d, %d groups", c.Y.C, c.X.C, c.KH, c.KW, c.Group)
}

// FlipForm names the order of Flip: strides and pads decide which taps meet which pixels, and a map that is
// smaller than the stride has fewer residues of it.
func (c *Conv) FlipForm() string {
	return fmt.Sprintf("%s, flipped: strides %dx%d, residues %dx%d, pads %d %d, dilations %dx%d, %d and %d lanes", c.Form(),
		c.StrideH, c.StrideW, min(c.StrideH, c.DX.H), min(c.StrideW, c.DX.W), c.PadTop, c.PadLeft,
		c.DilH, c.DilW,
		c.DY.Lanes, c.Y.Lanes)
}

// Form names the order of Pack.
func (d *Depthwise) Form() string {
	return fmt.Sprintf("depthwise %dx%dx%d, %d a group", d.X.C, d.KH, d.KW, d.per)
}

// FlipForm names the order of Flip.
func (d *Depthwise) FlipForm() string { return d.Form() + ", flipped" }

// Form names what Transform gives.
func (p *tilePass) Form() string { return "F(4x4,3x3) of " + passForm(p.tiles.in, p.out, p.flip) }

// Form names what Transform gives.
func (p *rowPass) Form() string {
	return fmt.Sprintf("F(4,5) along %d rows of %s", p.rowTiles.kh,
		passForm(p.rowTiles.in, p.rowTiles.out, p.flip))
}

// passForm says which weights a pass transforms: those of a convolution, or flipped ones.
func passForm(in, out Layout, flip *Conv) string {
	s := fmt.Sprintf("%dx%d, %d and %d lanes", out.C, in.C, in.Lanes, out.Lanes)
	if flip != nil {
		s += ", " + flip.FlipForm()
	}
	return s
}

// Form names the order of Pack: of a convolution's input gradient, strides and pads decide
// which taps meet which pixels.
func (c *ConvBF16) Form() string {
	s := fmt.Sprintf("bf16 conv %dx%dx%dx%d", c.out.C, c.in.C, c.kh, c.kw)
	if !c.flipped {
		return s
	}
	for _, p := range c.passes {
		s += fmt.Sprintf(" %v", p.taps)
	}
	return s
}
