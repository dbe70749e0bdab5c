package data

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/therootcompany/xz"

	"github.com/cnnkit/cnnkit/onnxio"
)

var cifar10Classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

// cifar100Classes are the fine labels.
var cifar100Classes = strings.Fields(`apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
	bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
	dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
	lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
	pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
	skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
	train trout tulip turtle wardrobe whale willow_tree wolf woman worm`)

// cifar is the binary version of CIFAR: records of labels, of which the last counts, and the R, G and B planes of an
// image of 32x32.
type cifar struct {
	name      string
	labels    int // bytes of a record before its pixels
	records   int // of a file of the training set
	train     []string
	test      string
	classes   []string
	mean, std []float32
}

const cifarPixels = 3 * 32 * 32

// openCIFAR10 reads data_batch_1..5.bin and test_batch.bin, each plain or packed with xz.
func openCIFAR10(dir string, _ Options) (Splits, error) {
	return cifar{"cifar10", 1, 10000,
		[]string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"}, "test_batch.bin",
		cifar10Classes, []float32{0.4914, 0.4822, 0.4465}, []float32{0.2470, 0.2435, 0.2616}}.open(dir)
}

// openCIFAR100 reads train.bin and test.bin; a record has a coarse label (of 20), then a fine one, which is taken.
func openCIFAR100(dir string, _ Options) (Splits, error) {
	return cifar{"cifar100", 2, 50000, []string{"train.bin"}, "test.bin",
		cifar100Classes, []float32{0.5071, 0.4865, 0.4409}, []float32{0.2673, 0.2564, 0.2762}}.open(dir)
}

// open reads the files side by side: unpacking takes a second or two each.
func (c cifar) open(dir string) (Splits, error) {
	s := Splits{Name: c.name, Mean: c.mean, Std: c.std}
	train, test := newCIFARPart(c.records*len(c.train)), newCIFARPart(10000)
	errs := make([]error, len(c.train)+1)
	var wg sync.WaitGroup
	places := make(chan struct{}, 2)
	read := func(i int, name string, into *cifarPart, from, records int) {
		wg.Go(func() {
			places <- struct{}{}
			errs[i] = c.read(filepath.Join(dir, name), into, from, records)
			<-places
		})
	}
	for i, name := range c.train {
		read(i, name, train, i*c.records, c.records)
	}
	read(len(c.train), c.test, test, 0, 10000)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return s, err
		}
	}
	a, err := NewImages([3]int{3, 32, 32}, train.pixels, train.labels, c.classes, c.mean, c.std)
	if err != nil {
		return s, fmt.Errorf("%s: %w", dir, err)
	}
	b, err := NewImages([3]int{3, 32, 32}, test.pixels, test.labels, c.classes, c.mean, c.std)
	if err != nil {
		return s, fmt.Errorf("%s: %w", dir, err)
	}
	s.Train, s.Validation = a, b
	return s, nil
}

type cifarPart struct{ pixels, labels []uint8 }

func newCIFARPart(records int) *cifarPart {
	return &cifarPart{make([]uint8, records*cifarPixels), make([]uint8, records)}
}

// read reads a file's records into the part, from record from on.
func (c cifar) read(path string, into *cifarPart, from, records int) error {
	f, err := os.Open(path)
	var r io.Reader = f
	if errors.Is(err, fs.ErrNotExist) {
		packed, perr := os.Open(path + ".xz")
		if perr != nil {
			return err
		}
		f, path = packed, path+".xz"
		if r, err = xz.NewReader(f, xz.DefaultDictMax); err != nil {
			f.Close()
			return &onnxio.FormatError{Format: "xz", Path: path, Msg: "cannot unpack", Err: err}
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size := c.labels + cifarPixels
	record := make([]byte, size)
	for i := range records {
		if n, err := io.ReadFull(r, record); err != nil {
			return &onnxio.FormatError{Format: c.name, Path: path, Err: err,
				Msg: fmt.Sprintf("%d bytes; a file has %d records of %d", i*size+n, records, size)}
		}
		label := record[c.labels-1]
		if int(label) >= len(c.classes) {
			return &onnxio.FormatError{Format: c.name, Path: path, Where: fmt.Sprintf("record %d", i),
				Msg: fmt.Sprintf("label %d is out of range: there are %d classes", label, len(c.classes))}
		}
		into.labels[from+i] = label
		copy(into.pixels[(from+i)*cifarPixels:], record[c.labels:])
	}
	if n, err := io.ReadFull(r, record[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return &onnxio.FormatError{Format: c.name, Path: path, Err: err,
			Msg: fmt.Sprintf("more than %d records of %d bytes", records, size)}
	}
	return nil
}
