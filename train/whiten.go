package train

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// whitenEps is added to the variances, for inputs of about unit deviation (Jordan,
// arXiv:2404.00498, section 3.2).
const whitenEps = 5e-4

// maxPatch bounds the numbers of a patch: the time for its directions rises with the third power.
const maxPatch = 1 << 9

// whitenModel gives the convolution that reads the model's input the filters that whiten patches of the first
// n images of ds: the eigenvectors of the patches' second moments, over the square roots of their
// eigenvalues, then their opposites. The largest eigenvalue comes last, as numpy.linalg.eigh has it. The
// tensor is replaced, not written to.
func whitenModel(m *onnxio.Model, ds data.Dataset, n int) error {
	at, w, err := firstFilters(m)
	if err != nil {
		return fmt.Errorf("whiten: %w", err)
	}
	c, kh, kw := int(w.Dims[1]), int(w.Dims[2]), int(w.Dims[3])
	d := c * kh * kw
	if d > maxPatch || int(w.Dims[0]) != 2*d {
		return fmt.Errorf("whiten: the filters %q are %v: %d are wanted for patches of %dx%dx%d, two for each of at most %d numbers",
			w.Name, w.Dims, 2*d, c, kh, kw, maxPatch)
	}
	if shape := ds.Shape(); shape[0] != c || shape[1] < kh || shape[2] < kw {
		return fmt.Errorf("whiten: images of %v have no patches of %dx%dx%d", shape, c, kh, kw)
	}
	moments, err := patchMoments(ds, min(n, ds.Len()), kh, kw)
	if err != nil {
		return fmt.Errorf("whiten: %w", err)
	}
	values, vectors := eigen(moments)
	out := onnxio.NewTensor(onnxio.Float, w.Dims...)
	out.Name = w.Name
	to := out.Float32s()
	for i, v := range values {
		for j := range d {
			f := float32(vectors[j][i] / math.Sqrt(max(v, 0)+whitenEps))
			to[i*d+j], to[(d+i)*d+j] = f, -f
		}
	}
	m.Graph.Initializers[at] = out
	return nil
}

// firstFilters are the weights of the only Conv that reads the model's input.
func firstFilters(m *onnxio.Model) (at int, w *onnxio.Tensor, err error) {
	in := m.Graph.Inputs[0].Name
	for _, n := range m.Graph.Nodes {
		if !slices.Contains(n.Inputs, in) {
			continue
		}
		if n.OpType != "Conv" || len(n.Inputs) < 2 {
			return 0, nil, fmt.Errorf("%s %q reads the input: a Conv is wanted", n.OpType, n.Name)
		}
		at = slices.IndexFunc(m.Graph.Initializers, func(t *onnxio.Tensor) bool {
			return t.Name == n.Inputs[1]
		})
		if at < 0 || len(m.Graph.Initializers[at].Dims) != 4 ||
			m.Graph.Initializers[at].Type != onnxio.Float {
			return 0, nil, fmt.Errorf("the filters of Conv %q are not float32 [O,I,H,W] in the file", n.Name)
		}
		return at, m.Graph.Initializers[at], nil
	}
	return 0, nil, fmt.Errorf("no Conv reads the input %q", in)
}

// patchMoments is the mean of p p^T over the patches p [C*kh*kw] of n images.
func patchMoments(ds data.Dataset, n, kh, kw int) ([][]float64, error) {
	shape := ds.Shape()
	c, h, w := shape[0], shape[1], shape[2]
	d, sums := c*kh*kw, 0
	moments := make([][]float64, d)
	for i := range moments {
		moments[i] = make([]float64, d)
	}
	offsets := make([]int, 0, d)
	for ch := range c {
		for y := range kh {
			for x := range kw {
				offsets = append(offsets, (ch*h+y)*w+x)
			}
		}
	}
	x, target := data.NewBatch(ds, 1)
	patch := make([]float64, d)
	for i := range n {
		if err := ds.Fill(x, target, []int{i}); err != nil {
			return nil, err
		}
		px := x.Float32s()
		for top := range h - kh + 1 {
			for left := range w - kw + 1 {
				for k, o := range offsets {
					patch[k] = float64(px[top*w+left+o])
				}
				for a, v := range patch {
					row := moments[a][:a+1]
					for b, u := range patch[:a+1] {
						row[b] += v * u
					}
				}
				sums++
			}
		}
	}
	for a := range d {
		for b := range a + 1 {
			moments[a][b] /= float64(max(sums, 1))
			moments[b][a] = moments[a][b]
		}
	}
	return moments, nil
}

// eigen gives the eigenvalues of a symmetric matrix in rising order, and its eigenvectors as columns, each
// with its largest number above zero: Jacobi's method, by cyclic rotations.
func eigen(a [][]float64) (values []float64, vectors [][]float64) {
	n := len(a)
	v := make([][]float64, n)
	for i := range v {
		a[i] = slices.Clone(a[i])
		v[i] = make([]float64, n)
		v[i][i] = 1
	}
	for range 64 { // sweeps; some ten are enough
		off, all := 0.0, 0.0
		for p := range n {
			for q := range n {
				all += a[p][q] * a[p][q]
				if p != q {
					off += a[p][q] * a[p][q]
				}
			}
		}
		if off <= 1e-28*all {
			break
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				rotate(a, v, p, q)
			}
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		if a[i][i] < a[j][j] {
			return -1
		}
		return 1
	})
	vectors = make([][]float64, n)
	for i := range vectors {
		vectors[i] = make([]float64, n)
	}
	for to, from := range order {
		values = append(values, a[from][from])
		top := 0.0
		for j := range n {
			if math.Abs(v[j][from]) > math.Abs(top) {
				top = v[j][from]
			}
		}
		for j := range n {
			vectors[j][to] = v[j][from] * math.Copysign(1, top)
		}
	}
	return values, vectors
}

// rotate makes a[p][q] zero.
func rotate(a, v [][]float64, p, q int) {
	if a[p][q] == 0 {
		return
	}
	theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
	t := math.Copysign(1, theta) / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range a {
		x, y := a[k][p], a[k][q]
		a[k][p], a[k][q] = c*x-s*y, s*x+c*y
	}
	for k := range a {
		x, y := a[p][k], a[q][k]
		a[p][k], a[q][k] = c*x-s*y, s*x+c*y
		x, y = v[k][p], v[k][q]
		v[k][p], v[k][q] = c*x-s*y, s*x+c*y
	}
}
