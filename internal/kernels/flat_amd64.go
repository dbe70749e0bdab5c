//go:build amd64 && !purego

package kernels

// vectors is how many of n floats the assembly takes: whole groups of 16, at most a stretch.
func vectors(n int) int {
	if current == levelGo {
		return 0
	}
	return min(n, stretch) / Block * Block
}

// Relu computes y = max(x, 0); NaN stays.
func Relu(y, x []float32) {
	x = x[:len(y)]
	for n := vectors(len(y)); n > 0; n = vectors(len(y)) {
		if current == levelAVX512 {
			reluAVX512(&y[0], &x[0], n/Block)
		} else {
			reluAVX2(&y[0], &x[0], n/Block)
		}
		y, x = y[n:], x[n:]
	}
	reluGo(y, x)
}

// Clip computes y = low where x < low, high where x > high, else x; NaN stays.
func Clip(y, x []float32, low, high float32) {
	x = x[:len(y)]
	h := [2]float32{low, high}
	for n := vectors(len(y)); n > 0; n = vectors(len(y)) {
		if current == levelAVX512 {
			clipAVX512(&y[0], &x[0], &h[0], n/Block)
		} else {
			clipAVX2(&y[0], &x[0], &h[0], n/Block)
		}
		y, x = y[n:], x[n:]
	}
	clipGo(y, x, low, high)
}

// ClipGrad computes dx = dy where x = y, else 0.
func ClipGrad(dx, dy, x, y []float32) {
	dy, x, y = dy[:len(dx)], x[:len(dx)], y[:len(dx)]
	for n := vectors(len(dx)); n > 0; n = vectors(len(dx)) {
		if current == levelAVX512 {
			clipGradAVX512(&dx[0], &dy[0], &x[0], &y[0], n/Block)
		} else {
			clipGradAVX2(&dx[0], &dy[0], &x[0], &y[0], n/Block)
		}
		dx, dy, x, y = dx[n:], dy[n:], x[n:], y[n:]
	}
	clipGradGo(dx, dy, x, y)
}

// ReluGrad computes dx = dy where y > 0, else 0.
func ReluGrad(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for n := vectors(len(dx)); n > 0; n = vectors(len(dx)) {
		if current == levelAVX512 {
			reluGradAVX512(&dx[0], &dy[0], &y[0], n/Block)
		} else {
			reluGradAVX2(&dx[0], &dy[0], &y[0], n/Block)
		}
		dx, dy, y = dx[n:], dy[n:], y[n:]
	}
	reluGradGo(dx, dy, y)
}

// Add computes y = a + b.
func Add(y, a, b []float32) {
	a, b = a[:len(y)], b[:len(y)]
	for n := vectors(len(y)); n > 0; n = vectors(len(y)) {
		if current == levelAVX512 {
			addAVX512(&y[0], &a[0], &b[0], n/Block)
		} else {
			addAVX2(&y[0], &a[0], &b[0], n/Block)
		}
		y, a, b = y[n:], a[n:], b[n:]
	}
	addGo(y, a, b)
}

// SGD updates p by the gradient g; buf is the momentum buffer.
func SGD(p, g, buf []float32, h SGDParams) {
	g = g[:len(p)]
	if h.Momentum == 0 {
		sgdGo(p, g, buf, h)
		return
	}
	buf = buf[:len(p)]
	coef := [4]float32{float32(h.LR), float32(h.WeightDecay), float32(h.Momentum), float32(1 - h.Dampening)}
	for n := vectors(len(p)); n > 0; n = vectors(len(p)) {
		if current == levelAVX512 {
			sgdAVX512(&p[0], &g[0], &buf[0], &coef[0], n/Block, flag(h.First), flag(h.Nesterov))
		} else {
			sgdAVX2(&p[0], &g[0], &buf[0], &coef[0], n/Block, flag(h.First), flag(h.Nesterov))
		}
		p, g, buf = p[n:], g[n:], buf[n:]
	}
	sgdGo(p, g, buf, h)
}

// Adam updates p by the gradient g; m and v are the moments.
func Adam(p, g, m, v []float32, h AdamParams) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	k := h.coefficients()
	coef := [8]float32{k.shrink, k.decay, k.rest1, k.beta2, k.rest2, k.step, k.correction2, k.eps}
	for n := vectors(len(p)); n > 0; n = vectors(len(p)) {
		if current == levelAVX512 {
			adamAVX512(&p[0], &g[0], &m[0], &v[0], &coef[0], n/Block)
		} else {
			adamAVX2(&p[0], &g[0], &m[0], &v[0], &coef[0], n/Block)
		}
		p, g, m, v = p[n:], g[n:], m[n:], v[n:]
	}
	adamGo(p, g, m, v, h)
}
