package install

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
)

// libraryName is how the archives for this platform call the library.
func libraryName() string {
	switch goruntime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime." + Version + ".dylib"
	}
	return "libonnxruntime.so." + Version
}

func home(t *testing.T) {
	t.Helper()
	for _, v := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(v, t.TempDir())
	}
}

// pin makes content the pinned library of this platform.
func pin(t *testing.T, content []byte) {
	t.Helper()
	sum := sha256.Sum256(content)
	old := known[platform()]
	known[platform()] = []string{hex.EncodeToString(sum[:])}
	t.Cleanup(func() { known[platform()] = old })
}

func tgz(t *testing.T, names []string, content []byte, kind byte) string {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for _, n := range names {
		h := &tar.Header{Name: n, Typeflag: kind, Mode: 0o644, Size: int64(len(content))}
		if kind != tar.TypeReg {
			h.Size, h.Linkname = 0, "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if kind == tar.TypeReg {
			_, _ = w.Write(content)
		}
	}
	w.Close()
	g.Close()
	return write(t, "a.tgz", b.Bytes())
}

func zipped(t *testing.T, name string, content []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(content)
	z.Close()
	return write(t, "a.whl", b.Bytes())
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstallFromArchive(t *testing.T) {
	content := []byte("a library")
	for name, archive := range map[string]string{
		"tgz": tgz(t, []string{"onnxruntime/README", "onnxruntime/lib/" + libraryName()}, content,
			tar.TypeReg),
		"whl": zipped(t, "onnxruntime/capi/"+libraryName(), content),
	} {
		t.Run(name, func(t *testing.T) {
			home(t)
			pin(t, content)
			if _, err := Where(); err == nil {
				t.Fatal("installed before it is")
			}
			path, err := Install(context.Background(), Options{From: archive})
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%q, %v", got, err)
			}
			if where, err := Where(); err != nil || where != path {
				t.Errorf("%s, %v", where, err)
			}
			said := ""
			if _, err := Install(context.Background(), Options{From: "nowhere",
				Log: func(f string, _ ...any) {
					said += f
				}}); err != nil || !strings.Contains(said, "already") {
				t.Errorf("a second time: %v, said %q", err, said)
			}
			if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Install(context.Background(), Options{From: archive}); err != nil {
				t.Errorf("over a broken one: %v", err)
			}
			if err := Remove(); err != nil {
				t.Fatal(err)
			}
			if _, err := Where(); err == nil {
				t.Error("still there after Remove")
			}
			if err := Remove(); err != nil {
				t.Errorf("removing twice: %v", err)
			}
		})
	}
}

func TestInstallRefuses(t *testing.T) {
	content := []byte("a library")
	name := "x/" + libraryName()
	cut, err := os.ReadFile(tgz(t, []string{name}, bytes.Repeat(content, 1000), tar.TypeReg))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, archive, want string }{
		{"another content", tgz(t, []string{name}, []byte("malware"), tar.TypeReg), "SHA-256"},
		{"no library", tgz(t, []string{"x/README"}, content, tar.TypeReg), "no library for"},
		{"a link in its place", tgz(t, []string{name}, nil, tar.TypeSymlink), "no library for"},
		{"no archive", write(t, "b.tgz", []byte("this is text, no archive")), "gzip"},
		{"no zip", write(t, "b.whl", []byte("text")), "zip"},
		{"cut off", write(t, "c.tgz", cut[:len(cut)-20]), "EOF"},
		{"not there", filepath.Join(t.TempDir(), "none.tgz"), "none.tgz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home(t)
			pin(t, content)
			_, err := Install(context.Background(), Options{From: tt.archive})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, which does not say %q", err, tt.want)
			}
			if _, err := Where(); err == nil {
				t.Error("something was installed")
			}
		})
	}
}

// The sources are tried in order; all that failed is told when none is left.
func TestSourcesInOrder(t *testing.T) {
	content := []byte("a library")
	good := zipped(t, libraryName(), content)
	old := sources
	defer func() { sources = old }()
	sources = []source{
		{"first", func(context.Context, string) (string, error) { return "", errors.New("host not found") }},
		{"second", func(context.Context, string) (string, error) { return good, nil }},
		{"third", func(context.Context, string) (string, error) {
			t.Error("asked the third")
			return "", nil
		}},
	}
	home(t)
	pin(t, content)
	if _, err := Install(context.Background(), Options{}); err != nil {
		t.Fatal(err)
	}
	home(t)
	sources = append(sources[:1:1], source{"other", func(context.Context, string) (string, error) {
		return "", errors.New("offline")
	}})
	_, err := Install(context.Background(), Options{})
	if err == nil || !strings.Contains(err.Error(), "first: host not found") ||
		!strings.Contains(err.Error(), "other: offline") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Install(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The npm package has the libraries of every platform; only this one's will do.
func TestOnlyThisPlatform(t *testing.T) {
	if goruntime.GOOS != "linux" || goruntime.GOARCH != "amd64" {
		t.Skip("the names are those of linux/amd64")
	}
	for name, want := range map[string]bool{
		"package/bin/napi-v6/linux/x64/libonnxruntime.so.1":   true,
		"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1": false,
		"package/bin/napi-v6/win32/x64/onnxruntime.dll":       false,
		"onnxruntime/capi/libonnxruntime.so." + Version:       true,
		"onnxruntime-linux-x64/lib/libonnxruntime.so":         false, // a link in the release archive
		"libonnxruntime_providers_shared.so":                  false,
	} {
		if isLibrary(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
