package data

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// splits makes the parts of a set of files: those given, or of the first a stratified split.
func splits(name string, train, validation *Files, o Options) (Splits, error) {
	s := Splits{Name: name, Train: train, Mean: train.norm.Mean, Std: train.norm.Std}
	if validation != nil {
		s.Validation = validation
		return s, nil
	}
	a, b, err := Split(train, o.Validation, o.Seed)
	if err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	s.Train, s.Validation = a, b
	return s, nil
}

// newFiles makes a part of the set called name.
func newFiles(name string, items []Item, cfg FilesConfig) (*Files, error) {
	d, err := NewFiles(items, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// parts makes both parts, and sees to it that they are of one size.
func parts(name string, train, validation []Item, cfg FilesConfig) (t, v *Files, err error) {
	if t, err = newFiles(name, train, cfg); err != nil || validation == nil {
		return t, nil, err
	}
	if v, err = newFiles(name, validation, cfg); err != nil {
		return nil, nil, err
	}
	if t.size != v.size {
		return nil, nil, fmt.Errorf(
			"%s: the images to train on are %v [C,H,W] and those to validate on %v: say which size they are to be brought to",
			name, t.size, v.size)
	}
	return t, v, nil
}

// openImages reads images:DIR.
func openImages(name, dir string, o Options) (Splits, error) {
	trainDir, validationDir := dir, ""
	if isDir(filepath.Join(dir, "train")) {
		for _, v := range []string{"validation", "val", "valid", "test"} {
			if isDir(filepath.Join(dir, v)) {
				trainDir, validationDir = filepath.Join(dir, "train"), filepath.Join(dir, v)
				break
			}
		}
	}
	classes, train, err := classFolders(trainDir)
	if err != nil {
		return Splits{}, err
	}
	var validation []Item
	if validationDir != "" {
		var others []string
		if others, validation, err = classFolders(validationDir); err != nil {
			return Splits{}, err
		}
		if !slices.Equal(classes, others) {
			return Splits{}, fmt.Errorf("%s has the classes %s, and %s has %s", trainDir, listed(classes),
				validationDir, listed(others))
		}
	}
	if err := oneClass(name, classes); err != nil {
		return Splits{}, err
	}
	t, v, err := parts(name, train, validation, o.files(classes))
	if err != nil {
		return Splits{}, err
	}
	return splits(name, t, v, o)
}

func oneClass(name string, classes []string) error {
	if len(classes) == 1 {
		return fmt.Errorf("%s has one class only (%s): there is nothing to tell apart; give each class images of its own, in a folder or with a label", name, classes[0])
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func listed(names []string) string {
	if len(names) > 8 {
		return fmt.Sprintf("%s, ... (%d)", strings.Join(names[:8], ", "), len(names))
	}
	return strings.Join(names, ", ")
}

// classFolders lists the images by class, in the order of the names, whatever depth they lie in.
func classFolders(dir string) (classes []string, items []Item, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("a folder with a folder for each class is wanted: %w", err)
	}
	for _, e := range entries {
		root := filepath.Join(dir, e.Name())
		if vision.Hidden(e.Name()) || !isDir(root) {
			continue
		}
		before := len(items)
		err := filepath.WalkDir(root+string(filepath.Separator), func(path string, d fs.DirEntry,
			err error) error {
			if err == nil && d.IsDir() && vision.Hidden(d.Name()) {
				return filepath.SkipDir
			}
			if err == nil && !d.IsDir() && vision.IsImage(d.Name()) {
				items = append(items, Item{Image: path, Label: len(classes)})
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		if len(items) == before {
			return nil, nil, &onnxio.FormatError{Format: "images", Path: root,
				Msg: "the class has no images (" + strings.Join(vision.Extensions(), ", ") +
					"): put some there, or remove the folder"}
		}
		classes = append(classes, e.Name())
	}
	if len(classes) == 0 {
		return nil, nil, &onnxio.FormatError{Format: "images", Path: dir,
			Msg: "no images: a folder for each class is wanted, with its images inside"}
	}
	return classes, items, nil
}

// openMasks reads masks:IMAGES,MASKS.
func openMasks(name, images, masks string, o Options) (Splits, error) {
	items, err := pairs(images, masks)
	if err != nil {
		return Splits{}, err
	}
	cfg := o.masks()
	d, err := newFiles(name, items, cfg)
	if err != nil {
		return Splits{}, err
	}
	return splits(name, d, nil, o)
}

var foreground = []string{"background", "foreground"}

func (o Options) masks() FilesConfig {
	if len(o.MaskClasses) == 0 {
		return o.files(foreground)
	}
	cfg := o.files(o.MaskClasses)
	cfg.Coding, cfg.Ignore = Indexed, o.Ignore
	return cfg
}

// pairs finds for each image the mask of the same stem, which may also end in _mask.
func pairs(images, masks string) ([]Item, error) {
	pictures, err := stems(images)
	if err != nil {
		return nil, err
	}
	of, err := stems(masks)
	if err != nil {
		return nil, err
	}
	if len(pictures) == 0 {
		return nil, &onnxio.FormatError{Format: "images", Path: images, Msg: "the folder has no images (" +
			strings.Join(vision.Extensions(), ", ") +
			"): put them there, with masks of the same names in the other folder"}
	}
	var items []Item
	var missing []string
	for _, stem := range slices.Sorted(maps.Keys(pictures)) {
		mask := cmp.Or(of[stem], of[stem+"_mask"])
		if mask == "" {
			missing = append(missing, stem)
		}
		items = append(items, Item{Image: pictures[stem], Mask: mask})
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf(
			"%s: no mask in %s, and none for %d of %d images; a mask has its image's name, but for the extension: put it there, or take the image away: %w", pictures[missing[0]], masks, len(missing), len(items), fs.ErrNotExist)
	}
	return items, nil
}

// stems lists a folder's images by their names without extension.
func stems(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		if e.IsDir() || !vision.IsImage(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		stem := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if other, ok := out[stem]; ok {
			return nil, fmt.Errorf(
				"%s and %s have the same name but for the extension: which of them is meant?", other, path)
		}
		out[stem] = path
	}
	return out, nil
}

// maxList bounds lists and tables: that of a set of ten million files.
const maxList = 1 << 30

// readList reads the lines of a list of samples, each cut at its spaces; those that start with # are
// comments. The first word is the name of a file in the set's own folders: it leads nowhere else.
func readList(dir, name string) ([][]string, error) {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := regular(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseList(f, path)
}

// parseList reads the lines of a list.
func parseList(r io.Reader, path string) ([][]string, error) {
	var out [][]string
	scan := bufio.NewScanner(io.LimitReader(r, maxList))
	for line := 1; scan.Scan(); line++ {
		words := strings.Fields(scan.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if !filepath.IsLocal(words[0]) || strings.ContainsAny(words[0], `/\`+"\x00") {
			return nil, &onnxio.FormatError{Format: "list", Path: path, Where: fmt.Sprintf("line %d", line),
				Msg: fmt.Sprintf("%q is not the name of a sample", words[0])}
		}
		out = append(out, words)
	}
	if err := scan.Err(); err != nil {
		return nil, &onnxio.FormatError{Format: "list", Path: path, Msg: "cannot be read", Err: err}
	}
	if len(out) == 0 {
		return nil, &onnxio.FormatError{Format: "list", Path: path, Msg: "no images: the list is empty"}
	}
	return out, nil
}
