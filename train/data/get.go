package data

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cnnkit/cnnkit/internal/download"
)

// GetOptions says where Get fetches from and to.
type GetOptions struct {
	// Dir is the data set's folder; "" is the first of its Places.
	Dir string
	// Mirror is the address (http or https) of a folder that has the set's files under their official names;
	// "" is the official places. The hashes are the same.
	Mirror string
	// Client makes the requests; nil is one without a limit of time, but for a server that falls silent.
	Client *http.Client
	// Progress is called while a file comes; total is 0 when it is not known.
	Progress func(file string, done, total int64)
}

// Got is what Get did.
type Got struct {
	Dir      string
	Already  bool     // it was there
	Unpinned []string // files whose hash is not known, so that only their size has been checked
}

// Get fetches a data set into its folder, which appears when everything is there: files are
// checked against pinned hashes and archives unpacked beside it first. What an interrupted Get has
// fetched is taken up by the next.
func Get(ctx context.Context, name string, o GetOptions) (Got, error) {
	name = family(name)
	files, ok := remotes[name]
	if !ok {
		if name == "nuclei" {
			return Got{}, errors.New(
				"nuclei cannot be fetched: its place (Kaggle's Data Science Bowl 2018) wants an account, and keeps a mask for each nucleus; see Places for where it is looked for")
		}
		return Got{}, fmt.Errorf("no data set %q that could be fetched", name)
	}
	if o.Dir == "" {
		places := Places(name)
		if len(places) == 0 {
			return Got{}, errors.New("there is no cache folder: set CNNKIT_DATA, or say into which folder")
		}
		o.Dir = places[0]
	}
	return get(ctx, files, o)
}

func get(ctx context.Context, files []remote, o GetOptions) (got Got, err error) {
	got.Dir = filepath.Clean(o.Dir)
	if entries, err := os.ReadDir(got.Dir); err == nil && len(entries) > 0 {
		if report, err := verifyFolder(got.Dir, nil); err == nil && len(report) > 0 && Sums(report) == nil {
			got.Already = true
			return got, nil
		}
		return got, fmt.Errorf(
			"%s is not empty, and not what has been fetched before: take it away, or fetch into another folder", got.Dir)
	}
	parent, base := filepath.Split(got.Dir)
	work := filepath.Join(parent, "."+base+".partial")
	if err := os.MkdirAll(work, 0o777); err != nil {
		return got, err
	}
	if info, err := os.Lstat(work); err != nil || !info.IsDir() { // a link would lead elsewhere
		return got, fmt.Errorf("%s is not a folder", work)
	}
	ready := filepath.Join(work, "ready")
	if err := os.RemoveAll(ready); err != nil {
		return got, err
	}
	if err := os.Mkdir(ready, 0o777); err != nil {
		return got, err
	}
	for _, r := range files {
		if r.hash == "" {
			got.Unpinned = append(got.Unpinned, r.file)
		}
		file := filepath.Join(work, r.file)
		if err := r.fetch(ctx, file, o); err != nil {
			return got, err
		}
		if !r.archive() {
			continue
		}
		if err := unpack(file, ready, r.strip, maxUnpacked); err != nil {
			return got, err
		}
	}
	for _, r := range files { // last, so that an interruption before finds them again
		if !r.archive() {
			if err := os.Rename(filepath.Join(work, r.file), filepath.Join(ready, r.file)); err != nil {
				return got, err
			}
		}
	}
	if err := writeSums(ready); err != nil {
		return got, err
	}
	_ = os.Remove(got.Dir) // an empty one
	if err := os.Rename(ready, got.Dir); err != nil {
		return got, err
	}
	return got, os.RemoveAll(work)
}

// fetch brings a file to path, complete and with the right hash, from the first place that has it.
func (r remote) fetch(ctx context.Context, path string, o GetOptions) error {
	file := download.File{Name: r.file, Bases: r.bases, Size: r.size, Limit: maxUnpacked, Hash: r.hash}
	return file.Fetch(ctx, path, download.Options{Mirror: o.Mirror, Client: o.Client, Progress: o.Progress})
}
