package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Parts are the whole, in order, and differ by one at most.
func TestShards(t *testing.T) {
	var files []string
	for i := range 23 {
		files = append(files, fmt.Sprint(i))
		for n := 1; n <= 30; n++ {
			var all []string
			least, most := len(files), 0
			for k := 1; k <= n; k++ {
				part := shard{k, n}.of(files)
				all = append(all, part...)
				least, most = min(least, len(part)), max(most, len(part))
			}
			if strings.Join(all, " ") != strings.Join(files, " ") || most-least > 1 {
				t.Fatalf("%d files in %d parts: %v, sizes %d to %d", len(files), n, all, least, most)
			}
		}
	}
}

// shardImages is a folder of n images, of which every fifth is broken.
func shardImages(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		img := image.NewGray(image.Rect(0, 0, 28, 28))
		for k := range img.Pix {
			img.Pix[k] = uint8(k * (i + 1))
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if i%5 == 4 {
			data = data[:60]
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.png", i)), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// counts says how often each image has a line.
func counts(t *testing.T, paths ...string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var l vision.Result
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
			if broken := strings.HasSuffix(l.File, "4.png") || strings.HasSuffix(l.File,
				"9.png"); broken != (l.Error != "") {
				t.Errorf("%s: %s", l.File, line)
			}
			out[filepath.Base(l.File)]++
		}
	}
	return out
}

// Runs that were ended anywhere, also within a line, and started again, lose and repeat nothing.
func TestPredictResumes(t *testing.T) {
	dir, out := shardImages(t, 23), t.TempDir()
	model := "../../models/lenet5-mnist/model.onnx"
	args := func(part string) []string {
		return []string{"predict", model, dir, "--engine", "native", "--batch", "2", "--top", "1", "--shard",
			part, "--out", filepath.Join(out, "part-{shard}.jsonl")}
	}
	var paths []string
	for i, part := range []string{"1/3", "2/3", "3/3"} {
		path := filepath.Join(out, fmt.Sprintf("part-%d.jsonl", i+1))
		paths = append(paths, path)
		if r := cnnkit(t, args(part)...); r.code != exitBadFile ||
			!strings.Contains(r.err, "could not be read") {
			t.Fatalf("%s: %d %s", part, r.code, r.err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 1, len(whole) / 2, bytes.IndexByte(whole, '\n') + 1, len(whole) - 1,
			len(whole)} {
			if err := os.WriteFile(path, whole[:at], 0o666); err != nil {
				t.Fatal(err)
			}
			cnnkit(t, args(part)...)
			again, err := os.ReadFile(path)
			if err != nil || !sameLines(string(again), string(whole)) {
				t.Errorf("%s, ended at byte %d of %d:\n%s\nnot\n%s", part, at, len(whole), again, whole)
			}
		}
	}
	got := counts(t, paths...)
	for i := range 23 {
		if name := fmt.Sprintf("%03d.png", i); got[name] != 1 {
			t.Errorf("%s has %d lines", name, got[name])
		}
	}
	other := args("1/3")
	other[7+1] = "2"
	if r := cnnkit(t, other...); r.code != exitUsage || !strings.Contains(r.err, "another") {
		t.Errorf("a file of another run: %d %s", r.code, r.err)
	}
	foreign := filepath.Join(out, "foreign.jsonl")
	if err := os.WriteFile(foreign, []byte("mine\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if r := cnnkit(t, "predict", model, dir, "--out", foreign); r.code != exitUsage {
		t.Errorf("a file that is somebody's: %d %s", r.code, r.err)
	}
}

// sameLines compares without the order: a broken image is noted before the batch that it interrupts.
func sameLines(a, b string) bool {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestShardFlags(t *testing.T) {
	dir := shardImages(t, 4)
	predict := "predict ../../models/lenet5-mnist/model.onnx " + dir + " --engine native "
	for _, bad := range []string{"--shard 0/3", "--shard 4/3", "--shard 1", "--shard a/b",
		"--shard 1/2 --shard-from-env 2", "--shard-from-env 0"} {
		t.Setenv(completionIndex, "0")
		if r := cnnkit(t, strings.Fields(predict+bad)...); r.code != exitUsage {
			t.Errorf("%s: %d %s", bad, r.code, r.err)
		}
	}
	for index, code := range map[string]int{"0": exitDone, "1": exitDone, "2": exitUsage, "-1": exitUsage,
		"": exitUsage} {
		t.Setenv(completionIndex, index)
		if r := cnnkit(t, strings.Fields(predict+"--json --shard-from-env 2")...); r.code != code ||
			code == exitDone && strings.Count(r.out, `"file"`) != 2 {
			t.Errorf("index %q: %d %s%s", index, r.code, r.out, r.err)
		}
	}
}
