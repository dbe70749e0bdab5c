package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/onnxio"
)

// BatchTransform changes a batch in place: inputs x [N,C,H,W] float32 and soft targets y [N,classes]
// float32 (OneHot). Each sample is mixed with the one before it, the first with the last, so the
// batch should be shuffled.
type BatchTransform interface {
	ApplyBatch(x, y *onnxio.Tensor, r *rand.Rand) error
}

// OneHot writes labels [N] int64 as targets y [N,classes] float32: one at the label, zero elsewhere.
func OneHot(y, labels *onnxio.Tensor) error {
	if y.Type != onnxio.Float || labels.Type != onnxio.Int64 || len(y.Dims) != 2 || len(labels.Dims) != 1 ||
		y.Dims[0] != labels.Dims[0] {
		return fmt.Errorf("one-hot targets %v %v of labels %v %v: [N,classes] float32 of [N] int64 is wanted",
			y.Dims, y.Type,
			labels.Dims, labels.Type)
	}
	to, classes := y.Float32s(), y.Dims[1]
	clear(to)
	for i, l := range onnxio.Data[int64](labels) {
		if l < 0 || l >= classes {
			return fmt.Errorf("label %d of sample %d: there are %d classes", l, i, classes)
		}
		to[int64(i)*classes+l] = 1
	}
	return nil
}

// MixUp weighs each sample and its neighbour by a share from Beta(Alpha, Alpha): Zhang et al. 2017.
type MixUp struct {
	Alpha float64 `json:"alpha,omitempty"` // 1 if not given
	// how probable it is that a batch is mixed at all; 1 in JSON, if not given
	P float64 `json:"p"`
}

func (t MixUp) check() error { return checkMix(t.Alpha, t.P) }

func checkMix(alpha, p float64) error {
	if alpha != 0 && !(alpha >= 1e-3 && alpha <= 1e3) {
		return outOfRange("alpha", alpha, 0.001, 1000)
	}
	return checkP(p)
}

// share draws from Beta(alpha, alpha); 1 stands for an alpha that is not given.
func share(r *rand.Rand, alpha float64) float64 {
	if alpha == 0 {
		alpha = 1
	}
	return beta(r, alpha)
}

// ApplyBatch mixes, or not.
func (t MixUp) ApplyBatch(x, y *onnxio.Tensor, r *rand.Rand) error {
	if err := readyBatch(t, x, y); err != nil {
		return err
	}
	if r.Float64() >= t.P || x.Dims[0] == 0 {
		return nil
	}
	own := share(r, t.Alpha)
	mixRows(x.Float32s(), int(x.Dims[0]), float32(own))
	mixRows(y.Float32s(), int(x.Dims[0]), float32(own))
	return nil
}

// mixRows makes of each of n rows own of itself and the rest of the row before it.
func mixRows(rows []float32, n int, own float32) {
	size := len(rows) / n
	last := append([]float32(nil), rows[(n-1)*size:]...)
	for i := n - 1; i >= 0; i-- {
		before := last
		if i > 0 {
			before = rows[(i-1)*size:][:size]
		}
		row := rows[i*size:][:size]
		for j, v := range row {
			row[j] = float32(v*own) + float32(before[j]*(1-own))
		}
	}
}

// CutMix puts a rectangle of its neighbour into each sample; its area's share is from Beta(Alpha, Alpha),
// what the border cuts off taken away: Yun et al. 2019. The rectangle is the same for the whole batch.
type CutMix struct {
	Alpha float64 `json:"alpha,omitempty"` // 1 if not given
	// how probable it is that a batch is mixed at all; 1 in JSON, if not given
	P float64 `json:"p"`
}

func (t CutMix) check() error { return checkMix(t.Alpha, t.P) }

// ApplyBatch mixes, or not.
func (t CutMix) ApplyBatch(x, y *onnxio.Tensor, r *rand.Rand) error {
	if err := readyBatch(t, x, y); err != nil {
		return err
	}
	if r.Float64() >= t.P || x.Dims[0] == 0 {
		return nil
	}
	h, w := int(x.Dims[2]), int(x.Dims[3])
	own := share(r, t.Alpha)
	cx, cy := r.IntN(w), r.IntN(h)
	half := 0.5 * math.Sqrt(1-own)
	rw, rh := int(half*float64(w)), int(half*float64(h))
	x0, y0, x1, y1 := max(cx-rw, 0), max(cy-rh, 0), min(cx+rw, w), min(cy+rh, h)
	cutRows(x.Float32s(), [4]int{int(x.Dims[0]), int(x.Dims[1]), h, w}, x0, y0, x1, y1)
	mixRows(y.Float32s(), int(x.Dims[0]), float32(1-float64((x1-x0)*(y1-y0))/float64(h*w)))
	return nil
}

// cutRows copies a rectangle of each sample into the next.
func cutRows(pixels []float32, dims [4]int, x0, y0, x1, y1 int) {
	n, planes, h, w := dims[0], dims[1], dims[2], dims[3]
	for c := range planes {
		for y := y0; y < y1; y++ {
			at := func(i int) []float32 { return pixels[((i*planes+c)*h+y)*w:][x0:x1] }
			last := append([]float32(nil), at(n-1)...)
			for i := n - 1; i > 0; i-- {
				copy(at(i), at(i-1))
			}
			copy(at(0), last)
		}
	}
}

func readyBatch(t checker, x, y *onnxio.Tensor) error {
	if err := t.check(); err != nil {
		return err
	}
	if x.Type != onnxio.Float || y.Type != onnxio.Float || len(x.Dims) != 4 || len(y.Dims) != 2 ||
		x.Dims[0] != y.Dims[0] {
		return fmt.Errorf("inputs %v %v and targets %v %v: [N,C,H,W] and [N,classes] float32 are wanted",
			x.Dims, x.Type, y.Dims, y.Type)
	}
	if x.Dims[0] != 0 && (x.Dims[1] < 1 || x.Dims[2] < 1 || x.Dims[3] < 1) {
		return fmt.Errorf("inputs %v without pixels", x.Dims)
	}
	return nil
}

// ApplyBatch applies every transform. An error names the one it is from.
func (c BatchCompose) ApplyBatch(x, y *onnxio.Tensor, r *rand.Rand) error {
	for i, t := range c {
		if err := t.ApplyBatch(x, y, r); err != nil {
			return fmt.Errorf("batch transform %d, %s: %w", i, nameOf(t), err)
		}
	}
	return nil
}
