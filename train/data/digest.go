package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// digester is a Source that can say what its samples are without decoding them.
type digester interface {
	// digest writes what sample i is made of.
	digest(h hash.Hash, i int) error
}

// sampleEnds is how many bytes at each end of a file Digest reads.
const sampleEnds = 4 << 10

// Digest tells data sets apart: by their classes, the order of their samples, what these are and
// their weights. Images in memory count whole; of files count their sizes and the bytes at their
// ends, which a changed image changes. It is "" for a data set that gives no single samples, or whose
// samples only its own Sample knows.
func Digest(ds Dataset) (string, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return "", nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %q\n", src.Len(), src.Classes())
	for i := range src.Len() {
		known, err := digestOfSample(h, ds, i)
		if err != nil || !known {
			return "", err
		}
	}
	if w := Weights(ds); w != nil {
		if err := binary.Write(h, binary.LittleEndian, w); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// digestOfSample looks through subsets.
func digestOfSample(h hash.Hash, ds Dataset, i int) (bool, error) {
	switch d := ds.(type) {
	case digester:
		return true, d.digest(h, i)
	case Subset:
		return digestOfSample(h, d.Dataset, d.Indices[i])
	case *Subset:
		return digestOfSample(h, d.Dataset, d.Indices[i])
	case subsetSource:
		return digestOfSample(h, d.Dataset, d.Indices[i])
	case Wrapper:
		return digestOfSample(h, d.Unwrap(), i)
	}
	return false, nil
}

func (d *Images) digest(h hash.Hash, i int) error {
	s, err := d.Sample(i)
	if err != nil {
		return err
	}
	h.Write(s.Pixels)
	h.Write(s.Mask)
	return binary.Write(h, binary.LittleEndian, append([]float32{float32(s.Label)}, s.Numbers...))
}

func (d *Files) digest(h hash.Hash, i int) error {
	it := d.items[i]
	fmt.Fprintf(h, "%d %v\n", it.Label, it.Numbers)
	for _, path := range []string{it.Image, it.Mask} {
		if path == "" {
			continue
		}
		if err := digestEnds(h, path); err != nil {
			return err
		}
	}
	return nil
}

// digestEnds writes a file's size and the bytes at its ends.
func digestEnds(h hash.Hash, path string) error {
	f, err := os.Open(path)
	if err != nil { // who reads the image says so
		fmt.Fprintln(h, "missing")
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%d\n", info.Size())
	var part [sampleEnds]byte
	for _, at := range []int64{0, max(0, info.Size()-sampleEnds)} {
		n, err := f.ReadAt(part[:], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", path, err)
		}
		h.Write(part[:n])
	}
	return nil
}
