package kernels

// reach is what a block of 16 channels has to do with in the map on the other side of a convolution: the
// blocks from first to before last, in which the groups of these channels lie.
type reach struct {
	first, last int
	channels    int // in those blocks: rows of weights of one tap
	offset      int // channels of the reaches before
}

// reaches lists those of a map of channels in groups of here, on whose other side groups have there channels.
func reaches(channels, here int, other Layout, there int) []reach {
	var all []reach
	offset := 0
	for lo := 0; lo < channels; lo += Block {
		first, last := lo/here, (min(lo+Block, channels)-1)/here // groups
		r := reach{first: first * there / other.Lanes, last: ((last+1)*there + other.Lanes - 1) / other.Lanes,
			offset: offset}
		r.channels = min(r.last*other.Lanes, other.C) - r.first*other.Lanes
		offset += r.channels
		all = append(all, r)
	}
	return all
}

// total is the number of channels of all reaches, widest that of the largest.
func total(rs []reach) int {
	last := rs[len(rs)-1]
	return last.offset + last.channels
}

func widest(rs []reach) (n int) {
	for _, r := range rs {
		n = max(n, r.channels)
	}
	return n
}

// own is the lanes of a row of packed weights whose channels are of the row's group.
type own struct{ first, last uint8 }

// planGroups finds what the blocks reach and, where a block has to do with several groups, which
// weights are zero for good.
func (c *Conv) planGroups() {
	in, out := c.X.C/c.Group, c.Y.C/c.Group
	c.outs, c.ins = reaches(c.Y.C, out, c.X, in), reaches(c.X.C, in, c.DY, out)
	if c.Group == 1 {
		return
	}
	rows, whole := make([]own, total(c.outs)*c.KH*c.KW), true
	for ob, r := range c.outs {
		lo, hi := ob*Block, min(ob*Block+Block, c.Y.C)
		for i := r.first * c.X.Lanes; i < r.first*c.X.Lanes+r.channels; i++ {
			g := i / in
			first, last := max(lo, min(g*out, hi)), min(hi, max((g+1)*out, lo))
			whole = whole && first == lo && last == hi
			for k := range c.KH * c.KW {
				rows[c.row(ob, i/c.X.Lanes, k/c.KW, k%c.KW, i%c.X.Lanes)] = own{uint8(first - lo),
					uint8(last - lo)}
			}
		}
	}
	if !whole {
		c.own = rows
	}
}
