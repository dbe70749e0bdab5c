package data

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/train/data/mnist"
)

// Names lists the data sets that Open knows.
func Names() []string { return []string{"mnist", "fashion-mnist", "cifar10"} }

// Open finds a data set. NAME=DIR takes it from a folder; otherwise mnist is embedded, and the others are looked up
// under CNNKIT_DATA and then in the user's cache folder (cnnkit/data).
func Open(name string) (Splits, error) {
	name, dir, _ := strings.Cut(name, "=")
	switch name {
	case "mnist":
		if dir == "" {
			return embedded()
		}
		return openIDX(name, os.DirFS(dir), ".", digits, []float32{0.1307}, []float32{0.3081})
	case "fashion-mnist":
		root, err := find(name, dir, "train-images-idx3-ubyte.gz")
		if err != nil {
			return Splits{}, err
		}
		return openIDX(name, os.DirFS(root), ".", fashion, []float32{0.2860}, []float32{0.3530})
	case "cifar10":
		root, err := find(name, dir, "data_batch_1.bin", "data_batch_1.bin.xz")
		if err != nil {
			return Splits{}, err
		}
		return openCIFAR10(root)
	}
	return Splits{}, fmt.Errorf("no data set %q: known are %s, each also as NAME=FOLDER", name, strings.Join(Names(), ", "))
}

// find is the folder that holds one of the files: dir, or the data set's folder in the usual places.
func find(name, dir string, files ...string) (string, error) {
	tried := []string{dir}
	if dir == "" {
		tried = nil
		if root := os.Getenv("CNNKIT_DATA"); root != "" {
			tried = append(tried, filepath.Join(root, name))
		}
		if cache, err := os.UserCacheDir(); err == nil {
			tried = append(tried, filepath.Join(cache, "cnnkit", "data", name))
		}
	}
	for _, t := range tried {
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(t, f)); err == nil {
				return t, nil
			}
		}
	}
	return "", fmt.Errorf("data set %s is not here: no %s in %s; put it there, or say where with --data %s=FOLDER: %w",
		name, strings.Join(files, " or "), strings.Join(tried, " or "), name, fs.ErrNotExist)
}

var digits = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

var fashion = []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}

var embedded = sync.OnceValues(func() (Splits, error) {
	return openIDX("mnist", mnist.Files, "files", digits, []float32{0.1307}, []float32{0.3081})
})

// openIDX reads the four files of MNIST's kind.
func openIDX(name string, files fs.FS, dir string, classes []string, mean, std []float32) (Splits, error) {
	part := func(prefix string) (*Images, error) {
		dims, pixels, err := readIDXFile(files, dir+"/"+prefix+"-images-idx3-ubyte.gz")
		if err != nil {
			return nil, err
		}
		ldims, labels, err := readIDXFile(files, dir+"/"+prefix+"-labels-idx1-ubyte.gz")
		if err != nil {
			return nil, err
		}
		if len(dims) != 3 || len(ldims) != 1 || dims[0] != ldims[0] {
			return nil, fmt.Errorf("%s, %s: images %v and labels %v do not go together", name, prefix, dims, ldims)
		}
		return NewImages([3]int{1, dims[1], dims[2]}, pixels, labels, classes, mean, std)
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

func readIDXFile(files fs.FS, path string) ([]int, []uint8, error) {
	f, err := files.Open(filepath.ToSlash(filepath.Clean(path)))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return ReadIDXGzip(io.Reader(f), path)
}
