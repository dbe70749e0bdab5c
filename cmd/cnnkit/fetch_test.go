package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Weights come from their address, or a mirror, under their official name, and go on where a break left them.
// What has another hash is not kept, and a file that is there is not written over.
func TestFetch(t *testing.T) {
	dir := t.TempDir()
	model, weights := filepath.Join(dir, "m.onnx"), filepath.Join(dir, "m.pth")
	done(t, "build", "resnet20", "--input", "3x32x32", "--seed", "9", "--out", model)
	done(t, "convert", model, weights)
	content, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	official := fmt.Sprintf("resnet20-%x.pth", sha256.Sum256(content))[:len("resnet20-")+8] + ".pth"
	breaks, ranges := false, []string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		switch {
		case r.URL.Path == "/odd/"+official:
			_, _ = w.Write([]byte("another file"))
		case !strings.HasSuffix(r.URL.Path, "/"+official):
			http.NotFound(w, r)
		case breaks:
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:100000])
			panic(http.ErrAbortHandler)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	defer server.Close()
	publishedWeights = func(string) []spec.Weights {
		return []spec.Weights{{Arch: "resnet20", Name: "V1", URL: server.URL + "/models/" + official,
			License: "MIT", MiB: 2},
			{Arch: "resnet20", Name: "V2", URL: server.URL + "/gone/x-00000000.pth", License: "MIT"}}
	}
	defer func() { publishedWeights = spec.Published }()

	to := filepath.Join(dir, "got") + "/"
	breaks = true
	r := cnnkit(t, "fetch", "resnet20", "--out", to)
	if _, err := os.Stat(to + official); r.code == exitDone || err == nil ||
		!strings.Contains(r.err, "the same command goes on there") {
		t.Errorf("a break: %d %s %v", r.code, r.err, err)
	}
	breaks, ranges = false, nil
	r = cnnkit(t, "fetch", "resnet20", "--out", to)
	for _, part := range []string{to + official + " is here: resnet20 V1", "license MIT",
		fmt.Sprintf("SHA-256 %x", sha256.Sum256(content)),
		"of resnet20 there are V1, V2", "--arch resnet20 --preset V1"} {
		if r.code != exitDone || !strings.Contains(r.out, part) {
			t.Errorf("no %q: %d %s %s", part, r.code, r.out, r.err)
		}
	}
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=") {
		t.Errorf("asked for %q", ranges)
	}
	if got, err := os.ReadFile(to + official); err != nil || !bytes.Equal(got, content) {
		t.Errorf("another file: %v", err)
	}
	ranges = nil
	if r = cnnkit(t, "fetch", "resnet20", "--out", to, "--json"); len(ranges) != 0 ||
		!strings.Contains(r.out, `"already": true`) {
		t.Errorf("again: %q %s %s", ranges, r.out, r.err)
	}
	done(t, "convert", to+official, filepath.Join(dir, "again.onnx"), "--arch", "resnet20")

	mirrored := filepath.Join(dir, "mirrored.pth")
	if r = cnnkit(t, "fetch", "resnet20", "--out", mirrored, "--mirror",
		server.URL+"/mirror"); r.code != exitDone {
		t.Errorf("a mirror: %d %s", r.code, r.err)
	}
	odd := filepath.Join(dir, "odd.pth")
	r = cnnkit(t, "fetch", "resnet20", "--out", odd, "--mirror", server.URL+"/odd")
	left, _ := filepath.Glob(odd + "*")
	if r.code == exitDone || !strings.Contains(r.err, "its hash is") || len(left) != 0 {
		t.Errorf("another file: %d %s, left %v", r.code, r.err, left)
	}
	if err := os.WriteFile(odd, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	r = cnnkit(t, "fetch", "resnet20", "--out", odd)
	if kept, _ := os.ReadFile(odd); r.code == exitDone || !strings.Contains(r.err, "not written over") ||
		string(kept) != "mine" {
		t.Errorf("a file that is there: %d %s", r.code, r.err)
	}
	for want, args := range map[string][]string{
		"404":                     {"resnet20", "--weights", "v2"},
		"there are V1, V2":        {"resnet20", "--weights", "V3"},
		`no network "resnet2"`:    {"resnet2"},
		"takes a network NAME":    nil,
		"the address of a folder": {"resnet20", "--mirror", "file:///etc"},
	} {
		r := cnnkit(t, append(append([]string{"fetch"}, args...), "--out", filepath.Join(dir, "none.pth"))...)
		if r.code == exitDone || !strings.Contains(r.err, want) {
			t.Errorf("no %q: %d %s", want, r.code, r.err)
		}
	}
}

// Every published file's name has the hash that it is checked by, and every network's weights
// an address and a license.
func TestPublishedFiles(t *testing.T) {
	for _, w := range spec.Published("") {
		if len(w.Hash()) < 8 || !strings.HasPrefix(w.URL, "https://") || w.License == "" {
			t.Errorf("%s %s: %s, hash %q, license %q", w.Arch, w.Name, w.URL, w.Hash(), w.License)
		}
	}
	if r := cnnkit(t, "fetch", "lenet5"); r.code != exitUsage ||
		!strings.Contains(r.err, "no weights are published") {
		t.Errorf("%d %s", r.code, r.err)
	}
}
