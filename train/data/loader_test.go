package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// noise is a set of random images, in memory, with labels.
func noise(t testing.TB, n, classes int, size [3]int) *Images {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	pixels, labels := make([]uint8, n*size[0]*size[1]*size[2]), make([]uint8, n)
	for i := range pixels {
		pixels[i] = uint8(r.Uint32())
	}
	for i := range labels {
		labels[i] = uint8(r.IntN(classes))
	}
	names := make([]string, classes)
	mean, std := make([]float32, size[0]), make([]float32, size[0])
	for c := range std {
		mean[c], std[c] = 0.4, 0.3
	}
	d, err := NewImages(size, pixels, labels, names, mean, std)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// digest is that of all batches of an epoch from a step on.
func digest(t *testing.T, ds Dataset, cfg LoaderConfig, epoch, from int) string {
	t.Helper()
	l, err := NewLoader(ds, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	steps := from
	for b, err := range l.Epoch(t.Context(), epoch, from) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Step != steps {
			t.Fatalf("step %d comes as the %d-th", b.Step, steps)
		}
		fmt.Fprint(h, b.X.Dims, b.Target.Dims, b.Indices)
		h.Write(b.X.Raw)
		h.Write(b.Target.Raw)
		steps++
	}
	if steps != l.Steps() {
		t.Fatalf("%d of %d steps", steps, l.Steps())
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func augment(t *testing.T) transforms.Compose {
	t.Helper()
	c, err := transforms.Of(transforms.RandomCrop{Size: transforms.Ints{8}, Padding: transforms.Ints{2}},
		transforms.RandomHorizontalFlip{P: 0.5},
		transforms.RandomRotation{Degrees: transforms.Values{20}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever the number of workers, and however far ahead, the batches are the same to the bit.
func TestLoaderIsTheSameForAnyWorkers(t *testing.T) {
	labels := noise(t, 203, 5, [3]int{3, 8, 8})
	masks := noise(t, 101, 2, [3]int{1, 8, 8})
	masks.Masks = make([]uint8, 101*64)
	for i := range masks.Masks {
		masks.Masks[i] = masks.Pixels[i] & 1
	}
	for name, c := range map[string]struct {
		ds  Dataset
		cfg LoaderConfig
	}{
		"plain":     {labels, LoaderConfig{Batch: 16}},
		"shuffled":  {labels, LoaderConfig{Batch: 16, Shuffle: true, Seed: 3}},
		"dropped":   {labels, LoaderConfig{Batch: 16, Shuffle: true, DropLast: true}},
		"augmented": {labels, LoaderConfig{Batch: 16, Shuffle: true, Transforms: augment(t), Seed: 5}},
		"mixed": {labels, LoaderConfig{Batch: 16, Shuffle: true, Transforms: augment(t),
			Mix: []transforms.BatchTransform{transforms.MixUp{P: 1}}}},
		"masks":   {masks, LoaderConfig{Batch: 10, Shuffle: true, Transforms: augment(t)}},
		"resized": {masks, LoaderConfig{Batch: 10, Size: [2]int{5, 7}}},
		"subset": {Subset{labels, []int{5, 3, 100, 7, 9}}, LoaderConfig{Batch: 2, Shuffle: true,
			Transforms: augment(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Workers, c.cfg.Ahead = 1, 1
			want, tail, second := digest(t, c.ds, c.cfg, 1, 0), digest(t, c.ds, c.cfg, 1, 2), digest(t,
				c.ds, c.cfg, 2, 0)
			for _, workers := range []int{2, 3, 8, 33} {
				c.cfg.Workers, c.cfg.Ahead = workers, workers%4+1
				if digest(t, c.ds, c.cfg, 1, 0) != want || digest(t, c.ds, c.cfg, 1, 2) != tail ||
					digest(t, c.ds, c.cfg, 2, 0) != second {
					t.Errorf("%d workers make other batches", workers)
				}
			}
			if c.cfg.Shuffle && second == want {
				t.Error("the second epoch is the first again")
			}
			c.cfg.Seed++
			if c.cfg.Shuffle && digest(t, c.ds, c.cfg, 1, 0) == want {
				t.Error("another seed makes the same batches")
			}
		})
	}
}

// Without transforms the batches are what Fill makes.
func TestLoaderFills(t *testing.T) {
	ds := noise(t, 10, 3, [3]int{3, 4, 5})
	l, err := NewLoader(ds, LoaderConfig{Batch: 4, Shuffle: true, Seed: 9})
	if err != nil {
		t.Fatal(err)
	}
	order := Order(10, 9, 4)
	for b, err := range l.Epoch(t.Context(), 4, 0) {
		if err != nil {
			t.Fatal(err)
		}
		part := order[b.Step*4 : min(10, b.Step*4+4)]
		x, y := NewBatch(ds, len(part))
		if err := ds.Fill(x, y, part); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.Indices, part) || !slices.Equal(b.X.Dims, x.Dims) ||
			string(b.X.Raw) != string(x.Raw) || string(b.Target.Raw) != string(y.Raw) {
			t.Errorf("step %d is another batch", b.Step)
		}
	}
	soft, err := NewLoader(ds, LoaderConfig{Batch: 10, Soft: true})
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range soft.Epoch(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range b.Target.Float32s() {
			if want := i%3 == int(ds.Labels[i/3]); v != 0 != want {
				t.Errorf("soft target %v at %d", v, i)
			}
		}
	}
}

// A mask goes the way of its image.
func TestLoaderMovesMasksWithImages(t *testing.T) {
	ds := noise(t, 50, 2, [3]int{1, 8, 8})
	for i, p := range ds.Pixels {
		ds.Pixels[i] = p >> 7 * 255
	}
	ds.Masks = make([]uint8, len(ds.Pixels))
	for i, p := range ds.Pixels {
		ds.Masks[i] = p & 1
	}
	flip, err := transforms.Of(transforms.RandomHorizontalFlip{P: 0.5}, transforms.RandomVerticalFlip{P: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLoader(ds, LoaderConfig{Batch: 7, Transforms: flip})
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	for b, err := range l.Epoch(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range b.Target.Float32s() {
			if (m == 1) != (b.X.Float32s()[i] > 0) {
				t.Fatal("the mask is no longer that of the image")
			}
			changed = changed || m != float32(ds.Masks[b.Indices[0]*64+i])
		}
	}
	if !changed {
		t.Error("nothing is flipped")
	}
}

// broken is a set whose sample 13 cannot be had.
type broken struct {
	*Images
	panics bool
}

func (b broken) Sample(i int) (Sample, error) {
	if i == 13 && b.panics {
		panic("no such thing")
	}
	if i == 13 {
		return Sample{}, errors.New("photo-13.png: cannot be read")
	}
	return b.Images.Sample(i)
}

func (b broken) Where(i int) string { return fmt.Sprintf("photo-%d.png", i) }

// settled waits until as many goroutines are left as there were.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
}

func TestLoaderErrorsNameTheSample(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, panics := range []bool{false, true} {
		for _, workers := range []int{1, 4} {
			l, err := NewLoader(broken{noise(t, 40, 3, [3]int{1, 2, 2}), panics},
				LoaderConfig{Batch: 4, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			steps, failed := 0, error(nil)
			for _, err := range l.Epoch(t.Context(), 1, 0) {
				if err != nil {
					failed = err
					continue
				}
				steps++
			}
			if steps != 3 || failed == nil || !strings.Contains(failed.Error(), "photo-13.png") {
				t.Errorf("%d steps, then %v", steps, failed)
			}
		}
	}
	bad := transforms.Compose{transforms.RandomCrop{Size: transforms.Ints{50}}}
	l, err := NewLoader(broken{noise(t, 40, 3, [3]int{1, 2, 2}), false},
		LoaderConfig{Batch: 4, Transforms: bad})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range l.Epoch(t.Context(), 1, 0) {
		if err == nil || !strings.Contains(err.Error(), "photo-0.png") {
			t.Errorf("a transform's error: %v", err)
		}
	}
	settled(t, before)
}

func TestLoaderCorruptFile(t *testing.T) {
	dir := t.TempDir()
	var items []Item
	for i := range 6 {
		items = append(items, Item{Image: save(t, filepath.Join(dir, fmt.Sprint(i, ".png")),
			image.NewGray(image.Rect(0, 0, 3, 3)))})
	}
	put(t, items[4].Image, "rubbish")
	ds, err := NewFiles(items, FilesConfig{Classes: []string{"a"}, Size: [2]int{3, 3}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLoader(ds, LoaderConfig{Batch: 2, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	var format *onnxio.FormatError
	var failed error
	for _, err := range l.Epoch(t.Context(), 1, 0) {
		failed = err
	}
	if !errors.As(failed, &format) || strings.Count(failed.Error(), "4.png") != 1 {
		t.Errorf("%v", failed)
	}
}

func TestLoaderStops(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := NewLoader(noise(t, 4000, 3, [3]int{3, 8, 8}), LoaderConfig{Batch: 4, Workers: 4, Ahead: 8,
		Transforms: augment(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range l.Epoch(t.Context(), 1, 0) {
		break
	}
	settled(t, before)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	reason := errors.New("enough")
	var got []error
	for b, err := range l.Epoch(ctx, 1, 0) {
		if err != nil {
			got = append(got, err)
		} else if b.Step == 5 {
			cancel(reason)
		}
	}
	if len(got) != 1 || !errors.Is(got[0], reason) {
		t.Errorf("%v", got)
	}
	settled(t, before)
	for b := range l.Epoch(t.Context(), 1, l.Steps()) {
		t.Errorf("a batch %v after the last", b)
	}
}

func TestLoaderSettings(t *testing.T) {
	ds := noise(t, 4, 2, [3]int{1, 2, 2})
	masks := *ds
	masks.Masks = make([]uint8, 16)
	for name, c := range map[string]struct {
		ds  Dataset
		cfg LoaderConfig
	}{
		"no batch":       {ds, LoaderConfig{}},
		"no images":      {Subset{Dataset: ds}, LoaderConfig{Batch: 1}},
		"workers":        {ds, LoaderConfig{Batch: 1, Workers: -1}},
		"a hostile size": {ds, LoaderConfig{Batch: 1, Size: [2]int{1 << 40, 1}}},
		"a hostile batch": {noise(t, 4, 2, [3]int{1, 2, 2}),
			LoaderConfig{Batch: 4, Size: [2]int{1 << 14, 1 << 14}, Transforms: transforms.Compose{nil}}},
		"a transform": {ds,
			LoaderConfig{Batch: 1, Transforms: transforms.Compose{transforms.RandomHorizontalFlip{P: 2}}}},
		"soft masks":            {&masks, LoaderConfig{Batch: 1, Soft: true}},
		"a sample out of range": {Subset{ds, []int{9}}, LoaderConfig{Batch: 1, Soft: true}},
	} {
		if _, err := NewLoader(c.ds, c.cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The loader is to be no bottleneck: LeNet-5 trains on some 40,000 images of MNIST a second on two cores.
func BenchmarkLoader(b *testing.B) {
	mnist, err := Open("mnist")
	if err != nil {
		b.Fatal(err)
	}
	light, err := transforms.Of(transforms.RandomCrop{Size: transforms.Ints{28}, Padding: transforms.Ints{2}},
		transforms.RandomHorizontalFlip{P: 0.5})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  LoaderConfig
	}{
		{"mnist", LoaderConfig{Batch: 64, Shuffle: true}},
		{"mnist-1", LoaderConfig{Batch: 64, Shuffle: true, Workers: 1}},
		{"mnist-crop-flip", LoaderConfig{Batch: 64, Shuffle: true, Transforms: light}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, err := NewLoader(mnist.Train, c.cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			images := 0
			for i := range b.N {
				for batch, err := range l.Epoch(b.Context(), i+1, 0) {
					if err != nil {
						b.Fatal(err)
					}
					images += len(batch.Indices)
				}
			}
			b.ReportMetric(float64(images)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
