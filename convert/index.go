package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// shard is a file of a sharded state dict and the keys that the index gives it, in the index's order.
type shard struct {
	file string
	keys []string
}

// loadIndex reads {"metadata": ..., "weight_map": {key: file}} and the shards in dir. The index and its
// shards must name the same keys.
func loadIndex(r io.ReaderAt, size int64, dir string, lim Limits, key string) (*StateDict, error) {
	if key != "" {
		return nil, malformed(formatIndex, "", "holds one state dict, so there is no %q to choose", key)
	}
	if size > maxHeader {
		return nil, &onnxio.LimitError{What: "bytes of an index of shards", Got: size, Limit: maxHeader}
	}
	text := make([]byte, size)
	if err := readAt(r, text, 0, formatIndex, ""); err != nil {
		return nil, err
	}
	shards, err := parseIndex(text, lim)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := present(root, shards); err != nil {
		return nil, err
	}
	out := &StateDict{}
	for _, s := range shards {
		sd, err := loadShard(root, s.file, lim)
		if err != nil {
			return nil, fmt.Errorf("shard %s: %w", s.file, err)
		}
		if err := out.join(s, sd, &lim); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseIndex lists the shards in the order in which the index names them.
func parseIndex(text []byte, lim Limits) ([]shard, error) {
	var out []shard
	at := map[string]int{}
	keys := int64(0)
	mapped := false
	p := newJSON(text, formatIndex, "")
	err := p.object(func(field string) error {
		if field != "weight_map" {
			return p.skip()
		}
		mapped = true
		return p.object(func(key string) error {
			file, err := p.str()
			if err != nil {
				return err
			}
			if keys++; keys > lim.MaxEntries {
				return &onnxio.LimitError{What: "tensors of a state dict", Got: keys, Limit: lim.MaxEntries}
			}
			i, ok := at[file]
			if !ok {
				if err := besideName(file); err != nil {
					return p.bad("%q: %v", key, err)
				}
				i = len(out)
				at[file] = i
				out = append(out, shard{file: file})
			}
			out[i].keys = append(out[i].keys, key)
			return nil
		})
	})
	if err == nil {
		err = p.end(text)
	}
	if err == nil && !mapped {
		err = p.bad("no weight_map: not an index of shards")
	}
	return out, err
}

// besideName refuses what is not the plain name of a file beside the index, on any system.
func besideName(file string) error {
	if file == "" || file == "." || file == ".." || len(file) > 255 || strings.ContainsAny(file, "/\\:\x00") {
		return fmt.Errorf("shard %.80q is not the name of a file beside the index", file)
	}
	return nil
}

// present names all shards that are not there, before any is read.
func present(root *os.Root, shards []shard) error {
	var missing []string
	for _, s := range shards {
		if _, err := root.Lstat(s.file); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, s.file)
		}
	}
	if len(missing) > 0 {
		return malformed(formatIndex, "", "%d of %d shards are not beside it: %s", len(missing), len(shards),
			strings.Join(missing[:min(len(missing), 20)], ", "))
	}
	return nil
}

// loadShard reads a regular file of one name: no link leads out of the folder.
func loadShard(root *os.Root, file string, lim Limits) (*StateDict, error) {
	before, err := root.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, malformed(formatIndex, "", "is a link or a folder: put the file itself beside the index")
	}
	f, err := root.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !os.SameFile(before, info) {
		return nil, malformed(formatIndex, "", "changed while it was opened")
	}
	if n := linkCount(info); n != 1 {
		return nil, malformed(formatIndex, "", "has %d hard links: put a copy of its own beside the index", n)
	}
	return load(f, info.Size(), lim, "")
}

// join adds a shard's entries, which must be those that the index gives it, and takes their bytes off the
// limit.
func (sd *StateDict) join(s shard, part *StateDict, lim *Limits) error {
	var missing []string
	for _, k := range s.keys {
		t := part.Get(k)
		if t == nil {
			missing = append(missing, k)
			continue
		}
		sd.Set(k, t)
		lim.MaxBytes -= int64(len(t.Raw))
	}
	if len(missing) > 0 {
		return malformed(formatIndex, s.file, "%d keys that the index gives to this shard are not in it: %q",
			len(missing), missing[:min(len(missing), 20)])
	}
	if part.Len() != len(s.keys) {
		own := map[string]bool{}
		for _, k := range s.keys {
			own[k] = true
		}
		var more []string
		for _, e := range part.entries {
			if !own[e.Name] {
				more = append(more, e.Name)
			}
		}
		return malformed(formatIndex, s.file, "%d keys of this shard are not its own in the index: %q",
			len(more), more[:min(len(more), 20)])
	}
	if most := DefaultLimits().MaxBytes; lim.MaxBytes <= 0 {
		return &onnxio.LimitError{What: "bytes of all shards", Got: most - lim.MaxBytes, Limit: most}
	}
	sd.Notes = append(sd.Notes, part.Notes...)
	return nil
}
