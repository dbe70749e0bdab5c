package kernels

import "slices"

// Channel is a channel of one of several maps.
type Channel struct{ Map, C int }

// Channels takes the channels of a blocked map from others of the same N, H and W: what Concat, Split and
// shuffles of channels do.
type Channels struct {
	dst           Layout
	src           []Layout
	picks         [][]pick // of each block of dst
	parts, chunks int
}

// pick is what a block takes from a block of one of the maps.
type pick struct {
	from, block int
	lanes       [Block]int32 // of the block; -1: not from it
	whole       bool         // the two blocks are the same
}

// NewChannels plans a map whose channel c is from[c] of maps with the layouts src. All have 16 lanes.
func NewChannels(dst Layout, src []Layout, from []Channel) *Channels {
	k := &Channels{dst: dst, src: src, picks: make([][]pick, dst.Blocks())}
	for c, f := range from {
		list := &k.picks[c/Block]
		i := slices.IndexFunc(*list, func(p pick) bool { return p.from == f.Map && p.block == f.C/Block })
		if i < 0 {
			i = len(*list)
			*list = append(*list, pick{from: f.Map, block: f.C / Block})
			for l := range (*list)[i].lanes {
				(*list)[i].lanes[l] = -1
			}
		}
		(*list)[i].lanes[c%Block] = int32(f.C % Block)
	}
	for b, list := range k.picks {
		real := dst.real(b)
		p := &list[0]
		p.whole = len(list) == 1 && real == src[p.from].real(p.block)
		for l, lane := range p.lanes[:real] {
			p.whole = p.whole && int(lane) == l
		}
	}
	k.parts = rowParts(dst.H, Block*dst.H*dst.W)
	k.chunks = max(1, min(dst.N*dst.Blocks()*k.parts, dst.Size()/(16<<10)))
	return k
}

// Chunks is the number of chunks of Run.
func (k *Channels) Chunks() int { return k.chunks }

// Run writes parts of the map, halo and pad lanes included.
func (k *Channels) Run(chunk int, dst []float32, src [][]float32) {
	blocks := k.dst.Blocks()
	first, last := span(k.dst.N*blocks*k.parts, chunk, k.chunks)
	for i := first; i < last; i++ {
		lo, hi := span(k.dst.H, i%k.parts, k.parts)
		n, b := i/k.parts/blocks, i/k.parts%blocks
		for j := range k.picks[b] {
			p := &k.picks[b][j]
			k.pick(p, n, b, lo, hi, dst, src[p.from], j > 0)
		}
		k.dst.clearHalo(dst, n, b, lo, hi)
	}
}

// pick takes rows [lo, hi) of block b of image n; keep says that others have been taken before.
func (k *Channels) pick(p *pick, n, b, lo, hi int, dst, src []float32, keep bool) {
	from, rows, width := &k.src[p.from], 1, (hi-lo)*k.dst.W
	if k.dst.Halo > 0 || from.Halo > 0 {
		rows, width = hi-lo, k.dst.W
	}
	for h := range rows {
		to := dst[k.dst.at(n, b, lo+h, 0):][:width*Block]
		in := src[from.at(n, p.block, lo+h, 0):][:width*Block]
		if p.whole {
			copy(to, in)
		} else {
			pickLanes(to, in, &p.lanes, keep)
		}
	}
}

// pickLanesGo sets lanes of the blocks of dst from those of src: lanes says which, where it is negative dst
// stays as it is, or, without keep, becomes 0.
func pickLanesGo(dst, src []float32, lanes *[Block]int32, keep bool) {
	for i := 0; i+Block <= len(dst); i += Block {
		from := (*[Block]float32)(src[i:])
		for l, lane := range lanes {
			switch {
			case lane >= 0:
				dst[i+l] = from[lane]
			case !keep:
				dst[i+l] = 0
			}
		}
	}
}
