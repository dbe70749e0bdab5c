package main

import (
	"image"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/data/mnist"
)

// MNIST's official files, which are part of the program, served by a mirror.
func TestDataGet(t *testing.T) {
	files, err := fs.Sub(mnist.Files, "files")
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if changed {
			_, _ = w.Write(make([]byte, 9912422))
			return
		}
		http.FileServerFS(files).ServeHTTP(w, r)
	}))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "sets", "mnist")
	if out := done(t, "data", "get", "mnist", "--mirror", server.URL, "--dir", dir); !strings.Contains(out,
		dir) {
		t.Errorf("%s", out)
	}
	if out := done(t, "data", "get", "mnist", "--mirror", server.URL, "--dir", dir); !strings.Contains(out,
		"already") {
		t.Errorf("%s", out)
	}
	if out := done(t, "data", "verify", "mnist="+dir); !strings.Contains(out,
		"4 files have the known hashes") {
		t.Errorf("%s", out)
	}
	changed = true
	other := filepath.Join(t.TempDir(), "mnist")
	if r := cnnkit(t, "data", "get", "mnist", "--mirror", server.URL, "--dir", other); r.code == exitDone ||
		!strings.Contains(r.err, "its hash is") {
		t.Errorf("%d %s", r.code, r.err)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a set with a wrong hash is there")
	}
	for _, args := range [][]string{{"imagenet"}, {"nuclei"}, {}, {"mnist", "--mirror", "file:///etc",
		"--dir", other}} {
		if r := cnnkit(t, append([]string{"data", "get"}, args...)...); r.code == exitDone {
			t.Errorf("%v is no error", args)
		}
	}
}

func TestDataVerifyFolder(t *testing.T) {
	dir := t.TempDir()
	for i, class := range []string{"a", "a", "a", "b", "b"} {
		path := filepath.Join(dir, class, string(rune('a'+i))+".png")
		putPicture(t, path, image.NewGray(image.Rect(0, 0, 3+i, 3)))
	}
	if r := cnnkit(t, "data", "verify", "images:"+dir); r.code == exitDone ||
		!strings.Contains(r.err, "differ in size") {
		t.Errorf("%d %s", r.code, r.err)
	}
	var v struct {
		Shape  []int
		Images map[string]map[string]int
	}
	answer(t, &v, "data", "verify", "images:"+dir, "--size", "4x5")
	if v.Shape[1] != 4 || v.Shape[2] != 5 || v.Images["train"]["a"]+v.Images["validation"]["a"] != 3 {
		t.Errorf("%+v", v)
	}
	if r := cnnkit(t, "data", "verify", "images:"+dir, "--size", "4"); r.code != exitUsage {
		t.Errorf("%d %s", r.code, r.err)
	}
}
