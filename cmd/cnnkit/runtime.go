package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/install"
	"github.com/cnnkit/cnnkit/runtime/ort"
)

func runtimeCommand() *cli.Command {
	return &cli.Command{
		Name: "runtime", Usage: "install, find or remove ONNX Runtime",
		UsageText: "cnnkit runtime install|where|remove [--flags]",
		Description: `--engine ort needs ONNX Runtime's library. 'install' fetches version ` + install.Version + ` from the PyPI wheel onnxruntime (needs
pip), or an older one from the official release or the npm package onnxruntime-node (needs npm), checks its SHA-256 and
puts it under the user's cache folder. CNNKIT_ORT_LIB names a library of your own instead.

'install --cuda' fetches the build for NVIDIA GPUs, from the wheel onnxruntime-gpu. It wants NVIDIA's driver, CUDA 13
and cuDNN 9 on the machine, where the system's loader finds them.`,
		Subcommands: []*cli.Command{
			{Name: "install", Usage: "fetch ONNX Runtime's library",
				UsageText: "cnnkit runtime install [--cuda] [--from ARCHIVE]",
				Description: "  cnnkit runtime install\n  cnnkit runtime install --cuda\n" +
					"  cnnkit runtime install --from onnxruntime-node-1.30.0.tgz",
				Flags: []cli.Flag{jsonFlag(),
					&cli.BoolFlag{Name: "cuda",
						Usage: "the build with the CUDA and TensorRT execution providers"},
					&cli.StringFlag{Name: "from",
						Usage: "take it from a downloaded `ARCHIVE` (.tgz, .zip, .whl)"}},
				Action: installRuntime},
			{Name: "where", Usage: "print the path of the library in use", UsageText: "cnnkit runtime where",
				Flags:  []cli.Flag{jsonFlag()},
				Action: whereRuntime},
			{Name: "remove", Usage: "delete the installed library", UsageText: "cnnkit runtime remove",
				Action: removeRuntime},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(),
					didYouMean(c.Args().First(), []string{"install", "where", "remove"}))
			}
			return usageError("say what to do: cnnkit runtime install, where or remove")
		},
	}
}

func none(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError("%s takes no arguments, not %q", c.Command.UsageText, c.Args().First())
	}
	return nil
}

func installRuntime(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	path, err := install.Install(c.Context, install.Options{CUDA: c.Bool("cuda"), From: c.String("from"),
		Log: func(format string, args ...any) {
			fmt.Fprintf(c.App.ErrWriter, format+"\n", args...)
		}})
	if err != nil {
		if c.Context.Err() != nil {
			return err
		}
		if c.String("from") != "" {
			return badFile{err}
		}
		return hinted{&runtime.MissingError{Component: "ONNX Runtime", Reason: err.Error()},
			"download an archive elsewhere and use --from, or set CNNKIT_ORT_LIB to a library of your own"}
	}
	return reportLibrary(c, path)
}

// reportLibrary loads the library in use, since a file that is there may still not work. It may be another than
// the installed one: the build with CUDA, or CNNKIT_ORT_LIB's.
func reportLibrary(c *cli.Context, installed string) error {
	version, err := ort.Version()
	if err != nil {
		return missingError(err)
	}
	path, err := ort.Library()
	if err != nil {
		return missingError(err)
	}
	if path != installed {
		fmt.Fprintf(c.App.ErrWriter, "%s is installed; another is in use\n", installed)
	}
	if c.Bool("json") {
		return printJSON(c, map[string]string{"path": path, "version": version})
	}
	fmt.Fprintf(c.App.Writer, "%s (ONNX Runtime %s)\n", path, version)
	return nil
}

func missingError(err error) error {
	var missing *runtime.MissingError
	if errors.As(err, &missing) {
		return hinted{err, missing.Do}
	}
	return err
}

func whereRuntime(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	path, err := ort.Library()
	if err != nil {
		return missingError(err)
	}
	if c.Bool("json") {
		return printJSON(c, map[string]string{"path": path})
	}
	fmt.Fprintln(c.App.Writer, path)
	return nil
}

func removeRuntime(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	path, err := install.Where()
	if err != nil {
		fmt.Fprintln(c.App.Writer, "nothing is installed")
		return nil
	}
	if err := install.Remove(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "removed %s\n", path)
	return nil
}
