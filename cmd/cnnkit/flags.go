package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
)

// Flags that several verbs share.
func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON instead of a table"} }

func threadsFlag() cli.Flag { return fieldFlags("threads")[0] }

// fieldFlags are the flags of a recipe's fields, by the fields' names.
func fieldFlags(names ...string) []cli.Flag {
	var out []cli.Flag
	for _, name := range names {
		if f, ok := train.FieldOf(name); ok {
			out = append(out, fieldFlag(f))
		}
	}
	return out
}

// partFlags are the flags of all fields of some parts of a recipe.
func partFlags(parts ...train.Part) []cli.Flag {
	var out []cli.Flag
	for _, part := range parts {
		for _, f := range train.RecipeFields() {
			if f.Part == part && f.Flag != "" {
				out = append(out, fieldFlag(f))
			}
		}
	}
	return out
}

// fieldFlag is the flag of a recipe's field.
func fieldFlag(f train.Field) cli.Flag {
	switch f.Type().Kind() {
	case reflect.Bool:
		return &cli.BoolFlag{Name: f.Flag, Usage: f.Help()}
	case reflect.Int:
		return &cli.IntFlag{Name: f.Flag, Usage: f.Help()}
	case reflect.Uint64:
		return &cli.Uint64Flag{Name: f.Flag, Usage: f.Help()}
	case reflect.Float64:
		return &cli.Float64Flag{Name: f.Flag, Usage: f.Help()}
	}
	return &cli.StringFlag{Name: f.Flag, Usage: f.Help()}
}

// setFields puts what the flags of a recipe's fields say into fields.
func setFields(c *cli.Context, fields train.Fields, parts ...train.Part) error {
	for _, f := range train.RecipeFields() {
		if f.Flag == "" || !slices.Contains(parts, f.Part) || !c.IsSet(f.Flag) {
			continue
		}
		if err := fields.SetFlag(f.Flag, c.Value(f.Flag)); err != nil {
			return usageError("--%s: %w", f.Flag, err)
		}
	}
	return nil
}

func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "engine", Value: "auto",
			Usage: "native, ort, onnxgo or auto (native when it runs the model, else ort)"},
		&cli.StringFlag{Name: "provider", Value: "cpu",
			Usage: "with --engine ort: cpu, cuda, cuda:`DEVICE`, tensorrt, openvino, coreml, directml, xnnpack, qnn or webgpu"},
		&cli.StringSliceFlag{Name: "provider-option",
			Usage: "`KEY=VALUE` for the provider, such as gpu_mem_limit=2147483648; may be repeated"},
		&cli.StringSliceFlag{Name: "session-option",
			Usage: "`KEY=VALUE` for ONNX Runtime: graph=basic, execution=parallel, arena=off, or an entry with a dot; may be repeated"},
		precisionFlag(),
		threadsFlag(),
	}
}

func precisionFlag() cli.Flag {
	return &cli.StringFlag{Name: "precision", Value: "float32",
		Usage: "of the native engine's convolutions: float32, or bf16, which is faster with AMX and has 8 bits"}
}

func outFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: usage}
}

// one is the verb's single argument.
func one(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 1:
		return c.Args().First(), nil
	case 0:
		return "", usageError("cnnkit %s takes a %s: %s", c.Command.Name, what, c.Command.UsageText)
	}
	return "", usageError("cnnkit %s takes one %s, not %d: %s", c.Command.Name, what, c.NArg(),
		strings.Join(c.Args().Slice(), " "))
}

// required is a string flag that must be set.
func required(c *cli.Context, name string) (string, error) {
	if v := c.String(name); v != "" {
		return v, nil
	}
	return "", usageError("cnnkit %s needs --%s", c.Command.Name, name)
}

// ints parses 2,2,2.
func ints(flag, s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var out []int
	for _, p := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || n <= 0 {
			return nil, usageError("--%s wants positive numbers such as 2,2,2, not %q", flag, s)
		}
		out = append(out, n)
	}
	return out, nil
}

// floats reads numbers such as "0.5,0.5,0.5".
func floats(flag, s string) ([]float32, error) {
	var out []float32
	for _, p := range strings.Split(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 32)
		if err != nil {
			return nil, usageError("--%s wants numbers such as 0.5,0.5,0.5, not %q", flag, s)
		}
		out = append(out, float32(v))
	}
	return out, nil
}

// printJSON writes one indented document.
func printJSON(c *cli.Context, v any) error {
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// loadModel reads a model file; its errors count as those of an input file.
func loadModel(path string) (*onnxio.Model, error) {
	m, err := onnxio.Load(path)
	if err != nil {
		return nil, badFile{err}
	}
	return m, nil
}

// shapeOf prints a shape with its symbolic dims: [N,3,32,32].
func shapeOf(t *onnxio.Type) string {
	if t == nil || !t.HasShape {
		return "?"
	}
	parts := make([]string, len(t.Shape))
	for i, d := range t.Shape {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = fmt.Sprint(d.Value)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}
