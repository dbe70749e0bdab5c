package onnxio

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// Elements of a tensor can be in another file, named relative to the folder of the model. Such a
// reference comes from outside and names a file on this machine, so it is taken only when it stays
// below that folder, leads through no symbolic link to a regular file that has no second name, and
// agrees with the tensor's shape.

// external takes over the reference of a tensor whose data_location is EXTERNAL.
func (t *Tensor) external(p *onnxpb.TensorProto, fields []element) error {
	if len(fields) > 0 {
		return malformed("both external_data and %s are set", fields[0].field)
	}
	if t.Type == String || t.Type == Undefined {
		return malformed("external data of type %v", t.Type)
	}
	if _, err := CheckedBytes(t.Type, t.Dims); err != nil {
		return malformed("%v", err)
	}
	t.External = properties(p.ExternalData)
	_, err := t.reference()
	return err
}

// reference is external_data taken apart.
type reference struct {
	location  string
	offset    int64
	length    int64 // what type and shape ask for
	hasLength bool
	checksum  string // SHA-1 of the file in hex; "" when not given
}

// reference checks External: its keys, that the location is local, and that the length is the tensor's.
func (t *Tensor) reference() (reference, error) {
	var ref reference
	need, err := CheckedBytes(t.Type, t.Dims)
	if err != nil {
		return ref, malformed("%v", err)
	}
	ref.length = need
	seen := map[string]bool{}
	for _, p := range t.External {
		if seen[p.Key] {
			return ref, malformed("external_data has %s twice", p.Key)
		}
		seen[p.Key] = true
		switch p.Key {
		case "location":
			ref.location = p.Value
		case "offset":
			if ref.offset, err = decimal(p.Value); err != nil {
				return ref, malformed("external_data offset: %v", err)
			}
		case "length":
			n, err := decimal(p.Value)
			if err != nil {
				return ref, malformed("external_data length: %v", err)
			}
			if n != need {
				return ref, malformed("external_data length is %d where type %v and shape %v ask for %d", n,
					t.Type, t.Dims, need)
			}
			ref.hasLength = true
		case "checksum":
			ref.checksum = p.Value
		default:
			return ref, malformed("external_data has the key %q", p.Key)
		}
	}
	if err := localName(ref.location); err != nil {
		return ref, malformed("external_data location: %v", err)
	}
	if ref.offset > (1<<63-1)-need {
		return ref, malformed("external_data offset %d overflows", ref.offset)
	}
	return ref, nil
}

// decimal reads a number as external_data holds it: digits only.
func decimal(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return n, nil
}

// localName refuses a path that could mean anything but a file below the model's folder, on any system.
func localName(s string) error {
	switch {
	case s == "":
		return errors.New("missing")
	case len(s) > 4096:
		return errors.New("longer than 4096 bytes")
	case strings.ContainsAny(s, "\x00\\:"):
		return fmt.Errorf("%q has a NUL, a backslash or a colon", s)
	case !filepath.IsLocal(s) || s == ".":
		return fmt.Errorf("%q leads out of the model's folder", s)
	}
	return nil
}

// externalReader reads tensors from the data files of one model.
type externalReader struct {
	dir    string
	root   *os.Root
	files  map[string]*os.File
	sizes  map[string]int64
	sums   map[string]string
	limits Limits
	taken  int64 // bytes of tensors so far
	total  int64 // bytes of the files opened
}

func (r *externalReader) close() {
	for _, f := range r.files {
		f.Close()
	}
	if r.root != nil {
		r.root.Close()
	}
}

// open opens the file at location, once.
func (r *externalReader) open(location string) (*os.File, int64, error) {
	if f := r.files[location]; f != nil {
		return f, r.sizes[location], nil
	}
	if r.root == nil {
		root, err := os.OpenRoot(r.dir)
		if err != nil {
			return nil, 0, err
		}
		r.root, r.files, r.sizes, r.sums = root, map[string]*os.File{}, map[string]int64{},
			map[string]string{}
	}
	for dir := filepath.Dir(location); dir != "."; dir = filepath.Dir(dir) {
		if info, err := r.root.Lstat(dir); err != nil {
			return nil, 0, err
		} else if !info.IsDir() {
			return nil, 0, malformed("external data %q: %q is not a folder", location, dir)
		}
	}
	before, err := r.root.Lstat(location)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, malformed("external data %q is not a regular file", location)
	}
	f, err := r.root.Open(location)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		err = sameSingleFile(before, info, f, location)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	r.files[location], r.sizes[location] = f, info.Size()
	r.total += info.Size()
	return f, info.Size(), nil
}

// sameSingleFile checks that what was opened is what was looked at, and that it has no second name.
func sameSingleFile(before, after fs.FileInfo, f *os.File, location string) error {
	if !after.Mode().IsRegular() || !os.SameFile(before, after) {
		return malformed("external data %q changed while it was opened", location)
	}
	links, err := linkCount(f, after)
	if err != nil {
		return err
	}
	if links != 1 {
		return malformed("external data %q has %d hard links", location, links)
	}
	return nil
}

// check opens the file of t's reference and checks that the reference lies in it.
func (r *externalReader) check(t *Tensor) (*os.File, reference, error) {
	ref, err := t.reference()
	if err != nil {
		return nil, ref, err
	}
	f, size, err := r.open(ref.location)
	if err != nil {
		return nil, ref, err
	}
	switch {
	case ref.offset > size || ref.length > size-ref.offset:
		return nil, ref, malformed("%d bytes at %d of external data %q, which has %d", ref.length, ref.offset,
			ref.location, size)
	case !ref.hasLength && ref.length != size-ref.offset:
		return nil, ref, malformed(
			"external data %q has %d bytes from %d on where type %v and shape %v ask for %d",
			ref.location, size-ref.offset, ref.offset, t.Type, t.Dims, ref.length)
	}
	if ref.checksum != "" {
		sum, err := r.checksum(f, ref.location)
		if err != nil {
			return nil, ref, err
		}
		if !strings.EqualFold(sum, ref.checksum) {
			return nil, ref, malformed("external data %q has SHA-1 %s, not %q", ref.location, sum,
				ref.checksum)
		}
	}
	return f, ref, nil
}

func (r *externalReader) checksum(f *os.File, location string) (string, error) {
	if s, ok := r.sums[location]; ok {
		return s, nil
	}
	h := sha1.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, r.sizes[location])); err != nil {
		return "", err
	}
	r.sums[location] = hex.EncodeToString(h.Sum(nil))
	return r.sums[location], nil
}

// read fills in the elements of t.
func (r *externalReader) read(t *Tensor) error {
	f, ref, err := r.check(t)
	if err != nil {
		return err
	}
	// Many tensors may name the same bytes; together they may not take more than twice what the files hold.
	r.taken += ref.length
	if limit := min(r.limits.ExternalBytes, 2*r.total+r.limits.Overhead); r.taken > limit {
		return &LimitError{What: "bytes of external data", Got: r.taken, Limit: limit}
	}
	raw := make([]byte, ref.length)
	if n, err := f.ReadAt(raw, ref.offset); int64(n) < ref.length {
		return &FormatError{Format: "onnx", Msg: fmt.Sprintf("reading external data %q", ref.location),
			Err: err}
	}
	t.Raw, t.External = raw, nil
	return t.checkBools()
}
