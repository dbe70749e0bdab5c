//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killed runs a part in a process of its own, which cannot get past the image at: that is a pipe that nobody
// writes to. When the output has so many lines the process is killed.
func killed(t *testing.T, at, out string, lines int, args []string) {
	t.Helper()
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	if err := syscall.Mkfifo(aside, 0o600); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	replace := func() { // at once, since other parts read the folder
		if err := os.Rename(aside, at); err != nil {
			t.Fatal(err)
		}
	}
	replace()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CNNKIT_TEST_AS_PROGRAM=1")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for {
		text, _ := os.ReadFile(out)
		if bytes.Count(text, []byte("\n")) >= lines {
			break
		}
		select {
		case <-ended:
			t.Fatalf("ended before it was killed: %s", log.String())
		case <-time.After(time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	write(t, aside, data)
	replace()
}

// Parts that run side by side, each killed twice and started again, lose and repeat nothing:
// every image has one line.
func TestKilledShards(t *testing.T) {
	const images, parts = 60, 3
	dir, out := shardImages(t, images), t.TempDir()
	args := func(part int) []string {
		return []string{"predict", "../../models/lenet5-mnist/model.onnx", dir, "--engine", "native",
			"--batch", "3",
			"--top", "1", "--shard", fmt.Sprintf("%d/%d", part, parts), "--out",
			filepath.Join(out, "part-{shard}.jsonl")}
	}
	var paths []string
	for part := 1; part <= parts; part++ {
		paths = append(paths, filepath.Join(out, fmt.Sprintf("part-%d.jsonl", part)))
	}
	t.Run("killed", func(t *testing.T) {
		for part := 1; part <= parts; part++ {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				first := (part - 1) * images / parts
				for _, stop := range []struct{ at, lines int }{{part, 0}, {7 + part, 4}, {16, 12}} {
					image := filepath.Join(dir, fmt.Sprintf("%03d.png", first+stop.at))
					killed(t, image, paths[part-1], stop.lines, args(part))
				}
			})
		}
	})
	for part := 1; part <= parts; part++ {
		if r := program(t, nil, args(part)...); r.code != exitBadFile { // of the broken images
			t.Errorf("part %d: %d %s", part, r.code, r.err)
		}
	}
	got := counts(t, paths...)
	for i := range images {
		if name := fmt.Sprintf("%03d.png", i); got[name] != 1 {
			t.Errorf("%s has %d lines", name, got[name])
		}
	}
}

// A part that is started while it still runs is refused, since both would write the same lines.
func TestShardTwiceAtOnce(t *testing.T) {
	dir := shardImages(t, 3)
	args := []string{"predict", "../../models/lenet5-mnist/model.onnx", dir, "--engine", "native",
		"--out", filepath.Join(t.TempDir(), "out.jsonl")}
	if r := cnnkit(t, args...); r.code != exitDone {
		t.Fatalf("%d %s", r.code, r.err)
	}
	f, err := os.Open(args[len(args)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := lock(f); err != nil {
		t.Fatal(err)
	}
	if r := program(t, nil, args...); r.code != exitUsage || !strings.Contains(r.err, "another process") {
		t.Errorf("beside another: %d %s", r.code, r.err)
	}
	f.Close()
	if r := program(t, nil, args...); r.code != exitDone {
		t.Errorf("after the other: %d %s", r.code, r.err)
	}
}
