package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// results is a file of JSON lines, one an image, that a run which was ended goes on with: an image that has a
// line is not run again. Beside it FILE.run says which run it belongs to.
type results struct {
	path string
	file *os.File
	done map[string]bool
	bad  int // images without an answer among the lines
}

// runNote is what the lines of a file have in common.
type runNote struct {
	Model  string `json:"model"`  // SHA-256 of the model as it is run
	Images string `json:"images"` // SHA-256 of their names
	Shard  string `json:"shard"`
	Top    int    `json:"top"`
}

// openResults opens the file of a run, whose name may hold {shard}, at the end of its last whole line.
func openResults(path string, s shard, m *onnxio.Model, files []string, top int) (*results, error) {
	r := &results{path: strings.ReplaceAll(path, "{shard}", strconv.Itoa(s.index)), done: map[string]bool{}}
	model, err := onnxio.Encode(m)
	if err != nil {
		return nil, err
	}
	this := runNote{sum(model), sum([]byte(strings.Join(files, "\x00"))), s.String(), top}
	if err := r.belongs(this); err != nil {
		return nil, err
	}
	if r.file, err = os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, saved(err)
	}
	if err := lock(r.file); err != nil {
		r.file.Close()
		return nil, usageError(
			"%s is being written by another process, such as an earlier start of the same part: "+
				"wait for its end", r.path)
	}
	if err := r.read(); err != nil {
		r.file.Close()
		return nil, err
	}
	return r, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// belongs checks that the file is of this run, or begins one.
func (r *results) belongs(this runNote) error {
	note := r.path + ".run"
	text, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Stat(r.path); err == nil && info.Size() > 0 {
			return usageError("%s is there and not of such a run: choose another --out, or remove it", r.path)
		}
		text, err := json.Marshal(this)
		if err != nil {
			return err
		}
		return saved(onnxio.WriteFile(note, func(w io.Writer) error {
			_, err := w.Write(append(text, '\n'))
			return err
		}))
	}
	if err != nil {
		return badFile{err}
	}
	var other runNote
	if err := json.Unmarshal(text, &other); err != nil {
		return badFile{fmt.Errorf("%s: %w", note, err)}
	}
	if other != this {
		return usageError("%s is of a run of another model, other images, another --shard or --top: choose another --out, "+
			"or remove it and %s", r.path, note)
	}
	return nil
}

// read learns which images are done, and cuts off a line that was not written whole.
func (r *results) read() error {
	data, err := io.ReadAll(r.file)
	if err != nil {
		return badFile{err}
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	for i, line := range bytes.Split(bytes.TrimSuffix(data[:whole], []byte("\n")), []byte("\n")) {
		if whole == 0 {
			break
		}
		var l vision.Result
		if err := json.Unmarshal(line, &l); err != nil || l.File == "" {
			return badFile{fmt.Errorf("%s: line %d is no result", r.path, i+1)}
		}
		r.done[l.File] = true
		if l.Error != "" {
			r.bad++
		}
	}
	if err := r.file.Truncate(int64(whole)); err != nil {
		return saved(err)
	}
	_, err = r.file.Seek(int64(whole), io.SeekStart)
	return saved(err)
}

// left are the images without a line.
func (r *results) left(files []string) []string {
	var out []string
	for _, f := range files {
		if !r.done[f] {
			out = append(out, f)
		}
	}
	return out
}

// add writes lines, and has them on the disk when it returns.
func (r *results) add(lines ...vision.Result) error {
	var b bytes.Buffer
	for _, l := range lines {
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b.Write(append(text, '\n'))
	}
	if _, err := r.file.Write(b.Bytes()); err != nil {
		return saved(err)
	}
	return saved(r.file.Sync())
}

func (r *results) close() error { return saved(r.file.Close()) }
