package data

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cnnkit/cnnkit/onnxio"
)

// maxIDX bounds an IDX file's elements: ten times MNIST's largest.
const maxIDX = 1 << 29

// ReadIDX reads an IDX file of unsigned bytes, the format of MNIST: magic 0 0 8 rank, then the dimensions as
// big-endian 32-bit numbers, then the elements. name stands in errors.
func ReadIDX(r io.Reader, name string) (dims []int, data []uint8, err error) {
	bad := func(format string, args ...any) error {
		return &onnxio.FormatError{Format: "idx", Path: name, Msg: fmt.Sprintf(format, args...)}
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, &onnxio.FormatError{Format: "idx", Path: name, Msg: "no header", Err: err}
	}
	if head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] < 1 || head[3] > 4 {
		return nil, nil, bad("header % x is not that of unsigned bytes in 1 to 4 dimensions", head)
	}
	total := 1
	for range head[3] {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, nil, &onnxio.FormatError{Format: "idx", Path: name, Msg: "truncated dimensions",
				Err: err}
		}
		d := int(binary.BigEndian.Uint32(b[:]))
		if d == 0 || d > maxIDX/total {
			return nil, nil, bad("dimension %d is zero or makes more than %d elements", d, maxIDX)
		}
		dims, total = append(dims, d), total*d
	}
	// The header's word is not taken for the size: memory grows with what is there.
	data, err = io.ReadAll(io.LimitReader(r, int64(total)+1))
	if err != nil {
		return nil, nil, &onnxio.FormatError{Format: "idx", Path: name, Msg: "cannot read the elements",
			Err: err}
	}
	if len(data) != total {
		return nil, nil, bad("%d elements or more where %v makes %d", len(data), dims, total)
	}
	return dims, data, nil
}

// ReadIDXGzip reads a gzip-compressed IDX file.
func ReadIDXGzip(r io.Reader, name string) (dims []int, data []uint8, err error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, nil, &onnxio.FormatError{Format: "gzip", Path: name, Msg: "not a gzip file", Err: err}
	}
	return ReadIDX(z, name)
}
