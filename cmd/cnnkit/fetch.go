package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/download"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// publishedWeights is spec.Published; tests have weights of their own.
var publishedWeights = spec.Published

func fetchCommand() *cli.Command {
	return &cli.Command{
		Name: "fetch", Usage: "get a network's published weights from their official address",
		UsageText: "cnnkit fetch NAME [--weights IMAGENET1K_V2] [--out FILE|DIR] [--mirror URL] [--json]",
		Description: `NAME is a network of 'cnnkit list networks', which shows where its weights are published and their license; torchvision's own
names tell several apart. The file comes under its official name into the working folder, or to --out. Its SHA-256 must begin
as that name says. It is there whole or not at all: until then it is FILE.part, with which the same command goes on after an
interruption. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are followed.

  cnnkit fetch resnet18
  cnnkit fetch resnet50 --weights IMAGENET1K_V2 --out weights/
  cnnkit convert resnet18-f37072fd.pth resnet18.onnx --arch resnet18 --preset IMAGENET1K_V1`,
		Flags: []cli.Flag{jsonFlag(),
			outFlag("the `FILE` to write, or a folder for it (default: the working folder)"),
			&cli.StringFlag{Name: "weights",
				Usage: "which weights of several: torchvision's `NAME`, such as IMAGENET1K_V2 (default: the first)"},
			&cli.StringFlag{Name: "mirror",
				Usage: "`URL` of a folder that has the file under its official name"}},
		Action: fetchWeights,
	}
}

func fetchWeights(c *cli.Context) error {
	name, err := one(c, "network NAME")
	if err != nil {
		return err
	}
	w, all, err := weightsOf(name, c.String("weights"))
	if err != nil {
		return err
	}
	official := path.Base(w.URL)
	to := c.String("out")
	if info, err := os.Stat(to); to == "" || strings.HasSuffix(to, "/") || err == nil && info.IsDir() {
		to = filepath.Join(to, official)
	}
	f := download.File{Name: official, Bases: []string{strings.TrimSuffix(w.URL, official)}, Hash: w.Hash(),
		Limit: int64((w.MiB + 1) * (1 << 20))}
	if w.MiB == 0 {
		f.Limit = 1 << 30
	}
	already := false
	switch _, err := os.Lstat(to); {
	case err == nil:
		if err := f.Check(to); err != nil {
			return hinted{badFile{fmt.Errorf("%s is there and is another file, which is not written over: %w",
				to, err)}, "take it away, or say --out"}
		}
		already = true
	case !errors.Is(err, fs.ErrNotExist):
		return badFile{err}
	}
	if !already {
		if err := fetchFile(c, f, to); err != nil {
			return err
		}
	}
	return reportFetched(c, w, all, to, already)
}

// weightsOf are a network's weights of a name, the first for none, and the names of all.
func weightsOf(arch, name string) (spec.Weights, []string, error) {
	if !slices.Contains(builders.Names(), arch) {
		return spec.Weights{}, nil, usageError("no network %q%s", arch, didYouMean(arch, builders.Names()))
	}
	published := publishedWeights(arch)
	if len(published) == 0 {
		return spec.Weights{}, nil, hinted{usageError("of %s no weights are published that are known here",
			arch),
			"'cnnkit list networks' shows where there are some; 'cnnkit train' makes them"}
	}
	var all []string
	for _, w := range published {
		all = append(all, w.Name)
	}
	if name == "" {
		return published[0], all, nil
	}
	for _, w := range published {
		if strings.EqualFold(w.Name, name) {
			return w, all, nil
		}
	}
	return spec.Weights{}, nil, usageError("%s has no weights %q: there are %s", arch, name,
		strings.Join(all, ", "))
}

// fetchFile brings the file, with a bar on a terminal.
func fetchFile(c *cli.Context, f download.File, to string) error {
	if err := saved(os.MkdirAll(filepath.Dir(to), 0o777)); err != nil {
		return err
	}
	o := download.Options{Mirror: c.String("mirror")}
	clear := func() {}
	if isTerminal(c.App.ErrWriter) && !c.Bool("json") {
		o.Progress, clear = fetchBar(c.App.ErrWriter)
	}
	err := f.Fetch(c.Context, to, o)
	clear()
	if err == nil || c.Context.Err() != nil {
		return err
	}
	do := "--mirror URL fetches from elsewhere"
	if info, serr := os.Stat(to + ".part"); serr == nil && info.Size() > 0 {
		do = "what has come so far is kept: the same command goes on there; " + do
	}
	return hinted{err, do}
}

func reportFetched(c *cli.Context, w spec.Weights, all []string, to string, already bool) error {
	f, err := os.Open(to)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := download.Digest(f, strings.Repeat("0", 64))
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"network": w.Arch, "weights": w.Name, "file": to, "url": w.URL,
			"license": w.License,
			"bytes":   info.Size(), "sha256": sum, "already": already})
	}
	how := "is here"
	if already {
		how = "was here already"
	}
	fmt.Fprintf(c.App.Writer, "%s %s: %s %s, %.1f MiB, license %s, SHA-256 %s\n", to, how, w.Arch, w.Name,
		float64(info.Size())/(1<<20), w.License, sum)
	if len(all) > 1 {
		fmt.Fprintf(c.App.Writer, "of %s there are %s: --weights says which\n", w.Arch,
			strings.Join(all, ", "))
	}
	input := ""
	if def, err := builders.Defaults(w.Arch); err == nil && w.Size != 0 && w.Size != def.Input[1] {
		input = fmt.Sprintf(" --input 3x%dx%d", w.Size, w.Size)
	}
	fmt.Fprintf(c.App.Writer, "make a model of it: cnnkit convert %s %s.onnx --arch %s%s --preset %s\n",
		quoted(to), w.Arch, w.Arch, input, w.Name)
	return nil
}
