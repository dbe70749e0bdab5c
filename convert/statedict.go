package convert

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Entry is one tensor of a state dict under its key.
type Entry struct {
	Name   string
	Tensor *onnxio.Tensor
}

// StateDict is an ordered map from key to tensor. Tied weights are entries whose tensors share their bytes;
// so may entries that were views of one storage. The zero value is empty and ready to use.
type StateDict struct {
	// Skipped names what a checkpoint held beside tensors: epoch, best_prec1, optimizer.
	Skipped []string
	// Notes says what the reader made into something else: a quantized tensor is
	// dequantized, a sparse one is dense.
	Notes []string

	origin  origin
	objects map[string]string // the class of a skipped object, by its key
	entries []Entry
	index   map[string]int
}

// Limits bounds what a reader accepts; a field of zero means its default.
type Limits struct {
	// MaxBytes caps the bytes of all tensors together (default 64 GiB). The file's size bounds them too.
	MaxBytes int64
	// MaxObjects caps the values that one pickle may make (default 1<<20).
	MaxObjects int64
	// MaxEntries caps the entries of a zip and the tensors of a file (default 1<<17).
	MaxEntries int64
	// MaxAlias is how many bytes overlapping or expanded views may take beyond their
	// storages (default 1 MiB).
	MaxAlias int64
}

// DefaultLimits gives the limits that Load uses.
func DefaultLimits() Limits {
	return Limits{MaxBytes: 64 << 30, MaxObjects: 1 << 20, MaxEntries: 1 << 17, MaxAlias: 1 << 20}
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, def *int64 }{
		{&l.MaxBytes, &d.MaxBytes}, {&l.MaxObjects, &d.MaxObjects}, {&l.MaxEntries, &d.MaxEntries},
		{&l.MaxAlias, &d.MaxAlias},
	} {
		if *f.v <= 0 {
			*f.v = *f.def
		}
	}
	return l
}

// Len is the number of entries.
func (sd *StateDict) Len() int { return len(sd.entries) }

// Entries lists the entries in order. The slice is the state dict's own.
func (sd *StateDict) Entries() []Entry { return sd.entries }

// Get finds a tensor by key, nil when absent.
func (sd *StateDict) Get(name string) *onnxio.Tensor {
	if i, ok := sd.index[name]; ok {
		return sd.entries[i].Tensor
	}
	return nil
}

// Set replaces or appends an entry.
func (sd *StateDict) Set(name string, t *onnxio.Tensor) {
	if i, ok := sd.index[name]; ok {
		sd.entries[i].Tensor = t
		return
	}
	if sd.index == nil {
		sd.index = map[string]int{}
	}
	sd.index[name] = len(sd.entries)
	sd.entries = append(sd.entries, Entry{name, t})
}

// check says whether every tensor can be written.
func (sd *StateDict) check() error {
	for _, e := range sd.entries {
		if e.Tensor == nil {
			return fmt.Errorf("state dict: %q has no tensor", e.Name)
		}
		if len(e.Tensor.External) > 0 {
			return fmt.Errorf("state dict: %q refers to external data that has not been read", e.Name)
		}
		if err := e.Tensor.Check(); err != nil {
			return fmt.Errorf("state dict: %q: %w", e.Name, err)
		}
	}
	return nil
}
