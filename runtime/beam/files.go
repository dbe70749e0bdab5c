package beam

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/local" // files without a scheme
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

func init() {
	register.Function3x1(list)
	register.Function4x1(read)
	register.Function1x2(line)
	register.DoFn4x1[context.Context, int, func(*string) bool, func(*string) bool, error](&writeFn{})
	register.Emitter1[string]()
	register.Emitter2[string, []byte]()
	register.Iter1[string]()
}

// maxFile bounds the bytes of an image file, which is in memory as a whole.
const maxFile = 256 << 20

// Files are what Read gives.
type Files struct {
	Images beam.PCollection // PCollection<KV<string, []byte>>: names, and what the files hold
	Dead   beam.PCollection // PCollection<vision.Result>: files that cannot be read, with the reason
}

// Read reads the files that a pattern names, of up to 256 MiB each. A pattern that
// names none fails the pipeline.
func Read(s beam.Scope, pattern string) Files {
	s = s.Scope("cnnkit.Read")
	filesystem.ValidateScheme(pattern)
	names := beam.ParDo(s, list, beam.Create(s, pattern))
	images, dead := beam.ParDo2(s, read, beam.Reshuffle(s, names)) // so that all workers take part
	return Files{images, dead}
}

func list(ctx context.Context, pattern string, names func(string)) error {
	fs, err := filesystem.New(ctx, pattern)
	if err != nil {
		return err
	}
	defer fs.Close()
	files, err := fs.List(ctx, pattern)
	if err != nil {
		return fmt.Errorf("%s: %w", pattern, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("no file is called %s", pattern)
	}
	for _, f := range files {
		names(f)
	}
	return nil
}

func read(ctx context.Context, name string, images func(string, []byte), dead func(vision.Result)) error {
	data, err := whole(ctx, name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		bury(ctx, name, err, dead)
		return nil
	}
	images(name, data)
	return nil
}

// whole is a file's bytes.
func whole(ctx context.Context, name string) ([]byte, error) {
	fs, err := filesystem.New(ctx, name)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	f, err := fs.OpenRead(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &onnxio.LimitError{What: "bytes of an image file", Got: int64(len(data)), Limit: maxFile}
	}
	return data, err
}

// Write writes results, a PCollection<vision.Result>, into one file, a line of JSON each, in any order.
// Without results the file is empty. On file systems that can rename it is there when it is whole.
func Write(s beam.Scope, path string, results beam.PCollection) {
	s = s.Scope("cnnkit.Write")
	filesystem.ValidateScheme(path)
	lines := beam.AddFixedKey(s, beam.ParDo(s, line, results))
	always := beam.AddFixedKey(s, beam.Create(s, "")) // also where there are no lines
	beam.ParDo0(s, &writeFn{Path: path}, beam.CoGroupByKey(s, always, lines))
}

func line(r vision.Result) (string, error) {
	text, err := json.Marshal(r)
	return string(text), err
}

// writeFn writes all lines at once: they are under one key.
type writeFn struct {
	Path string `json:"path"`
}

// ProcessElement writes the file.
func (w *writeFn) ProcessElement(ctx context.Context, _ int, _, lines func(*string) bool) error {
	fs, err := filesystem.New(ctx, w.Path)
	if err != nil {
		return err
	}
	defer fs.Close()
	part := w.Path
	if _, ok := fs.(filesystem.Renamer); ok {
		part += ".part"
	}
	if err := writeLines(ctx, fs, part, lines); err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	if part == w.Path {
		return nil
	}
	return filesystem.Rename(ctx, fs, part, w.Path)
}

func writeLines(ctx context.Context, fs filesystem.Interface, path string, lines func(*string) bool) error {
	f, err := fs.OpenWrite(ctx, path)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	var text string
	for lines(&text) {
		_, _ = b.WriteString(text)
		_ = b.WriteByte('\n') // Flush has the error of both
	}
	return errors.Join(b.Flush(), f.Close())
}
