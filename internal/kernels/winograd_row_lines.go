package kernels

// Winograd's F(4,5) computes 4 neighbouring sums of 5 taps each from 8 pixels with 8
// multiplications instead of 20:
//
//	y = A' [ (G w) . (B' x) ]
//
// It interpolates at 0, +-1/2, +-1, +-2 and infinity. See winograd_tile.go for the method's sources.

// The rows of B', A', A, G and G', as used by the twins.
func rowInputLine(x [8]float32) [8]float32 {
	e1, o1 := x[6]-5*x[4]+4*x[2], x[5]-5*x[3]+4*x[1]
	e2, o2 := x[6]-4.25*x[4]+x[2], x[5]-4.25*x[3]+x[1]
	e3, o3 := x[6]-1.25*x[4]+.25*x[2], x[5]-1.25*x[3]+.25*x[1]
	return [8]float32{x[0] - x[6] - 5.25*x[2] + 5.25*x[4], e1 + .5*o1, e1 - .5*o1, e2 + o2, e2 - o2,
		e3 + 2*o3, e3 - 2*o3,
		x[7] - x[1] + 5.25*x[3] - 5.25*x[5]}
}

func rowOutputLine(m [8]float32) [4]float32 {
	s1, d1, s2, d2, s3, d3 := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4], m[5]+m[6], m[5]-m[6]
	return [4]float32{m[0] + s1 + s2 + s3, .5*d1 + d2 + 2*d3, .25*s1 + s2 + 4*s3, m[7] + .125*d1 + d2 + 8*d3}
}

func rowGradientLine(y [4]float32) [8]float32 {
	e1, o1, e2, o2, e3, o3 := y[0]+.25*y[2], y[1]+.25*y[3], y[0]+y[2], y[1]+y[3], y[0]+4*y[2], y[1]+4*y[3]
	return [8]float32{y[0], e1 + .5*o1, e1 - .5*o1, e2 + o2, e2 - o2, e3 + 2*o3, e3 - 2*o3, y[3]}
}

func rowWeightsLine(w [5]float32) [8]float32 {
	e1, o1 := 32./45*w[0]+8./45*w[2]+2./45*w[4], 16./45*w[1]+4./45*w[3]
	e2, o2 := -2./9*w[0]-2./9*w[2]-2./9*w[4], -2./9*w[1]-2./9*w[3]
	e3, o3 := 1./90*w[0]+4./90*w[2]+16./90*w[4], 2./90*w[1]+8./90*w[3]
	return [8]float32{w[0], e1 + o1, e1 - o1, e2 + o2, e2 - o2, e3 + o3, e3 - o3, w[4]}
}

func rowTapsLine(u [8]float32) [5]float32 {
	s1, d1, s2, d2, s3, d3 := u[1]+u[2], u[1]-u[2], u[3]+u[4], u[3]-u[4], u[5]+u[6], u[5]-u[6]
	return [5]float32{
		u[0] + 32./45*s1 - 2./9*s2 + 1./90*s3,
		16./45*d1 - 2./9*d2 + 2./90*d3,
		8./45*s1 - 2./9*s2 + 4./90*s3,
		4./45*d1 - 2./9*d2 + 8./90*d3,
		u[7] + 2./45*s1 - 2./9*s2 + 16./90*s3,
	}
}

// rowInputGo transforms rows of n tiles of 8 pixels, 4 apart, of so many lanes:
//
//	positions[i*step+r*down+t*next:][:lanes] = (B' x)[i], x[c] = pixels[r*row+(4*t+c)*lanes:][:lanes]
//
// Of fewer than 4 lanes it writes 4, the others zero.
func rowInputGo(a *winogradTile) {
	a.eachRow(max(4, a.lanes), func(pixel, position int, lane int) {
		var x [8]float32
		if lane < a.lanes {
			for c := range x {
				x[c] = a.pixels[pixel+c*a.lanes]
			}
		}
		for i, v := range rowInputLine(x) {
			a.positions[position+i*a.step] = v
		}
	})
}

// rowGradientGo transforms rows of n tiles of 4 pixels of so many lanes:
//
//	positions[i*step+r*down+t*next:][:lanes] = (A y)[i], y[c] = pixels[r*row+(4*t+c)*lanes:][:lanes]
func rowGradientGo(a *winogradTile) {
	a.eachRow(a.lanes, func(pixel, position int, lane int) {
		var y [4]float32
		for c := range y {
			y[c] = a.pixels[pixel+c*a.lanes]
		}
		for i, v := range rowGradientLine(y) {
			a.positions[position+i*a.step] = v
		}
	})
}

// rowOutputGo transforms rows of n tiles back to 4 pixels of so many lanes, the epilogue included:
//
//	pixels[at:][:lanes] = finish( (A' m)[c] + bias, res[at:][:lanes] ), at = r*row+(4*t+c)*lanes,
//
// with m[i] = positions[i*step+r*down+t*next:][:lanes] and finish the epilogue. bias and res may be nil.
func rowOutputGo(a *winogradTile) {
	a.eachRow(a.lanes, func(pixel, position int, lane int) {
		var m [8]float32
		for i := range m {
			m[i] = a.positions[position+i*a.step]
		}
		for c, v := range rowOutputLine(m) {
			at := pixel + c*a.lanes
			if a.bias != nil {
				v += a.bias[lane]
			}
			a.pixels[at] = finish(a.act, v, a.res, at)
		}
	})
}

// eachRow calls f for every tile and lane with the offsets of its first pixel and of its first position.
func (a *winogradTile) eachRow(lanes int, f func(pixel, position, lane int)) {
	for r := range a.rows {
		for t := range a.n {
			for o := range lanes {
				f(r*a.row+4*t*a.lanes+o, r*a.down+t*a.next+o, o)
			}
		}
	}
}

// rowWeightsGo transforms the 5 taps of a kernel's row for n input channels, of 16 output channels each:
//
//	positions[i*step+t*next:][:16] = (G w)[i], w[c] = pixels[c*row+t*16:][:16]
func rowWeightsGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var w [5]float32
			for c := range w {
				w[c] = a.pixels[c*a.row+t*Block+o]
			}
			for i, v := range rowWeightsLine(w) {
				a.positions[i*a.step+t*a.next+o] = v
			}
		}
	}
}

// rowTapsGo transforms the gradients of n input channels' weights back to 5 taps:
//
//	pixels[c*row+t*16:][:16] = (G' u)[c], u[i] = positions[i*step+t*next:][:16]
func rowTapsGo(a *winogradTile) {
	for t := range a.n {
		for o := range Block {
			var u [8]float32
			for i := range u {
				u[i] = a.positions[i*a.step+t*a.next+o]
			}
			for c, v := range rowTapsLine(u) {
				a.pixels[c*a.row+t*Block+o] = v
			}
		}
	}
}

// checkRows panics where a call on tiles of so many pixels would leave a slice: the assembly does not look.
func (a *winogradTile) checkRows(pixels int) {
	_ = a.positions[7*a.step+(a.rows-1)*a.down+(a.n-1)*a.next:][:max(4, a.lanes)]
	end := (a.rows-1)*a.row + (4*(a.n-1)+pixels)*a.lanes
	_ = a.pixels[:end]
	if a.res != nil {
		_ = a.res[:end]
	}
	if a.bias != nil {
		_ = a.bias[:Block]
	}
}

// checkTaps is the same for taps.
func (a *winogradTile) checkTaps() {
	_ = a.positions[7*a.step+(a.n-1)*a.next:][:Block]
	_ = a.pixels[:4*a.row+a.n*Block]
}
