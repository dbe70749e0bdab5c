package data

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/train/data/transforms"
)

func TestPart(t *testing.T) {
	for n := range 20 {
		for ranks := 1; ranks < 7; ranks++ {
			at, longest := 0, n
			for rank := range ranks {
				lo, hi := Part(n, rank, ranks)
				if lo != at || hi-lo > longest || hi-lo < n/ranks || hi-lo > n/ranks+1 {
					t.Errorf("%d samples, rank %d of %d: [%d,%d) after %d", n, rank, ranks, lo, hi, at)
				}
				at, longest = hi, hi-lo
			}
			if at != n {
				t.Errorf("%d samples: %d ranks have %d", n, ranks, at)
			}
		}
	}
}

// The ranks' batches are parts of the batches that one process takes, augmented and mixed ones too.
func TestLoaderOfRanks(t *testing.T) {
	splits, err := Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	ds := Subset{Dataset: splits.Train, Indices: Sequence(50)}
	for name, cfg := range map[string]LoaderConfig{
		"plain":   {},
		"changed": {Transforms: transforms.Compose{transforms.RandomHorizontalFlip{P: 0.5}}},
		"mixed":   {Soft: true, Mix: transforms.BatchCompose{transforms.CutMix{Alpha: 1, P: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Batch, cfg.Seed, cfg.Shuffle = 16, 3, true
			whole := loaded(t, ds, cfg)
			for rank := range 4 {
				cfg.Rank, cfg.Ranks = rank, 4
				for step, b := range loaded(t, ds, cfg) {
					w := whole[step]
					lo, hi := Part(len(w.Indices), rank, 4)
					if lo == hi { // of the last 2 images the later ranks have none: they get the first
						lo, hi = 0, 1
					}
					x, target := rows(w.X, lo, hi), rows(w.Target, lo, hi)
					if !slices.Equal(b.Indices, w.Indices[lo:hi]) || !bytes.Equal(b.X.Raw, x.Raw) ||
						!bytes.Equal(b.Target.Raw, target.Raw) ||
						!slices.Equal(b.X.Dims, x.Dims) || !slices.Equal(b.Target.Dims, target.Dims) {
						t.Errorf("rank %d, step %d: samples %v of %v", rank, step, b.Indices, w.Indices)
					}
				}
			}
		})
	}
}

// loaded copies an epoch's batches.
func loaded(t *testing.T, ds Dataset, cfg LoaderConfig) []Batch {
	t.Helper()
	l, err := NewLoader(ds, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out []Batch
	for b, err := range l.Epoch(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Batch{X: b.X.Clone(), Target: b.Target.Clone(), Indices: slices.Clone(b.Indices),
			Step: b.Step})
	}
	if len(out) != 4 {
		t.Fatalf("%d batches", len(out))
	}
	return out
}
