package kernels

// Moments says where a convolution leaves the statistics of the map it writes, for the batch normalisation
// that follows: the pixels are in the cache then. There is a record for every group of rows and block of
// channels, so that the sums do not depend on who computed which.
type Moments struct {
	blocks, groups int
}

// record is the number of floats of a record: mean and sum of squared deviations of
// 16 channels, and the count.
const record = 3 * Block

// Size is the number of floats of all records.
func (m Moments) Size() int { return m.blocks * m.groups * record }

// moments adds up the pixels of a record. Sums are taken of the distance to the first pixel, in float32 over
// some rows and in float64 over those.
type moments struct {
	shift        [Block]float32
	part         [2 * Block]float32
	rows         int // in part
	sum, squares [Block]float64
	count        int
}

func (m *moments) add(row []float32) {
	if m.count == 0 {
		copy(m.shift[:], row)
	}
	sumSquares(&m.part, row, &m.shift)
	m.count += len(row) / Block
	if m.rows += len(row); m.rows >= 256*Block {
		m.flush()
	}
}

func (m *moments) flush() {
	for o := range m.sum {
		m.sum[o] += float64(m.part[o])
		m.squares[o] += float64(m.part[o+Block])
	}
	m.part, m.rows = [2 * Block]float32{}, 0
}

// store writes the record.
func (m *moments) store(to []float32) {
	m.flush()
	n := float64(m.count)
	for o := range m.sum {
		d := m.sum[o] / n
		to[o] = float32(float64(m.shift[o]) + d)
		to[Block+o] = float32(max(0, m.squares[o]-d*m.sum[o]))
		to[2*Block+o] = float32(n)
	}
}

// Reduce merges the records in their order: mean and (biased) variance of every channel.
func (m Moments) Reduce(mean, variance, records []float32) {
	for c := range mean {
		var n, mu, m2 float64
		for g := range m.groups {
			part := records[(g*m.blocks+c/Block)*record+c%Block:]
			count, d := float64(part[2*Block]), float64(part[0])-mu
			share := count / (n + count)
			mu += d * share
			m2 += float64(part[Block]) + d*d*n*share
			n += count
		}
		mean[c], variance[c] = float32(mu), float32(m2/n)
	}
}

// Moments describes the records of Forward.
func (c *Conv) Moments() Moments {
	return Moments{c.Y.Blocks(), c.Y.N * ((c.Y.H + c.units - 1) / c.units)}
}

// Moments describes the records of Run.
func (p *tilePass) Moments() Moments { return Moments{p.out.Blocks(), p.groups()} }
