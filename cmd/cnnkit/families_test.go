package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// build and convert store how the published weights want their images; an unknown way is
// named, and nothing is written.
func TestPresetOfArchitecture(t *testing.T) {
	dir := t.TempDir()
	built, weights, converted := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "a.pth"), filepath.Join(dir,
		"b.onnx")
	done(t, "build", "efficientnet_b0", "--preset", "imagenet", "--out", built)
	done(t, "convert", built, weights)
	done(t, "convert", weights, converted, "--arch", "efficientnet_b0", "--preset", "imagenet")
	for _, path := range []string{built, converted} {
		m, err := onnxio.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := spec.Get(m)
		if err != nil {
			t.Fatal(err)
		}
		if in := s.Input; in.Resize != "bicubic" || in.Shorter != 256 || in.Size != [2]int{224, 224} ||
			in.Mean[0] != 0.485 {
			t.Errorf("%s: %+v", path, in)
		}
	}
	for _, args := range [][]string{
		{"build", "efficientnet_b0", "--preset", "imagnet", "--out", filepath.Join(dir, "c.onnx")},
		{"convert", weights, filepath.Join(dir, "c.onnx"), "--arch", "efficientnet_b0",
			"--preset", "imagnet"},
	} {
		r := cnnkit(t, args...)
		if r.code != exitUsage || !strings.Contains(r.err, "imagenet") ||
			!strings.Contains(r.err, "IMAGENET1K_V1") {
			t.Errorf("%v: %d %s", args, r.code, r.err)
		}
	}
}

func TestListNetworks(t *testing.T) {
	var rows []networkRow
	answer(t, &rows, "list", "networks")
	for _, r := range rows {
		if r.Parameters < 1 || r.FLOPs < 1 || r.Summary == "" {
			t.Errorf("%+v", r)
		}
		if r.Name == "resnet50" && (len(r.Weights) != 2 || r.Weights[1].Name != "IMAGENET1K_V2" ||
			r.Weights[1].Shorter != 232) {
			t.Errorf("%+v", r)
		}
	}
}
