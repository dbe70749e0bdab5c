package kernels

// GemmInt8Spec is a matrix product C[M,N] = A[M,K] B[K,N], row-major, of bytes with int32
// sums. B's zero point is 0.
type GemmInt8Spec struct {
	M, N, K  int
	LDA      int // bytes between rows of A: at least K rounded up to 64; 0 is K
	From, To Quantized
	Sums     bool // C is int32: the sums
}

// GemmInt8 is a planned matrix product of bytes, as GemmBF16. What lies past K in a row of A
// is multiplied with zeros.
//
// B is packed [N/32][K/64][2][16][16][4], with zeros past K and N.
type GemmInt8 struct {
	GemmInt8Spec
	tileGemm
}

// NewGemmInt8 plans a matrix product; an error says what does not fit.
func NewGemmInt8(s GemmInt8Spec) (*GemmInt8, error) {
	if s.LDA == 0 {
		s.LDA = s.K
	}
	for _, q := range []Quantized{s.From, s.To} {
		if err := q.valid(); err != nil {
			return nil, err
		}
	}
	g := &GemmInt8{GemmInt8Spec: s}
	width := 1
	if s.Sums {
		width = 4
	}
	if err := g.plan(s.M, s.N, s.K, Int8Lanes, s.LDA, s.N*width, width); err != nil {
		return nil, err
	}
	return g, nil
}

// PackedSize is the number of bytes of B packed.
func (g *GemmInt8) PackedSize() int { return g.panels * g.steps * stepSize }

// Outputs is the number of biases and scales: N rounded up to whole panels.
func (g *GemmInt8) Outputs() int { return g.panels * tileOuts }

// Pack packs a part of B less its zero points, [K,N], or [N,K] if it lies across.
func (g *GemmInt8) Pack(chunk int, dst []uint8, b []int8, across bool) {
	from := chunk * tileOuts
	panel := dst[chunk*g.steps*stepSize:][:g.steps*stepSize]
	clear(panel)
	for o := range min(tileOuts, g.N-from) {
		for k := range g.K {
			panel[packedInt8(o, k, g.steps)] = uint8(b[g.at(k, from+o, across)])
		}
	}
}

// at is where an element of B lies.
func (g *GemmInt8) at(k, n int, across bool) int {
	if across {
		return n*g.K + k
	}
	return k*g.N + n
}

// Offset computes the bias that takes A's zero point into account. bias is nil or int32 [N].
func (g *GemmInt8) Offset(dst []int32, b []int8, bias []int32, across bool) {
	clear(dst[:g.Outputs()])
	copy(dst, bias)
	for n := range g.N {
		sum := int32(0)
		for k := range g.K {
			sum += int32(b[g.at(k, n, across)])
		}
		dst[n] -= g.From.Zero * sum
	}
}

// Run computes a part of c = a b, requantized; b is packed.
func (g *GemmInt8) Run(chunk int, scratch []float32, c, a, b []uint8, e Requantize) {
	if g.Sums {
		panic("kernels: Run of a product to int32")
	}
	g.run(chunk, scratch, c, nil, a, b, e)
}

// RunSums computes a part of c = a b + bias.
func (g *GemmInt8) RunSums(chunk int, scratch []float32, c []int32, a, b []uint8, bias []int32) {
	if !g.Sums {
		panic("kernels: RunSums of a product to bytes")
	}
	g.run(chunk, scratch, nil, c, a, b, Requantize{Bias: bias})
}

func (g *GemmInt8) run(chunk int, scratch []float32, c []uint8, out []int32, a, b []uint8, e Requantize) {
	kind, first, last, from, to := g.part(chunk)
	p := int8Call{x: a[first*g.LDA:], scratch: scratch, from: g.From, to: g.To, apart: lineBytes}
	p.bounds(&e)
	for panel := from; panel < to; panel++ {
		p.w = b[panel*g.steps*stepSize:]
		p.bias = e.Bias[panel*tileOuts:][:tileOuts]
		if !g.Sums {
			p.scale = e.Scale[panel*tileOuts:][:tileOuts]
		}
		at, cols := first*g.N+panel*tileOuts, min(tileOuts, g.N-panel*tileOuts)
		whole := cols == tileOuts
		p.t = &kind[flag(!whole)]
		p.hi = p.t.blocks()
		next, lines := g.fetching(panel, p.hi)
		p.next, p.lines = b[next*g.steps*stepSize:], lines
		switch {
		case g.Sums && whole:
			p.out = out[at:]
			p.run()
		case g.Sums:
			p.out = asInt32(scratch[tileScratch:])
			p.run()
			copyColumns(out[at:], g.N, p.out, tileOuts, last-first, cols)
		case whole:
			p.y = c[at:]
			p.run()
		default:
			p.y = asBytes(scratch[tileScratch:])
			p.run()
			copyColumns(c[at:], g.N, p.y, tileOuts, last-first, cols)
		}
	}
}
