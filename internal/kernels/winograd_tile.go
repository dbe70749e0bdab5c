package kernels

import "math"

// Winograd's F(4x4,3x3) computes 4x4 pixels of a convolution from 6x6 pixels with 36
// multiplications instead of 144:
//
//	y = A' [ (G w G') . (B' x B) ] A
//
// The one-dimensional transforms interpolate at 0, +-a, +-b and infinity. With a = 1/sqrt(2) and b = sqrt(2)
// the largest error of a convolution of 64 channels is a seventh of that with the usual 1 and 2, for the same
// work: the transforms' numbers lie closer together. See Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks" (2015), for the method, and Barabasz et al., "Error Analysis and Improving the Accuracy of
// Winograd Convolution" (2018), for the points.
const (
	pointA = math.Sqrt2 / 2
	pointB = math.Sqrt2
)

// winogradTile is a call of a transform: n tiles between pixels (or taps of weights) and positions, 36 of
// them or 8 along rows. The assembly reads the fields by their place and counts n or rows down.
type winogradTile struct {
	pixels, positions []float32
	bias, res         []float32
	spill             []float32 // 36*16 floats, aligned, for the assembly
	row               int       // floats between rows of pixels, or between taps
	step              int       // between positions
	next              int       // between tiles in a position
	n                 int
	act               int // activation

	// Of the transforms along rows only.
	rows  int // rows of n tiles
	down  int // floats between rows of positions
	lanes int // of a pixel: 16, 8, or 4 at most
}

// The rows of B', A', G and of the reverse directions, as used by the twins.
func inputLine(x [6]float32) [6]float32 {
	t1, t2 := x[4]-2*x[2], x[3]-2*x[1]
	t3, t4 := x[4]-.5*x[2], x[3]-.5*x[1]
	return [6]float32{x[0] + x[4] - 2.5*x[2], t1 + pointA*t2, t1 - pointA*t2, t3 + pointB*t4, t3 - pointB*t4,
		x[5] + x[1] - 2.5*x[3]}
}

func outputLine(m [6]float32) [4]float32 {
	s1, d1, s2, d2 := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [4]float32{m[0] + s1 + s2, pointA*d1 + pointB*d2, .5*s1 + 2*s2, m[5] + pointA/2*d1 + pointB*2*d2}
}

func gradientLine(y [4]float32) [6]float32 {
	t1, t2, t3, t4 := y[0]+.5*y[2], y[1]+.5*y[3], y[0]+2*y[2], y[1]+2*y[3]
	return [6]float32{y[0], t1 + pointA*t2, t1 - pointA*t2, t3 + pointB*t4, t3 - pointB*t4, y[3]}
}

func weightsLine(w [3]float32) [6]float32 {
	t, s := -2./3*w[0]-1./3*w[2], 1./6*w[0]+1./3*w[2]
	return [6]float32{w[0], t - pointA/1.5*w[1], t + pointA/1.5*w[1], s + pointB/6*w[1],
		s - pointB/6*w[1], w[2]}
}

func tapsLine(u [6]float32) [3]float32 {
	s1, d1, s2, d2 := u[1]+u[2], u[1]-u[2], u[3]+u[4], u[3]-u[4]
	return [3]float32{u[0] - 2./3*s1 + 1./6*s2, pointB/6*d2 - pointA/1.5*d1, u[5] - 1./3*s1 + 1./3*s2}
}

// winogradInputGo transforms n tiles of 6x6 pixels, 4 apart, of 16 lanes:
//
//	positions[(i*6+j)*step+t*next:][:16] = (B' x B)[i][j], x[r][c] = pixels[r*row+(4*t+c)*16:][:16]
func winogradInputGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var mid [6][6]float32
			for c := range 6 {
				var x [6]float32
				for r := range x {
					x[r] = a.pixels[r*a.row+(4*t+c)*Block+o]
				}
				for i, v := range inputLine(x) {
					mid[i][c] = v
				}
			}
			for i := range mid {
				for j, v := range inputLine(mid[i]) {
					a.positions[(i*6+j)*a.step+t*a.next+o] = v
				}
			}
		}
	}
}

// winogradGradientGo transforms n tiles of 4x4 pixels of 16 lanes:
//
//	positions[(i*6+j)*step+t*next:][:16] = (A x A')[i][j], x[r][c] = pixels[r*row+(4*t+c)*16:][:16]
func winogradGradientGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var mid [6][4]float32
			for c := range 4 {
				var x [4]float32
				for r := range x {
					x[r] = a.pixels[r*a.row+(4*t+c)*Block+o]
				}
				for i, v := range gradientLine(x) {
					mid[i][c] = v
				}
			}
			for i := range mid {
				for j, v := range gradientLine(mid[i]) {
					a.positions[(i*6+j)*a.step+t*a.next+o] = v
				}
			}
		}
	}
}

// winogradWeightsGo transforms the 3x3 taps of n input channels, of 16 output channels each:
//
//	positions[(i*6+j)*step+t*next:][:16] = (G w G')[i][j], w[r][c] = pixels[(r*3+c)*row+t*16:][:16]
func winogradWeightsGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var mid [6][3]float32
			for c := range 3 {
				var w [3]float32
				for r := range w {
					w[r] = a.pixels[(r*3+c)*a.row+t*Block+o]
				}
				for i, v := range weightsLine(w) {
					mid[i][c] = v
				}
			}
			for i := range mid {
				for j, v := range weightsLine(mid[i]) {
					a.positions[(i*6+j)*a.step+t*a.next+o] = v
				}
			}
		}
	}
}

// winogradOutputGo transforms n tiles back to 4x4 pixels of 16 lanes, the epilogue included:
//
//	pixels[r*row+(4*t+c)*16:][:16] = finish( (A' m A)[r][c] + bias, res[r*row+(4*t+c)*16:][:16] )
//
// with m[i][j] = positions[(i*6+j)*step+t*next:][:16] and finish the epilogue. bias and res may be nil.
func winogradOutputGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var mid [4][6]float32
			for j := range 6 {
				var m [6]float32
				for i := range m {
					m[i] = a.positions[(i*6+j)*a.step+t*a.next+o]
				}
				for r, v := range outputLine(m) {
					mid[r][j] = v
				}
			}
			for r := range mid {
				for c, v := range outputLine(mid[r]) {
					at := r*a.row + (4*t+c)*Block + o
					if a.bias != nil {
						v += a.bias[o]
					}
					a.pixels[at] = finish(a.act, v, a.res, at)
				}
			}
		}
	}
}

// winogradTapsGo transforms the gradients of n input channels' weights back to 3x3 taps:
//
//	pixels[(r*3+c)*row+t*16:][:16] = (G' m G)[r][c], m[i][j] = positions[(i*6+j)*step+t*next:][:16]
func winogradTapsGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var mid [3][6]float32
			for j := range 6 {
				var m [6]float32
				for i := range m {
					m[i] = a.positions[(i*6+j)*a.step+t*a.next+o]
				}
				for r, v := range tapsLine(m) {
					mid[r][j] = v
				}
			}
			for r := range mid {
				for c, v := range tapsLine(mid[r]) {
					a.pixels[(r*3+c)*a.row+t*Block+o] = v
				}
			}
		}
	}
}

// check panics where the call would leave a slice: the assembly does not look. rows and cols are the pixels
// of a tile; cols 0 stands for taps.
func (a *winogradTile) check(rows, cols int) {
	_ = a.positions[35*a.step+(a.n-1)*a.next:][:Block]
	_ = a.spill[:36*Block]
	end := (rows-1)*a.row + (4*(a.n-1)+cols)*Block
	if cols == 0 {
		end = 8*a.row + a.n*Block
	}
	_ = a.pixels[:end]
	if a.res != nil {
		_ = a.res[:end]
	}
	if a.bias != nil {
		_ = a.bias[:Block]
	}
}
