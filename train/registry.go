package train

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Entry describes what a recipe can name: a loss, a metric, an optimizer, a schedule.
type Entry struct {
	Name     string    `json:"name"`
	Doc      string    `json:"doc"`
	Settings []Setting `json:"settings"`
}

// Setting is a field of a recipe that an entry reads. One of an entry that Register added
// stands in Config.Settings.
type Setting struct {
	Name    string `json:"name"`
	Doc     string `json:"doc"`
	Default any    `json:"default"`
}

func (e Entry) entry() Entry { return e }

// registry holds the entries of one kind, in the order in which they were added. It
// is safe for concurrent use.
type registry[T interface{ entry() Entry }] struct {
	kind    string
	mu      sync.RWMutex
	entries []T
}

// newRegistry starts with what the package brings.
func newRegistry[T interface{ entry() Entry }](kind string, entries ...T) *registry[T] {
	return &registry[T]{kind: kind, entries: entries}
}

// add appends an entry whose name is new.
func (r *registry[T]) add(v T) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := v.entry().Name
	if name == "" || strings.ContainsAny(name, " ,;=\t\n") {
		return fmt.Errorf("%s name %q: a word without blanks and commas is wanted", r.kind, name)
	}
	if slices.ContainsFunc(r.entries, func(e T) bool { return e.entry().Name == name }) {
		return fmt.Errorf("there is a %s %q already", r.kind, name)
	}
	r.entries = append(r.entries, v)
	return nil
}

// find is the entry of a name.
func (r *registry[T]) find(name string) (T, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.entries {
		if e.entry().Name == name {
			return e, nil
		}
	}
	var none T
	return none, fmt.Errorf("no %s %q: known are %s", r.kind, name, strings.Join(r.namesLocked(), ", "))
}

// names lists the entries' names.
func (r *registry[T]) names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.namesLocked()
}

func (r *registry[T]) namesLocked() []string {
	out := make([]string, len(r.entries))
	for i, e := range r.entries {
		out[i] = e.entry().Name
	}
	return out
}

// describe copies the entries' descriptions.
func (r *registry[T]) describe() []Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Entry, len(r.entries))
	for i, e := range r.entries {
		if out[i] = e.entry(); out[i].Settings == nil {
			out[i].Settings = []Setting{}
		}
	}
	return out
}

// isFile says that a word of a recipe is the path of an ONNX file.
func isFile(word string) bool { return filepath.Ext(word) == ".onnx" }
