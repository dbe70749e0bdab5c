package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run a model once on NumPy files",
		UsageText: "cnnkit run MODEL --input name=x.npy [--input ...] --out DIR [--engine E] [--json]",
		Description: `Every output is written to DIR as NAME.npy; characters that do not belong into a file name become _. The items
of a sequence are NAME.0.npy and so on; a map is NAME.keys.npy and NAME.values.npy.

  cnnkit run resnet.onnx --input input=x.npy --out answers
  cnnkit run resnet.onnx --input x.npy --out answers --engine ort      (a model of one input needs no name)`,
		Flags: append(engineFlags(), jsonFlag(), outFlag("the `DIR` to write"),
			&cli.StringSliceFlag{Name: "input", Usage: "`NAME=FILE` for every input of the model"}),
		Action: func(c *cli.Context) error {
			path, err := one(c, "MODEL")
			if err != nil {
				return err
			}
			dir, err := required(c, "out")
			if err != nil {
				return err
			}
			m, err := loadModel(path)
			if err != nil {
				return err
			}
			s, err := openSession(c, m, path)
			if err != nil {
				return err
			}
			defer s.Close()
			in, err := inputs(c.StringSlice("input"), s)
			if err != nil {
				return err
			}
			out, err := s.RunValues(c.Context, in)
			if err != nil {
				if c.Context.Err() != nil {
					return err
				}
				return badFile{err}
			}
			return writeOutputs(c, s, out, dir)
		},
	}
}

// inputs reads --input NAME=FILE; a model of one input needs no name. Inputs with a default may be left out.
func inputs(args []string, s runtime.Session) (map[string]*onnxio.Tensor, error) {
	var names []string
	for _, v := range s.Inputs() {
		names = append(names, v.Name)
	}
	known := slices.Clone(names)
	for _, v := range s.Defaults() {
		known = append(known, v.Name)
	}
	in := map[string]*onnxio.Tensor{}
	for _, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		if !ok {
			if len(names) != 1 {
				return nil, usageError("--input %s: the model takes %s; say --input NAME=FILE for each", arg,
					strings.Join(names, ", "))
			}
			name, file = names[0], arg
		}
		if !slices.Contains(known, name) {
			return nil, usageError("--input %s: the model has no input %q%s", arg, name,
				didYouMean(name, known))
		}
		if in[name] != nil {
			return nil, usageError("--input %s: input %q is given twice", arg, name)
		}
		t, err := npy.Load(file)
		if err != nil {
			return nil, badFile{err}
		}
		t.Name = name
		in[name] = t
	}
	for _, n := range names {
		if in[n] == nil {
			return nil, usageError("input %q is missing: say --input %s=FILE.npy", n, n)
		}
	}
	return in, nil
}

// written is a tensor of an output in its file.
type written struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Shape []int64 `json:"shape"`
	File  string  `json:"file"`
}

func writeOutputs(c *cli.Context, s runtime.Session, out map[string]onnxio.Value, dir string) error {
	if err := saved(os.MkdirAll(dir, 0o777)); err != nil {
		return err
	}
	rows := []written{}
	taken := map[string]bool{}
	for i, v := range s.Outputs() {
		name := fileName(v.Name)
		if taken[name] {
			name = fmt.Sprintf("%s_%d", name, i)
		}
		taken[name] = true
		if err := writeValue(out[v.Name], v.Name, filepath.Join(dir, name), &rows); err != nil {
			return fmt.Errorf("output %q: %w", v.Name, err)
		}
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"engine": s.Engine(), "outputs": rows})
	}
	for _, r := range rows {
		fmt.Fprintf(c.App.Writer, "%s  %s %v  %s\n", r.Name, r.Type, r.Shape, r.File)
	}
	return nil
}

// writeValue writes a value's tensors to files whose names begin with path, and lists them.
func writeValue(v onnxio.Value, name, path string, rows *[]written) error {
	part := func(v onnxio.Value, which string) error {
		return writeValue(v, name+"."+which, path+"."+which, rows)
	}
	switch v := v.(type) {
	case *onnxio.Tensor:
		file := path + ".npy"
		*rows = append(*rows, written{name, v.Type.String(), v.Dims, file})
		return saved(npy.Save(file, v))
	case *onnxio.Sequence:
		for i, item := range v.Items {
			if err := part(item, fmt.Sprint(i)); err != nil {
				return err
			}
		}
	case *onnxio.Map:
		if err := part(v.Keys, "keys"); err != nil {
			return err
		}
		return part(v.Values, "values")
	case *onnxio.Optional:
		if v.Value != nil {
			return writeValue(v.Value, name, path, rows)
		}
	}
	return nil
}

// fileName makes a name from the model harmless: it must stay inside the folder.
func fileName(name string) string {
	out := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, name)
	if len(out) > 100 {
		out = out[:100]
	}
	if strings.Trim(out, ".") == "" {
		return "output"
	}
	return out
}
