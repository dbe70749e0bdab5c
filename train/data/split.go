package data

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Labels are the classes of all samples, without decoding any. A set of masks or of numbers has none.
func Labels(ds Dataset) ([]int, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return nil, err
	}
	if src.Masked() {
		return nil, errors.New("the data set has masks, not labels")
	}
	if src.Width() > 0 {
		return nil, errors.New("the data set has numbers, not labels")
	}
	out := make([]int, src.Len())
	for i := range out {
		if out[i] = src.Label(i); out[i] < 0 || out[i] >= len(src.Classes()) {
			return nil, fmt.Errorf("%s: label %d is out of range: there are %d classes", src.Where(i), out[i],
				len(src.Classes()))
		}
	}
	return out, nil
}

// groups are the samples of each class in an order that depends on the seed alone; all samples in one group
// where there are masks, or where they are not to be told apart.
func groups(ds Dataset, seed uint64, stratified bool) ([][]int, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return nil, err
	}
	order := rand.New(rand.NewPCG(seed, 0x5851f42d4c957f2d)).Perm(src.Len())
	if src.Masked() || src.Width() > 0 || !stratified {
		return [][]int{order}, nil
	}
	labels, err := Labels(ds)
	if err != nil {
		return nil, err
	}
	out := make([][]int, len(ds.Classes()))
	for _, i := range order {
		out[labels[i]] = append(out[labels[i]], i)
	}
	return out, nil
}

// shares divides n among groups in proportion to their sizes, by largest remainders: each gets its exact
// share, rounded down or up. The earlier group wins where remainders are equal.
func shares(groups [][]int, n int) []int {
	total := 0
	for _, g := range groups {
		total += len(g)
	}
	out, order := make([]int, len(groups)), Sequence(len(groups))
	if total == 0 {
		return out
	}
	rest := make([]int64, len(groups))
	left := n
	for i, g := range groups {
		exact := int64(n) * int64(len(g))
		out[i], rest[i] = int(exact/int64(total)), exact%int64(total)
		left -= out[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for _, i := range order[:left] {
		out[i]++
	}
	return out
}

// Take is a subset of n samples, chosen by the seed. Stratified, every class has its share of n to
// within one sample, and at least one sample where n is no less than the number of classes. The indices
// are in the order of the set.
func Take(ds Dataset, n int, seed uint64, stratified bool) (Subset, error) {
	if n < 1 || n > ds.Len() {
		return Subset{}, fmt.Errorf("a subset of %d of %d samples", n, ds.Len())
	}
	g, err := groups(ds, seed, stratified)
	if err != nil {
		return Subset{}, err
	}
	out := Subset{Dataset: ds}
	s := shares(g, n)
	oneEach(g, s)
	for i, group := range g {
		out.Indices = append(out.Indices, group[:s[i]]...)
	}
	slices.Sort(out.Indices)
	return out, nil
}

// oneEach moves shares from the largest to those that have none, as long as there are enough.
func oneEach(groups [][]int, shares []int) {
	for i, g := range groups {
		if len(g) == 0 || shares[i] > 0 {
			continue
		}
		most := 0
		for j := range shares {
			if shares[j] > shares[most] {
				most = j
			}
		}
		if shares[most] < 2 {
			return
		}
		shares[most]--
		shares[i]++
	}
}

// Split divides a set in two, stratified by class where it has labels: the second part is the fraction to
// validate on. A class of one sample stays in the first part, and a class of more has at least one in each.
func Split(ds Dataset, fraction float64, seed uint64) (train, validation Subset, err error) {
	train.Dataset, validation.Dataset = ds, ds
	n := int(fraction*float64(ds.Len()) + 0.5)
	if !(fraction > 0 && fraction < 1) || n < 1 || n >= ds.Len() {
		return train, validation, fmt.Errorf("%v of %d samples to validate on: each part needs one at least",
			fraction, ds.Len())
	}
	g, err := groups(ds, seed, true)
	if err != nil {
		return train, validation, err
	}
	for i, s := range shares(g, n) {
		group := g[i]
		if len(group) > 1 {
			s = min(max(s, 1), len(group)-1)
		} else {
			s = 0
		}
		validation.Indices = append(validation.Indices, group[:s]...)
		train.Indices = append(train.Indices, group[s:]...)
	}
	if len(validation.Indices) == 0 {
		return train, validation, fmt.Errorf("no class has two samples, of which one could be validated on")
	}
	slices.Sort(train.Indices)
	slices.Sort(validation.Indices)
	return train, validation, nil
}

// Fold is one of the ways to divide a set in k-fold cross-validation.
type Fold struct{ Train, Validation Subset }

// KFold divides a set in k ways, stratified by class where it has labels: every sample is validated on once,
// the parts differ by one sample at most, and so does what they have of each class.
func KFold(ds Dataset, k int, seed uint64) ([]Fold, error) {
	if k < 2 || k > ds.Len() {
		return nil, fmt.Errorf("%d folds of %d samples: 2 at least, and no more than samples, are wanted",
			k, ds.Len())
	}
	g, err := groups(ds, seed, true)
	if err != nil {
		return nil, err
	}
	// Dealt like cards, one class after the other.
	part := make([]int, ds.Len())
	at := 0
	for _, group := range g {
		for _, i := range group {
			part[i] = at % k
			at++
		}
	}
	folds := make([]Fold, k)
	for f := range folds {
		folds[f] = Fold{Subset{Dataset: ds}, Subset{Dataset: ds}}
		for i, p := range part {
			if p == f {
				folds[f].Validation.Indices = append(folds[f].Validation.Indices, i)
			} else {
				folds[f].Train.Indices = append(folds[f].Train.Indices, i)
			}
		}
	}
	return folds, nil
}

// Counts are the numbers of samples of each class, or of pixels of each class where there are masks, which
// takes decoding all of them.
func Counts(ds Dataset) ([]int64, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(src.Classes()))
	if !src.Masked() {
		labels, err := Labels(ds)
		for _, l := range labels {
			out[l]++
		}
		return out, err
	}
	for i := range src.Len() {
		s, err := src.Sample(i)
		if err != nil {
			return nil, err
		}
		for _, m := range s.Mask {
			if m == Void && len(out) <= Void {
				continue
			}
			if int(m) >= len(out) {
				return nil, fmt.Errorf("%s: label %d of its mask is out of range: there are %d classes",
					src.Where(i), m, len(out))
			}
			out[m]++
		}
	}
	return out, nil
}

// ClassWeights are total / (classes * count): those of a class of the mean size are 1, and all weigh the same
// together (scikit-learn's "balanced"). A class without samples has weight 0.
func ClassWeights(ds Dataset) ([]float32, error) {
	counts, err := Counts(ds)
	if err != nil {
		return nil, err
	}
	var total, classes int64
	for _, c := range counts {
		total += c
		if c > 0 {
			classes++
		}
	}
	out := make([]float32, len(counts))
	for i, c := range counts {
		if c > 0 {
			out[i] = float32(float64(total) / (float64(classes) * float64(c)))
		}
	}
	return out, nil
}
