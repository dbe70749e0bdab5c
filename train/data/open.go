package data

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Options says what Open cannot know; the zero value takes every set as it is meant.
type Options struct {
	// Size is the height and the width of a batch's images. 0 takes 128x128 for pets, and otherwise the size
	// of the files, which must then be of one size. Sets in memory (MNIST, CIFAR) have the size they have.
	Size [2]int `json:"size,omitzero"`
	// Channels is 3 (RGB) or 1 (grey); 0 takes 1 for nuclei and 3 for others of image files.
	Channels int `json:"channels,omitempty"`
	// Mean and Std normalise; nil takes the set's own, and ImageNet's for folders.
	Mean []float32 `json:"mean,omitempty"`
	Std  []float32 `json:"std,omitempty"`
	// Validation is the share to validate on of a set that comes without parts; 0 takes 0.2.
	Validation float64 `json:"validation,omitempty"`
	// Seed chooses those.
	Seed uint64 `json:"seed,omitempty"`
	// MaskClasses names the classes of masks whose values are classes (Indexed); nil takes them for Binary.
	MaskClasses []string `json:"mask_classes,omitempty"`
	// Ignore is the value of MaskClasses' masks that does not count (void); nil has every pixel count.
	Ignore *int `json:"ignore,omitempty"`
	// Task says what a csv: table's columns are; "" takes its label for a class.
	Task Task `json:"task,omitempty"`
	// WeightColumn names the column of a csv: table that has a weight for each image,
	// which is no target then.
	WeightColumn string        `json:"weight_column,omitempty"`
	Limits       vision.Limits `json:"limits,omitzero"`
}

func (o Options) files(classes []string) FilesConfig {
	return FilesConfig{Classes: classes, Size: o.Size, Channels: o.Channels, Mean: o.Mean, Std: o.Std,
		Limits:   o.Limits,
		Weighted: o.WeightColumn != ""}
}

// set is a data set that has a name.
type set struct {
	name   string
	folder string   // where it is looked for under CNNKIT_DATA and the cache
	inside []string // folders that its official archive has around the files
	files  []string // it is there when one of these is
	open   func(dir string, o Options) (Splits, error)
	added  bool // by Register: it looks for its files itself
}

var sets = []set{
	{"mnist", "mnist", nil, idxSigns, openMNIST, false},
	{"fashion-mnist", "fashion-mnist", nil, idxSigns, openFashion, false},
	{"cifar10", "cifar10", []string{"cifar-10-batches-bin", "cifar-10-batches-py"}, cifar10.signs(),
		cifar10.open, false},
	{"cifar100", "cifar100", []string{"cifar-100-binary", "cifar-100-python"}, cifar100.signs(),
		cifar100.open, false},
	{"pets", "pets", []string{"oxford-iiit-pet"}, []string{"trainval.txt", "annotations/trainval.txt"},
		openPets, false},
	{"pets-breeds", "pets", []string{"oxford-iiit-pet"}, []string{"trainval.txt", "annotations/trainval.txt"},
		openBreeds, false},
	{"nuclei", "nuclei", nil, []string{"train.txt"}, openNuclei, false},
}

// idxSigns are files of a set of MNIST's form.
var idxSigns = []string{"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"}

// registry guards sets and embedded.
var registry sync.RWMutex

// embedded are the files of MNIST, where the program has them.
var embedded *embeddedSet

type embeddedSet struct {
	files fs.FS
	open  func() (Splits, error)
}

// EmbedMNIST gives Open the four files of MNIST from the program itself. Package mnist,
// which has them, calls it.
func EmbedMNIST(files fs.FS) {
	registry.Lock()
	defer registry.Unlock()
	embedded = &embeddedSet{files, sync.OnceValues(func() (Splits, error) { return readMNIST(files) })}
}

// embedded are the set's files in the program; nil where it has none.
func (s set) embedded() *embeddedSet {
	registry.RLock()
	defer registry.RUnlock()
	if s.name == "mnist" {
		return embedded
	}
	return nil
}

// Register adds a data set, which Open then knows by its name. dir is what stands behind
// NAME=, "" when nothing does.
func Register(name string, open func(dir string, o Options) (Splits, error)) error {
	if name == "" || strings.ContainsAny(name, "=:, ") || open == nil {
		return fmt.Errorf("data set %q: a word without blanks, =, : and commas is wanted, and a function that opens it", name)
	}
	registry.Lock()
	defer registry.Unlock()
	if slices.ContainsFunc(sets, func(s set) bool { return s.name == name }) {
		return fmt.Errorf("there is a data set %q already", name)
	}
	sets = append(sets, set{name: name, open: open, added: true})
	return nil
}

// all are the named data sets.
func all() []set {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Clone(sets)
}

// Names lists the data sets that Open knows by name.
func Names() []string {
	var out []string
	for _, s := range all() {
		out = append(out, s.name)
	}
	return out
}

// Schemes lists the words before a colon by which Open takes folders and files.
func Schemes() []string { return []string{"images", "masks", "csv"} }

// Known says that a word for Open names a data set that there is, or a folder or file in a way that there is.
func Known(word string) bool {
	if scheme, _, ok := strings.Cut(word, ":"); ok && slices.Contains(Schemes(), scheme) {
		return true
	}
	name, _, _ := strings.Cut(word, "=")
	return slices.Contains(Names(), name)
}

// Open finds a data set by a word:
//
//	mnist                MNIST, which a program has that imports package mnist
//	fashion-mnist, cifar10, cifar100, nuclei
//	pets, pets-breeds    Oxford-IIIT Pet: masks of pet and border; its breeds
//	NAME=DIR             one of these that lies elsewhere
//	                     (CIFAR in its binary form, as Python's pickles, or as DIR/train/CLASS/*.png and DIR/test/CLASS/*.png)
//	images:DIR           images by class: DIR/CLASS/*.png, or DIR/train/CLASS/*.png and DIR/val/CLASS/*.png
//	masks:IMAGES,MASKS   pairs of files that have the same name but for its extension
//	csv:FILE             a table with the columns path and label, and perhaps split; other columns for other tasks (Task)
//
// Names are looked up under CNNKIT_DATA and then in the user's cache folder (cnnkit/data).
func Open(word string) (Splits, error) { return OpenWith(word, Options{}) }

// OpenWith is Open with options.
func OpenWith(word string, o Options) (Splits, error) {
	if o.Validation < 0 || o.Validation >= 1 {
		return Splits{}, fmt.Errorf("a share of %v to validate on: more than 0 and less than 1 is wanted",
			o.Validation)
	}
	if o.Validation == 0 {
		o.Validation = 0.2
	}
	if o.Task != Classification && !strings.HasPrefix(word, "csv:") {
		return Splits{}, fmt.Errorf("data set %s: task %s can be said of csv:FILE only", word, o.Task)
	}
	if o.WeightColumn != "" && !strings.HasPrefix(word, "csv:") {
		return Splits{}, fmt.Errorf("data set %s: a column of weights can be said of csv:FILE only", word)
	}
	if o.Task != Classification && !slices.Contains(Tasks(), string(o.Task)) {
		return Splits{}, fmt.Errorf("task %q: %s is wanted", o.Task, strings.Join(Tasks(), " or "))
	}
	if len(o.MaskClasses) > 0 && !strings.HasPrefix(word, "masks:") {
		return Splits{}, fmt.Errorf(
			"data set %s: the number of classes can be said of masks:IMAGES,MASKS only", word)
	}
	s, err := open(word, o)
	if err != nil {
		return Splits{}, err
	}
	if shape := s.Train.Shape(); o.Size != [2]int{} && o.Size != [2]int{shape[1], shape[2]} {
		return Splits{}, fmt.Errorf("data set %s has images of %dx%d, not %dx%d", word, shape[1], shape[2],
			o.Size[0], o.Size[1])
	} else if o.Channels != 0 && o.Channels != shape[0] {
		return Splits{}, fmt.Errorf("data set %s has images of %d channels, not %d", word,
			shape[0], o.Channels)
	}
	if len(o.Mean) > 0 || len(o.Std) > 0 {
		return s, s.Normalise(o.Mean, o.Std)
	}
	return s, nil
}

// Normalise gives sets in memory, which have been read with their own, another mean and deviation. Sets of
// files have got theirs from Options.
func (s *Splits) Normalise(mean, std []float32) error {
	for _, part := range []Dataset{s.Train, s.Validation} {
		if d, ok := part.(*Images); ok {
			norm, err := NewNorm(mean, std)
			if err != nil {
				return err
			}
			if len(mean) != d.Size[0] {
				return fmt.Errorf("%d means and deviations for %d channels", len(mean), d.Size[0])
			}
			c := *d
			c.norm = norm
			if part == s.Train {
				s.Train = &c
			} else {
				s.Validation = &c
			}
		}
	}
	s.Mean, s.Std = mean, std
	return nil
}

func open(word string, o Options) (Splits, error) {
	if scheme, rest, ok := strings.Cut(word, ":"); ok {
		switch scheme {
		case "images":
			return openImages(word, rest, o)
		case "masks":
			images, masks, ok := strings.Cut(rest, ",")
			if !ok {
				return Splits{}, fmt.Errorf("%s: masks:IMAGES,MASKS names two folders", word)
			}
			return openMasks(word, images, masks, o)
		case "csv":
			return openCSV(word, rest, o)
		}
	}
	name, dir, elsewhere := strings.Cut(word, "=")
	for _, s := range all() {
		if s.name != name {
			continue
		}
		if s.added {
			return s.open(dir, o)
		}
		if elsewhere && dir == "" {
			return Splits{}, fmt.Errorf("%s: NAME=FOLDER wants a folder", word)
		}
		if in := s.embedded(); in != nil && !elsewhere {
			return in.open()
		}
		root, err := s.find(dir)
		if err != nil {
			return Splits{}, err
		}
		return s.open(root, o)
	}
	return Splits{}, fmt.Errorf(
		"no data set %q: known are %s, each also as NAME=FOLDER, and images:DIR, masks:IMAGES,MASKS, csv:FILE",
		word, strings.Join(Names(), ", "))
}

// Places are the folders where a named data set is looked for, in this order.
func Places(name string) []string {
	for _, s := range all() {
		if s.name == name {
			name = s.folder
		}
	}
	var out []string
	if root := os.Getenv("CNNKIT_DATA"); root != "" {
		out = append(out, filepath.Join(root, name))
	}
	if cache, err := os.UserCacheDir(); err == nil {
		out = append(out, filepath.Join(cache, "cnnkit", "data", name))
	}
	return out
}

// Find is the folder that a named data set is read from; "" for one that is embedded.
func Find(name string) (string, error) {
	for _, s := range all() {
		if s.name == name {
			if s.embedded() != nil || s.added {
				return "", nil
			}
			return s.find("")
		}
	}
	return "", fmt.Errorf("no data set %q: known are %s", name, strings.Join(Names(), ", "))
}

// find is the folder that holds one of the set's files: dir, or one of the usual places.
func (s set) find(dir string) (string, error) {
	tried := []string{dir}
	if dir == "" {
		tried = Places(s.name)
	}
	for _, t := range tried {
		for _, in := range append([]string{"."}, s.inside...) {
			for _, f := range s.files {
				if _, err := os.Stat(filepath.Join(t, in, f)); err == nil {
					return filepath.Join(t, in), nil
				}
			}
		}
	}
	inside := ""
	if s.name == "mnist" {
		inside = `, import _ "github.com/cnnkit/cnnkit/train/data/mnist", which has it`
	}
	return "", fmt.Errorf(
		"data set %s is not here: no %s in %s; put it there%s, or say where with --data %s=FOLDER: %w",
		s.name, strings.Join(s.files, " or "), strings.Join(tried, " or "), inside, s.name, fs.ErrNotExist)
}

var digits = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

var fashion = []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
	"Bag", "Ankle boot"}

func openMNIST(dir string, _ Options) (Splits, error) { return readMNIST(os.DirFS(dir)) }

func readMNIST(files fs.FS) (Splits, error) {
	return openIDX("mnist", files, ".", digits, []float32{0.1307}, []float32{0.3081})
}

func openFashion(dir string, _ Options) (Splits, error) {
	return openIDX("fashion-mnist", os.DirFS(dir), ".", fashion, []float32{0.2860}, []float32{0.3530})
}

// openIDX reads the four files of MNIST's kind, each plain or packed with gzip.
func openIDX(name string, files fs.FS, dir string, classes []string, mean, std []float32) (Splits, error) {
	part := func(prefix string) (*Images, error) {
		imagesFile, labelsFile := prefix+"-images-idx3-ubyte", prefix+"-labels-idx1-ubyte"
		dims, pixels, err := readIDXFile(files, dir+"/"+imagesFile)
		if err != nil {
			return nil, err
		}
		ldims, labels, err := readIDXFile(files, dir+"/"+labelsFile)
		if err != nil {
			return nil, err
		}
		if len(dims) != 3 || len(ldims) != 1 || dims[0] != ldims[0] {
			return nil, &onnxio.FormatError{Format: "idx", Path: dir + "/" + imagesFile,
				Msg: fmt.Sprintf("images %v and labels %v do not go together", dims, ldims)}
		}
		d, err := NewImages([3]int{1, dims[1], dims[2]}, pixels, labels, classes, mean, std)
		if err != nil {
			return nil, &onnxio.FormatError{Format: "idx", Path: dir + "/" + labelsFile, Msg: err.Error()}
		}
		return d, nil
	}
	s := Splits{Name: name, Mean: mean, Std: std}
	train, err := part("train")
	if err != nil {
		return s, err
	}
	test, err := part("t10k")
	if err != nil {
		return s, err
	}
	s.Train, s.Validation = train, test
	return s, nil
}

// readIDXFile reads PATH.gz or PATH.
func readIDXFile(files fs.FS, path string) ([]int, []uint8, error) {
	path = filepath.ToSlash(filepath.Clean(path))
	f, err := files.Open(path + ".gz")
	if err == nil {
		defer f.Close()
		return ReadIDXGzip(f, path+".gz")
	}
	plain, perr := files.Open(path)
	if perr != nil {
		return nil, nil, err // of the name that the official files have
	}
	defer plain.Close()
	return ReadIDX(plain, path)
}
