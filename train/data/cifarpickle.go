package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// cifarPickles are the files of the Python version of CIFAR: pickled dicts with the
// images as an array of numpy.
type cifarPickles struct {
	train      []string
	test, meta string
	labels     string // key of a batch's labels
	names      string // key of the names of the classes in meta
}

// ndarray is an array of unsigned bytes as numpy pickles it.
type ndarray struct {
	shape   []int
	fortran bool // the first index runs fastest
	bytes   string
}

// dtype is the name of an element's type.
type dtype struct{ name string }

// numpyGlobal lists the names that numpy's arrays are pickled with, by its versions 1
// and 2, Python 2's and 3's.
func numpyGlobal(g pickle.Global) bool {
	switch g.Module {
	case "numpy":
		return g.Name == "ndarray" || g.Name == "dtype"
	case "numpy.core.multiarray", "numpy._core.multiarray":
		return g.Name == "_reconstruct"
	case "numpy.core.numeric", "numpy._core.numeric":
		return g.Name == "_frombuffer"
	case "_codecs":
		return g.Name == "encode" // bytes in Python 3's protocol 2: text of the first 256 characters
	}
	return false
}

// newCIFARPickle reads a pickle of about so many records: labels, file's names and what is memoized of them.
func newCIFARPickle(r io.ReaderAt, size int64, records int) *pickle.Machine {
	rules := pickle.Rules{Format: "cifar", Holds: "a batch of CIFAR", Max: int64(16*records) + 1024,
		Allowed: numpyGlobal, Python2: true}
	encoded := int64(0)
	rules.Reduce = func(g pickle.Global, args []any) (any, error) {
		switch v := numpyReduce(g, args).(type) {
		case nil:
		case pickle.Bytes: // a copy: one text encoded again and again must not outgrow the file
			if encoded += int64(len(v)); encoded > size {
				return nil, &onnxio.LimitError{What: "bytes of encoded texts", Got: encoded, Limit: size}
			}
			return v, nil
		default:
			return v, nil
		}
		return nil, rules.Malformed("arguments of %s.%s are not what numpy writes of an array of bytes",
			g.Module, g.Name)
	}
	rules.Build = func(target, state any) (any, error) {
		if t, ok := state.(*pickle.Tuple); ok && numpyBuild(target, t.Items) {
			return target, nil
		}
		return nil, rules.Malformed("BUILD of something else than an array of bytes; nothing was executed")
	}
	return pickle.New(r, 0, size, rules)
}

// numpyReduce stands for numpy's calls; nil where the arguments are others than numpy's.
func numpyReduce(g pickle.Global, args []any) any {
	switch {
	case g.Name == "_reconstruct" && len(args) == 3: // an empty array, which BUILD fills
		if args[0] == any(pickle.Global{Module: "numpy", Name: "ndarray"}) {
			return &ndarray{}
		}
	case g.Name == "dtype" && len(args) == 3:
		if name, ok := text(args[0]); ok {
			return &dtype{name}
		}
	case g.Name == "_frombuffer" && len(args) == 4: // bytes, type, shape, order
		order, _ := text(args[3])
		a := &ndarray{fortran: order == "F"}
		if (order == "C" || order == "F") && a.fill(args[2], args[1], args[0]) {
			return a
		}
	case g.Name == "encode" && len(args) == 2:
		s, ok := args[0].(string)
		if coding, _ := text(args[1]); ok && coding == "latin1" {
			return latin1(s)
		}
	}
	return nil
}

// latin1 gives each character's number as a byte; nil if one is beyond.
func latin1(s string) any {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 255 {
			return nil
		}
		out = append(out, byte(r))
	}
	return pickle.Bytes(out)
}

// numpyBuild gives an array its state (version, shape, type, whether in Fortran's order, bytes). A type's own
// (byte order, fields, alignment) must say that it is plain.
func numpyBuild(target any, state []any) bool {
	switch a := target.(type) {
	case *ndarray:
		if len(state) != 5 || a.shape != nil {
			return false
		}
		var ok bool
		a.fortran, ok = state[3].(bool)
		return ok && a.fill(state[1], state[2], state[4])
	case *dtype:
		return len(state) >= 5 && state[2] == nil && state[3] == nil && state[4] == nil
	}
	return false
}

// fill sets shape and bytes, where they go together.
func (a *ndarray) fill(shape, typ, bytes any) bool {
	dims, ok := shape.(*pickle.Tuple)
	t, ok2 := typ.(*dtype)
	b, ok3 := text(bytes)
	if !ok || !ok2 || !ok3 || t.name != "u1" || len(dims.Items) == 0 || len(dims.Items) > 4 {
		return false
	}
	a.shape = make([]int, len(dims.Items))
	for i, d := range dims.Items {
		n, ok := d.(int64)
		if !ok || n < 0 || n > int64(len(b)) {
			return false
		}
		a.shape[i] = int(n)
	}
	a.bytes = b
	n, err := product(a.shape...)
	return err == nil && n == len(b)
}

// text is what a string holds, or bytes do: Python 2 knows no difference.
func text(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return s, true
	case pickle.Bytes:
		return string(s), true
	}
	return "", false
}

// lookUp finds a key, which Python 3 may have read as bytes.
func lookUp(d *pickle.Dict, key string) any {
	if v := d.Get(key); v != nil {
		return v
	}
	return d.Get(pickle.Bytes(key))
}

// loadPickle runs a file's only pickle and gives its dict.
func loadPickle(r io.ReaderAt, size int64, records int) (*pickle.Dict, error) {
	vm := newCIFARPickle(r, size, records)
	v, err := vm.Load()
	if err != nil {
		return nil, err
	}
	d, ok := v.(*pickle.Dict)
	if !ok || vm.Left != 0 {
		return nil, vm.Malformed("it is no dict, or something follows it")
	}
	return d, nil
}

// openPickle reads a file of at most limit bytes; errors name it.
func openPickle(path string, limit int64, read func(r io.ReaderAt, size int64) error) error {
	if err := regular(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > limit {
		return fmt.Errorf("%s: %w", path, &onnxio.LimitError{What: "bytes of a pickled batch",
			Got: info.Size(), Limit: limit})
	}
	err = read(f, info.Size())
	if fe := new(onnxio.FormatError); errors.As(err, &fe) && fe.Path == "" {
		fe.Path = path
	} else if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// readPickle reads a pickled batch into the part, from record from on.
func (c cifar) readPickle(path string, into *cifarPart, from, records int) error {
	// In Python 3's protocol 2 a byte may take two; what else a record has is short.
	return openPickle(path, int64(records)*3*cifarPixels+1<<16, func(r io.ReaderAt, size int64) error {
		d, err := loadPickle(r, size, records)
		if err != nil {
			return err
		}
		return c.batch(d, into, from, records)
	})
}

// batch takes the images and labels of a batch's dict.
func (c cifar) batch(d *pickle.Dict, into *cifarPart, from, records int) error {
	bad := func(where, msg string, args ...any) error {
		return &onnxio.FormatError{Format: c.name, Where: where, Msg: fmt.Sprintf(msg, args...)}
	}
	data, ok := lookUp(d, "data").(*ndarray)
	if !ok || len(data.shape) != 2 || data.shape[0] != records || data.shape[1] != cifarPixels {
		return bad("data", "an array of %d images of %d bytes is wanted: the file may be one of another set, or cut", records, cifarPixels)
	}
	labels, ok := lookUp(d, c.pickles.labels).(*pickle.List)
	if !ok || len(labels.Items) != records {
		return bad(c.pickles.labels, "a list of %d labels is wanted", records)
	}
	for i, v := range labels.Items {
		label, ok := v.(int64)
		if !ok || label < 0 || label >= int64(len(c.classes)) {
			return bad(fmt.Sprintf("record %d", i), "label %v is out of range: there are %d classes", v,
				len(c.classes))
		}
		into.labels[from+i] = uint8(label)
	}
	pixels := into.pixels[from*cifarPixels:][:records*cifarPixels]
	if !data.fortran {
		copy(pixels, data.bytes)
		return nil
	}
	for i := range records {
		for j := range cifarPixels {
			pixels[i*cifarPixels+j] = data.bytes[j*records+i]
		}
	}
	return nil
}

// pickledNames are the classes that the set's meta file names; the usual ones where it is missing.
func (c cifar) pickledNames(dir string) ([]string, error) {
	names := c.classes
	path := filepath.Join(dir, c.pickles.meta)
	if !exists(path) {
		return names, nil
	}
	err := openPickle(path, 1<<20, func(r io.ReaderAt, size int64) error {
		d, err := loadPickle(r, size, 1000)
		if err != nil {
			return err
		}
		list, ok := lookUp(d, c.pickles.names).(*pickle.List)
		if !ok || len(list.Items) != len(c.classes) {
			return &onnxio.FormatError{Format: c.name, Where: c.pickles.names,
				Msg: fmt.Sprintf("a list of %d names is wanted", len(c.classes))}
		}
		names = make([]string, len(list.Items))
		for i, v := range list.Items {
			if names[i], ok = text(v); !ok {
				return &onnxio.FormatError{Format: c.name, Where: c.pickles.names,
					Msg: fmt.Sprintf("name %d is no text", i)}
			}
		}
		return nil
	})
	return names, err
}
