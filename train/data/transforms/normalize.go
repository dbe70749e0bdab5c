package transforms

import "fmt"

// Normalizer turns levels into float32: (p/255 - mean) / std, channel by channel. It
// is safe for concurrent use.
type Normalizer struct {
	tables [][256]float32
}

// Normalize prepares a Normalizer of one mean and one deviation for each channel.
func Normalize(mean, std []float32) (*Normalizer, error) {
	if len(mean) != len(std) || len(mean) != 1 && len(mean) != 3 {
		return nil, fmt.Errorf(
			"Normalize: %d means and %d deviations: one of each for each of 1 or 3 channels are wanted",
			len(mean), len(std))
	}
	n := &Normalizer{tables: make([][256]float32, len(mean))}
	for c := range n.tables {
		if !(std[c] > 0) || mean[c] != mean[c] {
			return nil, fmt.Errorf("Normalize: mean %v and std %v: a number and one above 0 are wanted",
				mean[c], std[c])
		}
		for p := range n.tables[c] {
			n.tables[c][p] = (float32(p)/255 - mean[c]) / std[c]
		}
	}
	return n, nil
}

// Into writes the image to dst [C,H,W].
func (n *Normalizer) Into(dst []float32, m Image) error {
	if err := m.check(); err != nil {
		return err
	}
	if m.C != len(n.tables) || len(dst) != len(m.Pix) {
		return fmt.Errorf("Normalize: an image of [%d,%d,%d] for %d channels and %d values", m.C, m.H, m.W,
			len(n.tables), len(dst))
	}
	for c := range n.tables {
		table, out := &n.tables[c], dst[c*m.H*m.W:]
		for i, p := range m.plane(c) {
			out[i] = table[p]
		}
	}
	return nil
}
