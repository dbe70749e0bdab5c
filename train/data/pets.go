package data

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// petsSize is what pets are brought to when nothing else is said: their files are of every size.
var petsSize = [2]int{128, 128}

// petLists reads trainval.txt and test.txt of the Oxford-IIIT Pet set: lines of NAME CLASS SPECIES
// BREED, where CLASS is 1 to 37. The lists and the trimaps lie in dir, or in dir/annotations as the
// official archives have it.
func petLists(dir string) (annotations string, train, test [][]string, err error) {
	annotations = dir
	if isDir(filepath.Join(dir, "annotations")) {
		annotations = filepath.Join(dir, "annotations")
	}
	if train, err = readList(annotations, "trainval.txt"); err == nil {
		test, err = readList(annotations, "test.txt")
	}
	return annotations, train, test, err
}

// openPets reads the pets with their trimaps: pet and border are foreground.
func openPets(dir string, o Options) (Splits, error) {
	annotations, train, test, err := petLists(dir)
	if err != nil {
		return Splits{}, err
	}
	if o.Size == [2]int{} {
		o.Size = petsSize
	}
	cfg := o.files([]string{"background", "pet"})
	cfg.Coding = Trimap
	return listedPairs("pets", filepath.Join(dir, "images"), ".jpg", filepath.Join(annotations, "trimaps"),
		train, test, cfg)
}

// openBreeds reads the pets with their breeds.
func openBreeds(dir string, o Options) (Splits, error) {
	annotations, train, test, err := petLists(dir)
	if err != nil {
		return Splits{}, err
	}
	if o.Size == [2]int{} {
		o.Size = petsSize
	}
	// The classes are those that there are, in the order of their numbers: with all 37, label = CLASS - 1.
	breeds := map[int]string{}
	number := func(file string, words []string) (int, error) {
		n := 0
		if len(words) == 4 {
			n, _ = strconv.Atoi(words[1])
		}
		if n < 1 || n > 37 {
			return 0, &onnxio.FormatError{Format: "list", Path: filepath.Join(annotations, file),
				Where: words[0],
				Msg:   fmt.Sprintf("%q: NAME CLASS SPECIES BREED is wanted, with a CLASS of 1 to 37; other labels are out of range", strings.Join(words, " "))}
		}
		return n, nil
	}
	lists := map[string][][]string{"trainval.txt": train, "test.txt": test}
	for _, file := range []string{"trainval.txt", "test.txt"} {
		for _, words := range lists[file] {
			n, err := number(file, words)
			if err != nil {
				return Splits{}, err
			}
			breed := words[0]
			if at := strings.LastIndexByte(breed, '_'); at > 0 {
				breed = breed[:at]
			}
			breeds[n] = cmp.Or(breeds[n], strings.ReplaceAll(breed, "_", " "))
		}
	}
	var classes []string
	label := map[int]int{}
	for n := range 38 {
		if breed, ok := breeds[n]; ok {
			label[n] = len(classes)
			classes = append(classes, breed)
		}
	}
	if err := oneClass("pets-breeds", classes); err != nil {
		return Splits{}, err
	}
	items := func(file string) (out []Item) {
		for _, words := range lists[file] {
			n, _ := number(file, words)
			out = append(out, Item{Image: filepath.Join(dir, "images", words[0]+".jpg"), Label: label[n]})
		}
		return out
	}
	t, v, err := parts("pets-breeds", items("trainval.txt"), items("test.txt"), o.files(classes))
	if err != nil {
		return Splits{}, err
	}
	return splits("pets-breeds", t, v, o)
}

// openNuclei reads the nuclei of the Data Science Bowl 2018: images/ID.png, masks/ID.png and the
// lists train.txt and test.txt.
func openNuclei(dir string, o Options) (Splits, error) {
	train, err := readList(dir, "train.txt")
	if err != nil {
		return Splits{}, err
	}
	test, err := readList(dir, "test.txt")
	if err != nil {
		return Splits{}, err
	}
	cfg := o.files([]string{"background", "nucleus"})
	if cfg.Channels == 0 {
		cfg.Channels = 1
	}
	if cfg.Channels == 1 && cfg.Mean == nil && cfg.Std == nil {
		cfg.Mean, cfg.Std = []float32{0.0490}, []float32{0.0658} // of the 268 images to train on
	}
	return listedPairs("nuclei", filepath.Join(dir, "images"), ".png", filepath.Join(dir, "masks"),
		train, test, cfg)
}

// listedPairs makes the parts of a set whose lists name images IMAGES/NAME+ext and masks MASKS/NAME.png.
func listedPairs(name, images, ext, masks string, train, test [][]string, cfg FilesConfig) (Splits, error) {
	items := func(list [][]string) ([]Item, error) {
		var out []Item
		for _, words := range list {
			it := Item{Image: filepath.Join(images, words[0]+ext),
				Mask: filepath.Join(masks, words[0]+".png")}
			if _, err := os.Stat(it.Mask); err != nil {
				return nil, fmt.Errorf(
					"%s: its mask is missing: put it there, or take the image out of the list: %w",
					it.Image, err)
			}
			out = append(out, it)
		}
		return out, nil
	}
	a, err := items(train)
	if err != nil {
		return Splits{}, err
	}
	b, err := items(test)
	if err != nil {
		return Splits{}, err
	}
	if n := overlap(a, b); n != "" {
		return Splits{}, fmt.Errorf(
			"%s: %s stands in both lists: what is validated on must not be trained on", name, n)
	}
	t, v, err := parts(name, a, b, cfg)
	if err != nil {
		return Splits{}, err
	}
	return splits(name, t, v, Options{})
}

// overlap is an image that both have, "" if none.
func overlap(a, b []Item) string {
	i := slices.IndexFunc(b, func() func(Item) bool {
		in := map[string]bool{}
		for _, it := range a {
			in[it.Image] = true
		}
		return func(it Item) bool { return in[it.Image] }
	}())
	if i < 0 {
		return ""
	}
	return b[i].Image
}
