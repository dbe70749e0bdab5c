package builders

import "strconv"

// sequential names the modules of a torch.nn.Sequential by their place in it.
type sequential struct {
	*Builder
	n int
}

func (b *Builder) sequential(name string) *sequential { return &sequential{Builder: b.Scope(name)} }

// next is the name of the next module. In Go, as not in Python, the outer call of two takes its name first:
// call next in statements of their own.
func (s *sequential) next() string {
	s.n++
	return strconv.Itoa(s.n - 1)
}

// conv is a convolution, its norm and an activation, where there is one.
func (s *sequential) conv(x Value, channels, k int, act Activation, opts ...Option) Value {
	x = s.Conv2d(s.next(), x, channels, k, append([]Option{NoBias()}, opts...)...)
	x = s.BatchNorm2d(s.next(), x, opts...)
	if act != nil {
		x = act(s.Builder, s.next(), x)
	}
	return x
}

// convNorm is torchvision.ops.Conv2dNormActivation, modules name.0 to name.2: a convolution that keeps the
// size but for its stride, a norm, and an activation, where there is one.
func (b *Builder) convNormAct(name string, x Value, channels, k int, act Activation, opts ...Option) Value {
	l := windowOptions(k, opts)
	pad := Pads(int((l.kernel[0]-1)/2*l.dilation[0]), int((l.kernel[1]-1)/2*l.dilation[1]))
	return b.sequential(name).conv(x, channels, k, act, append([]Option{pad}, opts...)...)
}

// divisible is width rounded to a multiple of eight, and up where that would take
// more than a tenth of it away.
func divisible(width float64) int {
	n := max(8, int(width+4)/8*8)
	if float64(n) < 0.9*width {
		n += 8
	}
	return n
}

// head is what torchvision's mobile networks end with: the mean of every channel, dropout, and a
// linear layer classifier.1.
func (b *Builder) head(x Value, classes int, drop float32, opts ...Option) Value {
	x = b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x))
	c := b.Scope("classifier")
	return c.Linear("1", c.Dropout("0", x, drop), classes, opts...)
}
