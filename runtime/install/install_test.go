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

// pin makes files of these contents the builds of this platform, for the CPU and for CUDA.
func pin(t *testing.T, cpu []byte, providers map[string][]byte) {
	t.Helper()
	sum := func(content []byte) []string {
		s := sha256.Sum256(content)
		return []string{hex.EncodeToString(s[:])}
	}
	for _, b := range []*build{newest, before, withCUDA} {
		old := b.sums
		t.Cleanup(func() { b.sums = old })
		b.sums = map[string]map[string][]string{platform(): {fileName(): sum(cpu)}}
	}
	for name, content := range providers {
		withCUDA.sums[platform()][name] = sum(content)
	}
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

func zipped(t *testing.T, files map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content)
	}
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
		"whl": zipped(t, map[string][]byte{"onnxruntime/capi/" + libraryName(): content}),
	} {
		t.Run(name, func(t *testing.T) {
			home(t)
			pin(t, content, nil)
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
			pin(t, content, nil)
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
	good := zipped(t, map[string][]byte{libraryName(): content})
	old := sources
	defer func() { sources = old }()
	sources = []source{
		{"first", newest, func(context.Context, string, string) (string, error) {
			return "", errors.New("host not found")
		}},
		{"second", before, func(context.Context, string, string) (string, error) { return good, nil }},
		{"third", before, func(context.Context, string, string) (string, error) {
			t.Error("asked the third")
			return "", nil
		}},
	}
	home(t)
	pin(t, content, nil)
	path, err := Install(context.Background(), Options{})
	if err != nil || filepath.Base(filepath.Dir(path)) != before.version {
		t.Fatalf("%s, %v", path, err)
	}
	if again, err := Install(context.Background(), Options{}); err != nil || again != path {
		t.Errorf("with the older one installed: %s, %v", again, err)
	}
	home(t)
	sources = append(sources[:1:1], source{"other", before,
		func(context.Context, string, string) (string, error) { return "", errors.New("offline") }})
	_, err = Install(context.Background(), Options{})
	if err == nil || !strings.Contains(err.Error(), "first "+newest.version+": host not found") ||
		!strings.Contains(err.Error(), "other "+before.version+": offline") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Install(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The build with CUDA is installed whole or not at all, and goes before the CPU's.
func TestInstallCUDA(t *testing.T) {
	if goruntime.GOOS == "darwin" {
		t.Skip("CUDA is not made for it")
	}
	provider := map[string]string{"linux": "libonnxruntime_providers_cuda.so",
		"windows": "onnxruntime_providers_cuda.dll"}[goruntime.GOOS]
	library, cuda := []byte("a library"), []byte("a provider")
	whole := zipped(t, map[string][]byte{"capi/" + libraryName(): library, "capi/" + provider: cuda})
	home(t)
	pin(t, library, map[string][]byte{provider: cuda})
	for name, tt := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"no provider":      {map[string][]byte{libraryName(): library}, "no " + provider},
		"another provider": {map[string][]byte{libraryName(): library, provider: []byte("malware")}, "SHA-256"},
	} {
		_, err := Install(context.Background(), Options{CUDA: true, From: zipped(t, tt.files)})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, which does not say %q", name, err, tt.want)
		}
	}
	if path, err := Where(); err == nil {
		t.Fatalf("%s was installed", path)
	}
	if _, err := Install(context.Background(), Options{From: whole}); err != nil {
		t.Fatalf("the CPU's build from the same archive: %v", err)
	}
	path, err := Install(context.Background(), Options{CUDA: true, From: whole})
	if err != nil {
		t.Fatal(err)
	}
	if where, err := Where(); err != nil || where != path || !strings.Contains(path, "cuda") {
		t.Errorf("%s is in use and %s installed, %v", where, path, err)
	}
	beside := filepath.Join(filepath.Dir(path), provider)
	if got, err := os.ReadFile(beside); err != nil || !bytes.Equal(got, cuda) {
		t.Errorf("the provider: %q, %v", got, err)
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(context.Background(), Options{CUDA: true, From: whole}); err != nil {
		t.Errorf("over one without its provider: %v", err)
	}
	if _, err := os.Stat(beside); err != nil {
		t.Error(err)
	}
}

// The npm package has the libraries of every platform; only this one's will do.
func TestOnlyThisPlatform(t *testing.T) {
	if goruntime.GOOS != "linux" || goruntime.GOARCH != "amd64" {
		t.Skip("the names are those of linux/amd64")
	}
	const library = "libonnxruntime.so"
	for name, want := range map[string]string{
		"package/bin/napi-v6/linux/x64/libonnxruntime.so.1":   library,
		"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1": "",
		"package/bin/napi-v6/win32/x64/onnxruntime.dll":       "",
		"onnxruntime/capi/libonnxruntime.so." + Version:       library,
		"onnxruntime-linux-x64/lib/libonnxruntime.so":         "", // a link in the release archive
		"../../libonnxruntime_providers_cuda.so":              "libonnxruntime_providers_cuda.so",
		"onnxruntime/capi/onnxruntime_pybind11_state.so":      "",
	} {
		if got := installed(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
