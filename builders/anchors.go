package builders

import "math"

// Boxes from which detectors start, as torchvision.models.detection.anchor_utils makes them. A box is x1, y1,
// x2, y2 in pixels. Numbers are rounded to float32 where torchvision's are.

// cell is a feature map whose places have boxes.
type cell struct {
	height, width int64
}

// anchors are the boxes at every place, [height*width*len(ratios)*len(sizes),4]: around multiples of the
// step, with the given sides, and with ratios of height to width.
func (c cell) anchors(down, right int64, sizes []int, ratios []float64) []float32 {
	var shapes [][4]float32
	for _, ratio := range ratios {
		high := float32(math.Sqrt(float64(float32(ratio))))
		wide := 1 / high
		for _, size := range sizes {
			w, h := half(wide*float32(size)), half(high*float32(size))
			shapes = append(shapes, [4]float32{-w, -h, w, h})
		}
	}
	out := make([]float32, 0, int(c.height*c.width)*len(shapes)*4)
	for y := range c.height {
		for x := range c.width {
			dx, dy := float32(x*right), float32(y*down)
			for _, s := range shapes {
				out = append(out, s[0]+dx, s[1]+dy, s[2]+dx, s[3]+dy)
			}
		}
	}
	return out
}

// half is x/2 to the nearest whole number, of two as near the even one.
func half(x float32) float32 { return float32(math.RoundToEven(float64(x / 2))) }

// defaultBoxes are SSD's at every place of an image of that side, [height*width*(2+2*len(ratios)),4]:
// squares of the scale and of its mean with the next, and boxes of the scale with the ratios and their
// inverses. Places are a step apart.
func (c cell) defaultBoxes(side int, step float32, scale, next float64, ratios []float64) []float32 {
	mean := math.Sqrt(scale * next)
	pairs := [][2]float64{{scale, scale}, {mean, mean}}
	for _, r := range ratios {
		w, h := scale*math.Sqrt(r), scale/math.Sqrt(r)
		pairs = append(pairs, [2]float64{w, h}, [2]float64{h, w})
	}
	size := float32(side)
	out := make([]float32, 0, int(c.height*c.width)*len(pairs)*4)
	for y := range c.height {
		for x := range c.width {
			cx, cy := (float32(x)+0.5)/(size/step), (float32(y)+0.5)/(size/step)
			for _, p := range pairs {
				w, h := float32(0.5*float32(min(p[0], 1))), float32(0.5*float32(min(p[1], 1)))
				out = append(out, (cx-w)*size, (cy-h)*size, (cx+w)*size, (cy+h)*size)
			}
		}
	}
	return out
}
