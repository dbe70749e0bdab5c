package serve

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// modelName is what a model can be called: nothing that means something in a path.
var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// source says where a model lies: in a folder of Triton's layout, or in one file.
type source struct {
	name string
	dir  string // NAME with its versions 1, 2, ... below; "" for a plain file
	file string
}

// versionFile is one version of a source.
type versionFile struct {
	version int64
	path    string
	print   uint64 // of names, sizes and times of the files that belong to it
}

// sources finds the models that an argument of the command line names: a file, NAME=FILE, a folder of
// Triton's layout (NAME/1/model.onnx), or a folder of files.
func sources(arg string) ([]source, error) {
	if name, path, named := strings.Cut(arg, "="); named && modelName.MatchString(name) {
		return namedSource(name, path)
	}
	info, err := os.Stat(arg)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return plainSource(arg)
	}
	if len(versionDirs(arg)) > 0 {
		return namedSource(NameOf(arg), arg)
	}
	entries, err := os.ReadDir(arg)
	if err != nil {
		return nil, err
	}
	var out []source
	for _, e := range entries {
		path := filepath.Join(arg, e.Name())
		info, err := os.Stat(path) // follows links
		switch {
		case err != nil || strings.HasPrefix(e.Name(), "."):
			continue
		case info.IsDir() && len(versionDirs(path)) > 0 && modelName.MatchString(e.Name()):
			out = append(out, source{name: e.Name(), dir: path})
		case info.IsDir() && isFile(filepath.Join(path, "model.onnx")) && modelName.MatchString(e.Name()):
			out = append(out, source{name: e.Name(), file: filepath.Join(path, "model.onnx")})
		case filepath.Ext(e.Name()) == ".onnx" && info.Mode().IsRegular():
			if s, err := plainSource(path); err == nil {
				out = append(out, s...)
			}
		}
	}
	return out, nil
}

func namedSource(name, path string) ([]source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !modelName.MatchString(name) {
		return nil, badName(name)
	}
	if info.IsDir() {
		return []source{{name: name, dir: path}}, nil
	}
	return []source{{name: name, file: path}}, nil
}

func plainSource(path string) ([]source, error) {
	name := NameOf(path)
	if !modelName.MatchString(name) {
		return nil, badName(name)
	}
	return []source{{name: name, file: path}}, nil
}

func badName(name string) error {
	return fmt.Errorf("%q cannot be a model's name: letters, digits, '.', '_' and '-' can; give it one as NAME=FILE", name)
}

// NameOf names a model by its file, without the extension; a model.onnx by its folder, since
// every training leaves one.
func NameOf(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		full = path
	}
	name := filepath.Base(full)
	if filepath.Ext(name) == ".onnx" {
		name = strings.TrimSuffix(name, ".onnx")
		if dir := filepath.Base(filepath.Dir(full)); name == "model" && modelName.MatchString(dir) {
			name = dir
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// versionDirs are the versions below a model's folder, ascending.
func versionDirs(dir string) []int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []int64
	for _, e := range entries {
		v, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil || v <= 0 || strconv.FormatInt(v, 10) != e.Name() {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

// versions are those of a source that its policy serves, ascending.
func (s source) versions(c *oip.ModelConfig) ([]versionFile, error) {
	if s.dir == "" {
		print, err := fingerprint(s.file)
		return []versionFile{{1, s.file, print}}, err
	}
	name := "model.onnx"
	if c.GetDefaultModelFilename() != "" {
		name = c.GetDefaultModelFilename()
	}
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return nil, &onnxio.FormatError{Format: configFile,
			Msg: fmt.Sprintf("default_model_filename %q is no file's name", name)}
	}
	var out []versionFile
	for _, v := range served(versionDirs(s.dir), c.GetVersionPolicy()) {
		dir := filepath.Join(s.dir, strconv.FormatInt(v, 10))
		print, err := fingerprint(dir, filepath.Join(s.dir, configFile))
		if err != nil {
			return nil, err
		}
		out = append(out, versionFile{v, filepath.Join(dir, name), print})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no version is there to serve: %s/1/%s is wanted", s.dir, s.dir, name)
	}
	return out, nil
}

// served applies a version policy; without one the newest version is served.
func served(all []int64, p *oip.ModelVersionPolicy) []int64 {
	switch {
	case p.GetAll() != nil:
		return all
	case p.GetSpecific() != nil:
		return slices.DeleteFunc(slices.Clone(all), func(v int64) bool {
			return !slices.Contains(p.GetSpecific().Versions, v)
		})
	}
	n := int(max(p.GetLatest().GetNumVersions(), 1))
	return all[max(len(all)-n, 0):]
}

// fingerprint changes when one of the files does, or a file below one of the folders. A file that
// is not there counts as one.
func fingerprint(paths ...string) (uint64, error) {
	h := fnv.New64a()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if !info.IsDir() {
				fmt.Fprintf(h, "%s\x00%d\x00%d\x00", path, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return h.Sum64(), nil
}

// config reads the configuration of a source; nil where it has none.
func (s source) config(log *slog.Logger) (*oip.ModelConfig, error) {
	if s.dir == "" {
		return nil, nil
	}
	return readConfig(s.dir, log)
}
