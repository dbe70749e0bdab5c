package data

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/therootcompany/xz"

	"github.com/cnnkit/cnnkit/onnxio"
)

var cifar10Classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

const (
	cifarRecord  = 1 + 3*32*32 // label, then the R, G and B planes
	cifarRecords = 10000       // of a file
)

// openCIFAR10 reads the binary version of CIFAR-10: data_batch_1..5.bin and test_batch.bin, each plain or packed with
// xz.
func openCIFAR10(dir string) (Splits, error) {
	mean, std := []float32{0.4914, 0.4822, 0.4465}, []float32{0.2470, 0.2435, 0.2616}
	s := Splits{Name: "cifar10", Mean: mean, Std: std}
	part := func(names ...string) (*Images, error) {
		var pixels, labels []uint8
		for _, name := range names {
			raw, err := readCIFAR(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			for i := 0; i < len(raw); i += cifarRecord {
				labels = append(labels, raw[i])
				pixels = append(pixels, raw[i+1:i+cifarRecord]...)
			}
		}
		return NewImages([3]int{3, 32, 32}, pixels, labels, cifar10Classes, mean, std)
	}
	train, err := part("data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin")
	if err != nil {
		return s, err
	}
	test, err := part("test_batch.bin")
	if err != nil {
		return s, err
	}
	s.Train, s.Validation = train, test
	return s, nil
}

func readCIFAR(path string) ([]byte, error) {
	f, err := os.Open(path)
	packed := false
	if os.IsNotExist(err) {
		if p, e := os.Open(path + ".xz"); e == nil {
			f, err, packed = p, nil, true
		}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if packed {
		if r, err = xz.NewReader(f, xz.DefaultDictMax); err != nil {
			return nil, &onnxio.FormatError{Format: "xz", Path: path + ".xz", Msg: "cannot unpack", Err: err}
		}
	}
	raw, err := io.ReadAll(io.LimitReader(r, cifarRecord*cifarRecords+1))
	if err != nil {
		return nil, &onnxio.FormatError{Format: "cifar10", Path: path, Msg: "cannot read", Err: err}
	}
	if len(raw) != cifarRecord*cifarRecords {
		return nil, &onnxio.FormatError{Format: "cifar10", Path: path,
			Msg: fmt.Sprintf("%d bytes or more; a file has %d records of %d", len(raw), cifarRecords, cifarRecord)}
	}
	return raw, nil
}
