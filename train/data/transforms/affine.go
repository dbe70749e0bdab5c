package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// warp makes each output pixel of the input at a[0]x + a[1]y + a[2], a[3]x + a[4]y + a[5], as PIL's
// Image.transform(AFFINE) does; what lies outside is fill.
func warp(dst, src Image, a [6]float64, by Interpolation, fill Ints) {
	switch {
	case by == Bilinear:
		warpBilinear(dst, src, a, fill)
	case a[1] == 0 && a[3] == 0:
		scale(dst, src, a, fill)
	default:
		warpNearest(dst, src, a, fill)
	}
}

// scale is the nearest pixel where rows stay rows: positions are summed up in float64, as PIL sums them.
func scale(dst, src Image, a [6]float64, fill Ints) {
	columns := make([]int32, dst.W)
	at := a[2] + float64(a[0]*0.5)
	for x := range columns {
		columns[x] = int32(inside(at, src.W))
		at += a[0]
	}
	at = a[5] + float64(a[4]*0.5)
	for y := range dst.H {
		sy := inside(at, src.H)
		at += a[4]
		for c := range dst.C {
			row := dst.plane(c)[y*dst.W:][:dst.W]
			level := fill.level(c)
			if sy < 0 {
				for x := range row {
					row[x] = level
				}
				continue
			}
			line := src.plane(c)[sy*src.W:][:src.W]
			for x, sx := range columns {
				if sx < 0 {
					row[x] = level
				} else {
					row[x] = line[sx]
				}
			}
		}
	}
}

// inside is the pixel at a position, or -1.
func inside(at float64, n int) int {
	if at >= 0 && at < float64(n) {
		return int(at)
	}
	return -1
}

// warpNearest steps through the input in 16.16 fixed point, as PIL does for all but enormous images; for
// those the same numbers are exact to a pixel.
func warpNearest(dst, src Image, a [6]float64, fill Ints) {
	fix := func(v float64) int64 { return int64(math.Floor(float64(v*65536) + 0.5)) }
	dx, dy := fix(a[0]), fix(a[3])
	rowX, rowY := fix(a[2]+float64(a[0]*0.5)+float64(a[1]*0.5)), fix(a[5]+float64(a[3]*0.5)+float64(a[4]*0.5))
	nextX, nextY := fix(a[1]), fix(a[4])
	from := make([]int32, dst.W) // offset in a plane, or -1
	area := src.H * src.W
	for y := range dst.H {
		px, py := rowX, rowY
		for x := range from {
			from[x] = -1
			if sx, sy := px>>16, py>>16; uint64(sx) < uint64(src.W) && uint64(sy) < uint64(src.H) {
				from[x] = int32(sy)*int32(src.W) + int32(sx)
			}
			px, py = px+dx, py+dy
		}
		rowX, rowY = rowX+nextX, rowY+nextY
		for c := range dst.C {
			in, row, level := src.Pix[c*area:][:area], dst.plane(c)[y*dst.W:][:dst.W], fill.level(c)
			for x, i := range from {
				if i < 0 {
					row[x] = level
				} else {
					row[x] = in[i]
				}
			}
		}
	}
}

// warpBilinear weighs four pixels in float64 and cuts the fraction off, as PIL does. It rounds every product,
// so that no processor's fused multiply-add changes a pixel.
func warpBilinear(dst, src Image, a [6]float64, fill Ints) {
	area, planes := src.H*src.W, dst.H*dst.W
	width, height := float64(src.W), float64(src.H)
	for y := range dst.H {
		oy := float64(y) + 0.5
		for x := range dst.W {
			ox := float64(x) + 0.5
			sx := float64(a[0]*ox) + float64(a[1]*oy) + a[2]
			sy := float64(a[3]*ox) + float64(a[4]*oy) + a[5]
			if !(sx >= 0 && sx < width && sy >= 0 && sy < height) {
				for c := range dst.C {
					dst.Pix[c*planes+y*dst.W+x] = fill.level(c)
				}
				continue
			}
			sx, sy = sx-0.5, sy-0.5
			fx, fy := math.Floor(sx), math.Floor(sy)
			x0, y0 := int(fx), int(fy)
			fx, fy = sx-fx, sy-fy
			x1, y1 := min(x0+1, src.W-1), min(y0+1, src.H-1)
			x0, y0 = max(x0, 0), max(y0, 0)
			for c := range dst.C {
				p := src.Pix[c*area:][:area]
				above := between(p[y0*src.W+x0], p[y0*src.W+x1], fx)
				below := between(p[y1*src.W+x0], p[y1*src.W+x1], fx)
				dst.Pix[c*planes+y*dst.W+x] = uint8(above + float64((below-above)*fy))
			}
		}
	}
}

func between(p, q uint8, f float64) float64 {
	return float64(p) + float64(float64(int(q)-int(p))*f)
}

// rotation is the inverse matrix of PIL's Image.rotate about (cx, cy), counter-clockwise.
func rotation(degrees, cx, cy float64) [6]float64 {
	sin, cos := math.Sincos(-degrees * (math.Pi / 180))
	sin, cos = decimals15(sin), decimals15(cos)
	a := [6]float64{cos, sin, 0, -sin, cos, 0}
	a[2] = float64(a[0]*-cx) + float64(a[1]*-cy) + cx
	a[5] = float64(a[3]*-cx) + float64(a[4]*-cy) + cy
	return a
}

// decimals15 is Python's round(v, 15): it makes the cosine of a right angle a zero.
func decimals15(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'f', 15, 64), 64)
	return v
}

// affineMatrix is the inverse of: shear, then scale, then rotate clockwise about the centre, then translate
// (torchvision's functional.affine).
func affineMatrix(degrees, tx, ty, scale, shearX, shearY, cx, cy float64) [6]float64 {
	const rad = math.Pi / 180
	rot, sx, sy := degrees*rad, shearX*rad, shearY*rad
	a := math.Cos(rot-sy) / math.Cos(sy)
	b := float64(-math.Cos(rot-sy)*math.Tan(sx)/math.Cos(sy)) - math.Sin(rot)
	c := math.Sin(rot-sy) / math.Cos(sy)
	d := float64(-math.Sin(rot-sy)*math.Tan(sx)/math.Cos(sy)) + math.Cos(rot)
	m := [6]float64{d / scale, -b / scale, 0, -c / scale, a / scale, 0}
	m[2] = float64(m[0]*(-cx-tx)) + float64(m[1]*(-cy-ty)) + cx
	m[5] = float64(m[3]*(-cx-tx)) + float64(m[4]*(-cy-ty)) + cy
	return m
}

// affine moves image and mask by the inverse matrix a.
func (s *Sample) affine(h, w int, a [6]float64, by Interpolation, fill Ints, maskFill int) {
	s.move(h, w, func(dst, src Image, masked bool) {
		if masked {
			by, fill = Nearest, Ints{maskFill}
		}
		warp(dst, src, a, by, fill)
	})
}

// rotate turns counter-clockwise; center is [x, y] or nil.
func (s *Sample) rotate(degrees float64, by Interpolation, expand bool, center Values, fill Ints,
	maskFill int) error {
	h, w := s.Image.H, s.Image.W
	degrees = math.Mod(degrees, 360)
	if degrees < 0 {
		degrees += 360
	}
	if q := degrees / 90; len(center) == 0 && q == math.Trunc(q) && (q == 0 || q == 2 || q < 4 &&
		(expand || h == w)) {
		if q != 0 && q != 2 {
			h, w = w, h
		}
		s.move(h, w, func(dst, src Image, _ bool) { turn(dst, src, int(q)) })
		return nil
	}
	cx, cy := float64(w)/2, float64(h)/2
	if len(center) == 2 {
		cx, cy = center[0], center[1]
	}
	a := rotation(degrees, cx, cy)
	if expand {
		h, w = expanded(&a, h, w)
		if h > maxSide || w > maxSide {
			return fmt.Errorf("rotating %dx%d makes %dx%d: sides of at most %d are wanted", s.Image.H,
				s.Image.W, h, w, maxSide)
		}
	}
	s.affine(h, w, a, by, fill, maskFill)
	return nil
}

// expanded is the size that holds all of the rotated image; the matrix is moved to it.
func expanded(a *[6]float64, h, w int) (int, int) {
	var x0, x1, y0, y1 float64
	for i, p := range [4][2]float64{{0, 0}, {float64(w), 0}, {float64(w), float64(h)}, {0, float64(h)}} {
		x := float64(a[0]*p[0]) + float64(a[1]*p[1]) + a[2]
		y := float64(a[3]*p[0]) + float64(a[4]*p[1]) + a[5]
		if i == 0 {
			x0, x1, y0, y1 = x, x, y, y
		}
		x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
	}
	nw, nh := int(math.Ceil(x1)-math.Floor(x0)), int(math.Ceil(y1)-math.Floor(y0))
	dx, dy := -float64(nw-w)/2, -float64(nh-h)/2
	a[2], a[5] = float64(a[0]*dx)+float64(a[1]*dy)+a[2], float64(a[3]*dx)+float64(a[4]*dy)+a[5]
	return nh, nw
}

// RandomRotation turns the image by an angle of Degrees: 30 for [-30, 30], or [least,
// most], counter-clockwise.
type RandomRotation struct {
	Degrees       Values        `json:"degrees"`
	Interpolation Interpolation `json:"interpolation,omitempty"` // Nearest if not given
	// the result is as large as it must be to hold everything
	Expand   bool   `json:"expand,omitempty"`
	Center   Values `json:"center,omitempty"` // [x, y]; the middle if not given
	Fill     Ints   `json:"fill,omitempty"`
	MaskFill int    `json:"mask_fill,omitempty"`
}

func (t RandomRotation) check() error {
	return RandomAffine{Degrees: t.Degrees, Interpolation: t.Interpolation, Center: t.Center, Fill: t.Fill,
		MaskFill: t.MaskFill}.check()
}

// Apply rotates.
func (t RandomRotation) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	lo, hi := t.Degrees.span(0)
	return s.rotate(uniform(r, lo, hi), t.Interpolation, t.Expand, t.Center, t.Fill, t.MaskFill)
}

// RandomAffine turns (clockwise), moves, scales and shears the image, its middle staying where it is.
type RandomAffine struct {
	Degrees Values `json:"degrees"`
	// [most of the width, most of the height], from 0 to 1
	Translate Values `json:"translate,omitempty"`
	Scale     Values `json:"scale,omitempty"` // [least, most]
	// degrees: x for [-x, x], [least, most] along x, or four with those along y
	Shear         Values        `json:"shear,omitempty"`
	Interpolation Interpolation `json:"interpolation,omitempty"` // Nearest if not given
	Center        Values        `json:"center,omitempty"`        // [x, y]; the middle if not given
	Fill          Ints          `json:"fill,omitempty"`
	MaskFill      int           `json:"mask_fill,omitempty"`
}

func (t RandomAffine) check() error {
	if len(t.Degrees) == 0 {
		return fmt.Errorf("degrees are missing (0 for none)")
	}
	if err := t.Degrees.checkSpan("degrees", 0, -1e6, 1e6); err != nil {
		return err
	}
	if n := len(t.Translate); n != 0 && (n != 2 || checkP(t.Translate[0]) != nil ||
		checkP(t.Translate[1]) != nil) {
		return fmt.Errorf("translate %v: two shares from 0 to 1 are wanted", []float64(t.Translate))
	}
	if err := t.Scale.checkPair("scale", 1e-3, 1e3); err != nil {
		return err
	}
	x, y := t.shears()
	for _, v := range []Values{x, y} {
		if err := v.checkSpan("shear", 0, -89, 89); err != nil {
			return err
		}
	}
	if n := len(t.Center); n != 0 &&
		(n != 2 || !(math.Abs(t.Center[0]) <= 1e6 && math.Abs(t.Center[1]) <= 1e6)) {
		return fmt.Errorf("center %v: [x, y] is wanted", []float64(t.Center))
	}
	if err := t.Fill.checkLevels("fill"); err != nil {
		return err
	}
	if err := checkMaskFill(t.MaskFill); err != nil {
		return err
	}
	return checkWord("interpolation", t.Interpolation, Nearest, Bilinear)
}

func (t RandomAffine) shears() (x, y Values) {
	if len(t.Shear) == 4 {
		return t.Shear[:2], t.Shear[2:]
	}
	return t.Shear, nil
}

// Apply moves.
func (t RandomAffine) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	h, w := s.Image.H, s.Image.W
	lo, hi := t.Degrees.span(0)
	degrees := uniform(r, lo, hi)
	var tx, ty, shearX, shearY float64
	if len(t.Translate) == 2 {
		dx, dy := t.Translate[0]*float64(w), t.Translate[1]*float64(h)
		tx, ty = math.RoundToEven(uniform(r, -dx, dx)), math.RoundToEven(uniform(r, -dy, dy))
	}
	factor := 1.0
	if len(t.Scale) == 2 {
		factor = uniform(r, t.Scale[0], t.Scale[1])
	}
	if x, y := t.shears(); len(x) != 0 {
		lo, hi = x.span(0)
		shearX = uniform(r, lo, hi)
		if len(y) != 0 {
			shearY = uniform(r, y[0], y[1])
		}
	}
	cx, cy := float64(w)*0.5, float64(h)*0.5
	if len(t.Center) == 2 {
		cx, cy = t.Center[0], t.Center[1]
	}
	s.affine(h, w, affineMatrix(degrees, tx, ty, factor, shearX, shearY, cx, cy), t.Interpolation,
		t.Fill, t.MaskFill)
	return nil
}
