package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
)

// scalesImages reports whether o multiplies a map [N,C,H,W] by a factor for each image, [N,1,1,1], as stochastic depth
// does. What is zero stays zero, halos and empty lanes too.
func scalesImages(o *op) bool {
	if !o.is("", "Mul") || !isFloat(o.in...) || !o.in[0].isFloat4() {
		return false
	}
	x, factors := o.in[0], o.in[1]
	return equalDims(factors.dims, []int64{x.dims[0], 1, 1, 1}) && equalDims(x.dims, o.out[0].dims)
}

// scaleImages lowers what scalesImages, a chunk an image.
func (l *lowering) scaleImages(o *op) {
	x, y, factors := o.in[0], o.out[0], o.in[1]
	images, size := int(x.dims[0]), int(x.size())
	if x.layout != nil {
		size = x.layout.Size()
	}
	image := size / images
	l.inPlace(o, y, x)
	l.add("scale images", images, l.all(x, factors, y), func() func(int, int) {
		to, from, by := y.f(), x.f(), factors.f()
		return func(n, _ int) { kernels.Scale(to[n*image:(n+1)*image], from[n*image:(n+1)*image], by[n]) }
	})
}
