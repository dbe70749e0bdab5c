package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/therootcompany/xz"

	"github.com/cnnkit/cnnkit/onnxio"
)

var cifar10Classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
	"ship", "truck"}

// cifar100Classes are the fine labels.
var cifar100Classes = strings.Fields(`apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
	bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
	dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
	lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
	pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
	skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
	train trout tulip turtle wardrobe whale willow_tree wolf woman worm`)

// cifar is a CIFAR set in one of its forms: binary, pickled by Python, or a folder of images for
// each class. The binary one has records of labels, of which the last counts, and the R, G and B
// planes of an image of 32x32.
type cifar struct {
	name      string
	labels    int // bytes of a record before its pixels
	records   int // of a file of the training set
	tests     int // records to validate on
	train     []string
	test      string
	pickles   cifarPickles
	classes   []string
	mean, std []float32
}

const cifarPixels = 3 * 32 * 32

// cifar10 is data_batch_1..5.bin and test_batch.bin, each plain or packed with xz, or
// data_batch_1..5 and test_batch.
var cifar10 = cifar{name: "cifar10", labels: 1, records: 10000, tests: 10000,
	train: []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
		"data_batch_5.bin"}, test: "test_batch.bin",
	pickles: cifarPickles{train: []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4",
		"data_batch_5"}, test: "test_batch",
		meta: "batches.meta", labels: "labels", names: "label_names"},
	classes: cifar10Classes, mean: []float32{0.4914, 0.4822, 0.4465}, std: []float32{0.2470, 0.2435, 0.2616}}

// cifar100 is train.bin and test.bin, or train and test; an image has a coarse label (of 20) and a
// fine one, which is taken.
var cifar100 = cifar{name: "cifar100", labels: 2, records: 50000, tests: 10000, train: []string{"train.bin"},
	test: "test.bin",
	pickles: cifarPickles{train: []string{"train"}, test: "test", meta: "meta", labels: "fine_labels",
		names: "fine_label_names"},
	classes: cifar100Classes, mean: []float32{0.5071, 0.4865, 0.4409}, std: []float32{0.2673, 0.2564, 0.2762}}

// signs are the files of which one shows that the set is in a folder, whatever its form.
func (c cifar) signs() []string {
	return []string{c.train[0], c.train[0] + ".xz", c.pickles.train[0], filepath.Join("train", c.classes[0])}
}

// open reads the form that lies in the folder.
func (c cifar) open(dir string, o Options) (Splits, error) {
	switch {
	case exists(filepath.Join(dir, c.train[0])) || exists(filepath.Join(dir, c.train[0]+".xz")):
		return c.files(dir, c.train, c.test, c.read)
	case isDir(filepath.Join(dir, "train")):
		return c.folders(dir, o)
	}
	var err error
	if c.classes, err = c.pickledNames(dir); err != nil {
		return Splits{}, err
	}
	return c.files(dir, c.pickles.train, c.pickles.test, c.readPickle)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// files reads files side by side: unpacking takes a second or two each.
func (c cifar) files(dir string, trainFiles []string, testFile string, readFile func(path string,
	into *cifarPart, from, records int) error) (Splits, error) {
	s := Splits{Name: c.name, Mean: c.mean, Std: c.std}
	train, test := newCIFARPart(c.records*len(trainFiles)), newCIFARPart(c.tests)
	errs := make([]error, len(trainFiles)+1)
	var wg sync.WaitGroup
	places := make(chan struct{}, 2)
	read := func(i int, name string, into *cifarPart, from, records int) {
		wg.Go(func() {
			places <- struct{}{}
			errs[i] = readFile(filepath.Join(dir, name), into, from, records)
			<-places
		})
	}
	for i, name := range trainFiles {
		read(i, name, train, i*c.records, c.records)
	}
	read(len(trainFiles), testFile, test, 0, c.tests)
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

// folders reads train/CLASS/*.png and test/CLASS/*.png (or validation, val, valid) into memory. How many
// images of a class there are is not asked; that the classes are the set's is.
func (c cifar) folders(dir string, o Options) (Splits, error) {
	s, err := openImages(c.name, dir, Options{Mean: c.mean, Std: c.std, Limits: o.Limits,
		Validation: o.Validation, Seed: o.Seed})
	if err != nil {
		return s, err
	}
	if names := s.Train.Classes(); !slices.Equal(names, c.classes) {
		return s, &onnxio.FormatError{Format: c.name, Path: filepath.Join(dir, "train"),
			Msg: fmt.Sprintf("has folders for the classes %s, where %s has %s; a set of your own opens as images:%s", listed(names), c.name, listed(c.classes), dir)}
	}
	if shape := s.Train.Shape(); shape != [3]int{3, 32, 32} {
		return s, &onnxio.FormatError{Format: c.name, Path: dir,
			Msg: fmt.Sprintf("its images are %v [C,H,W], where %s has [3 32 32]", shape, c.name)}
	}
	for _, part := range []*Dataset{&s.Train, &s.Validation} {
		if *part, err = InMemory(context.Background(), *part, runtime.GOMAXPROCS(0)); err != nil {
			return s, err
		}
	}
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
	return c.decode(r, path, into, from, records)
}

// decode reads the records of an unpacked file.
func (c cifar) decode(r io.Reader, path string, into *cifarPart, from, records int) error {
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
