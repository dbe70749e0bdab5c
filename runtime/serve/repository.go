package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// repository has the models that a server knows, loaded or not.
type repository struct {
	opt     *Options
	log     *slog.Logger
	metrics *metrics

	changes sync.Mutex // one change at a time
	mu      sync.RWMutex
	entries map[string]*entry
	closing sync.WaitGroup // models that are out of service and still answer
}

// entry is a name.
type entry struct {
	source
	versions map[int64]*model
	prints   map[int64]uint64
	state    string
	reason   string
}

// States of a model, in Triton's words.
const (
	stateReady       = "READY"
	stateLoading     = "LOADING"
	stateUnavailable = "UNAVAILABLE"
)

// find gives a version of a model, the newest for "". The caller must call done when it is through with it.
func (r *repository) find(name, version string) (m *model, done func(), err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.entries[name]
	if e == nil {
		return nil, nil, fail(http.StatusNotFound, "no model %q", printable(name))
	}
	if len(e.versions) == 0 {
		return nil, nil, fail(http.StatusNotFound, "model %q is not loaded: %s", name,
			cmp.Or(e.reason, e.state))
	}
	v := slices.Max(slices.Collect(maps.Keys(e.versions)))
	if version != "" {
		n, err := strconv.ParseInt(version, 10, 64)
		if err != nil {
			return nil, nil, fail(http.StatusNotFound, "model %q has no version %q", name, printable(version))
		}
		v = n
	}
	if m = e.versions[v]; m == nil {
		return nil, nil, fail(http.StatusNotFound, "model %q has no version %s", name, printable(version))
	}
	m.uses.Add(1)
	return m, m.uses.Done, nil
}

// printable bounds what an error repeats of a client's words.
func printable(s string) string {
	if len(s) > 128 {
		return s[:128] + "..."
	}
	return s
}

// models are those in service, by name and version.
func (r *repository) models() []*model {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []*model
	for _, e := range r.entries {
		for _, m := range e.versions {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *model) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
	})
	return out
}

// versionsOf are the versions of a name in service.
func (r *repository) versionsOf(name string) []string {
	out := []string{}
	for _, m := range r.models() {
		if m.name == name {
			out = append(out, m.versionText())
		}
	}
	return out
}

// indexed is a line of the repository's index.
type indexed struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	State   string `json:"state,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func (r *repository) index(ready bool) []indexed {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := []indexed{}
	for _, name := range slices.Sorted(maps.Keys(r.entries)) {
		e := r.entries[name]
		for _, v := range slices.Sorted(maps.Keys(e.versions)) {
			out = append(out, indexed{name, strconv.FormatInt(v, 10), stateReady, ""})
		}
		if len(e.versions) == 0 && !ready {
			out = append(out, indexed{name, "", e.state, e.reason})
		}
	}
	return out
}

// scan finds the names that the arguments lead to. Names that are gone leave the
// index once they are unloaded.
func (r *repository) scan() error {
	found := map[string]source{}
	var problems []error
	for _, arg := range r.opt.Models {
		all, err := sources(arg)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, s := range all {
			if other, ok := found[s.name]; ok {
				problems = append(problems,
					fmt.Errorf("two models are called %q: %s and %s; name one as NAME=FILE",
						s.name, other.place(), s.place()))
				continue
			}
			found[s.name] = s
		}
		if len(all) == 0 {
			r.log.Warn("no models", "folder", arg)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, s := range found {
		if e := r.entries[name]; e != nil {
			e.source = s
		} else {
			r.entries[name] = &entry{source: s, state: stateUnavailable, reason: "not loaded"}
		}
	}
	for name, e := range r.entries {
		if _, ok := found[name]; !ok && len(e.versions) == 0 && len(problems) == 0 {
			delete(r.entries, name)
		}
	}
	return errors.Join(problems...)
}

func (s source) place() string { return cmp.Or(s.dir, s.file) }

// load brings a model into service, or its newest files in place of those that are. Requests go to the old
// versions until the new ones are warm, and those that an old one has taken end on it.
func (r *repository) load(ctx context.Context, name string, onlyChanged bool) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	if err := r.scan(); err != nil {
		r.log.Warn("scanning the repository", "error", err)
	}
	r.mu.Lock()
	e := r.entries[name]
	if e == nil {
		r.mu.Unlock()
		return fail(http.StatusNotFound, "no model %q in the repository", printable(name))
	}
	s := e.source
	if len(e.versions) == 0 {
		e.state, e.reason = stateLoading, ""
	}
	r.mu.Unlock()
	fresh, kept, err := r.fresh(ctx, s, onlyChanged)
	if err != nil {
		r.mu.Lock()
		if e.state, e.reason = stateUnavailable, err.Error(); len(e.versions) > 0 {
			e.state = stateReady
		}
		r.mu.Unlock()
		return err
	}
	r.replace(e, fresh, kept)
	return nil
}

// version is a model beside the fingerprint of its files.
type version struct {
	*model
	print uint64
}

// fresh opens the versions of a source that are not kept.
func (r *repository) fresh(ctx context.Context, s source, onlyChanged bool) (fresh []version, kept []int64,
	err error) {
	config, err := s.config(r.log)
	if err != nil {
		return nil, nil, err
	}
	files, err := s.versions(config)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if onlyChanged && r.has(s.name, f) {
			kept = append(kept, f.version)
			continue
		}
		m, err := r.open(ctx, s, f, config)
		if err != nil {
			for _, m := range fresh {
				m.close()
			}
			return nil, nil, err
		}
		fresh = append(fresh, version{m, f.print})
	}
	return fresh, kept, nil
}

func (r *repository) has(name string, f versionFile) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.entries[name]
	return e != nil && e.versions[f.version] != nil && e.prints[f.version] == f.print
}

// replace brings fresh versions into service beside those that are kept, and lets the others end.
func (r *repository) replace(e *entry, fresh []version, kept []int64) {
	versions, prints := map[int64]*model{}, map[int64]uint64{}
	for _, v := range fresh {
		versions[v.version], prints[v.version] = v.model, v.print
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for v, m := range e.versions {
		if slices.Contains(kept, v) {
			versions[v], prints[v] = m, e.prints[v]
			continue
		}
		r.closing.Go(m.close)
	}
	e.versions, e.prints, e.state, e.reason = versions, prints, stateReady, ""
	r.metrics.loaded(e.name, len(versions))
}

// unload takes a model out of service.
func (r *repository) unload(name string) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[name]
	if e == nil {
		return fail(http.StatusNotFound, "no model %q in the repository", printable(name))
	}
	for _, m := range e.versions {
		r.closing.Go(m.close)
	}
	e.versions, e.prints, e.state, e.reason = nil, nil, stateUnavailable, "unloaded"
	r.metrics.loaded(e.name, 0)
	return nil
}

// refresh loads what is new or has changed, and unloads what is gone. It goes on after an error.
func (r *repository) refresh(ctx context.Context) error {
	var problems []error
	found := map[string]bool{}
	for _, arg := range r.opt.Models {
		all, err := sources(arg)
		if err != nil {
			return err // a folder that cannot be read for a moment is no reason to unload its models
		}
		for _, s := range all {
			found[s.name] = true
		}
	}
	for name := range found {
		if err := r.load(ctx, name, true); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, m := range r.models() {
		if !found[m.name] {
			problems = append(problems, r.unload(m.name))
		}
	}
	return errors.Join(problems...)
}

// close ends all models.
func (r *repository) close() {
	r.changes.Lock()
	defer r.changes.Unlock()
	r.mu.Lock()
	for _, e := range r.entries {
		for _, m := range e.versions {
			r.closing.Go(m.close)
		}
		e.versions, e.state, e.reason = nil, stateUnavailable, "the server ends"
	}
	r.mu.Unlock()
	r.closing.Wait()
}
