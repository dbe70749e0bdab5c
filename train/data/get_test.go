package data

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// place is a server that has files, and counts what is asked of it.
type place struct {
	*httptest.Server
	files  map[string][]byte
	mu     sync.Mutex
	ranges []string
}

func newPlace(t *testing.T, files map[string][]byte) *place {
	p := &place{files: files}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.ranges = append(p.ranges, r.Header.Get("Range"))
		p.mu.Unlock()
		content, ok := p.files[strings.TrimPrefix(r.URL.Path, "/sets/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *place) url() string { return p.URL + "/sets/" }

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// entry is one of an archive.
type entry struct {
	name, content string
	kind          byte
	link          string
}

func tarGz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link,
			Size: int64(len(e.content)), Mode: 0o777}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGet(t *testing.T) {
	plain := []byte(strings.Repeat("plain ", 1000))
	packed := tarGz(t, entry{name: "./set/", kind: tar.TypeDir}, entry{name: "./set/a.txt", content: "A"},
		entry{name: "set/b/c.txt", content: "C"},
		entry{name: "set/b/._c.txt", content: "what a Mac leaves"})
	p := newPlace(t, map[string][]byte{"plain.gz": plain, "packed.tar.gz": packed})
	files := []remote{{"plain.gz", []string{p.URL + "/nowhere/", p.url()}, int64(len(plain)), sum(plain), ""},
		{"packed.tar.gz", []string{p.url()}, 0, sum(packed), "set"}}
	dir := filepath.Join(t.TempDir(), "sets", "one")
	var last int64
	got, err := get(t.Context(), files, GetOptions{Dir: dir, Progress: func(file string, done, total int64) {
		if total < done {
			t.Errorf("%s: %d of %d", file, done, total)
		}
		last = done
	}})
	if err != nil || got.Dir != dir || got.Already || len(got.Unpinned) > 0 || last != int64(len(packed)) {
		t.Fatalf("%+v: %v", got, err)
	}
	if read(t, dir, "plain.gz") != string(plain) || read(t, dir, "a.txt") != "A" ||
		read(t, dir, "b", "c.txt") != "C" {
		t.Error("other files")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*"))
	if len(left) != 1 || len(hidden) != 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
	report, err := verifyFolder(dir, nil)
	if err != nil || len(report) != 3 || Sums(report) != nil {
		t.Errorf("%+v: %v", report, err)
	}
	asked := len(p.ranges)
	if got, err = get(t.Context(), files, GetOptions{Dir: dir}); err != nil || !got.Already ||
		len(p.ranges) != asked {
		t.Errorf("again: %+v: %v", got, err)
	}
	// What has been changed is found, and not written over.
	put(t, filepath.Join(dir, "a.txt"), "B")
	if report, err = verifyFolder(dir, nil); err != nil || Sums(report) == nil ||
		!strings.Contains(Sums(report).Error(), "a.txt") {
		t.Errorf("%+v: %v", report, err)
	}
	if _, err = get(t.Context(), files, GetOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(),
		"not empty") {
		t.Errorf("%v", err)
	}
	// A mirror has the same files.
	p.files["mirrored"] = plain
	other := []remote{{"mirrored", []string{"http://127.0.0.1:1/"}, 0, "", ""}}
	got, err = get(t.Context(), other, GetOptions{Dir: filepath.Join(t.TempDir(), "m"),
		Mirror: p.URL + "/sets"})
	if err != nil || !slices.Equal(got.Unpinned, []string{"mirrored"}) {
		t.Errorf("%+v: %v", got, err)
	}
	for _, mirror := range []string{"file:///etc", "ftp://x/", "nonsense", "http://"} {
		if _, err := get(t.Context(), other, GetOptions{Dir: filepath.Join(t.TempDir(), "m"),
			Mirror: mirror}); err == nil || !strings.Contains(err.Error(), "mirror") {
			t.Errorf("%s: %v", mirror, err)
		}
	}
}

func TestGetResumes(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 5000))
	p := newPlace(t, map[string][]byte{"f.bin": content})
	for name, c := range map[string]struct {
		part   string
		ranges []string
	}{
		"a part":                 {string(content[:12345]), []string{"bytes=12345-"}},
		"all of it":              {string(content), nil},
		"a part of another":      {"rubbish", []string{"bytes=7-", ""}},
		"as much of another":     {strings.Repeat("x", len(content)), []string{""}},
		"more than there can be": {string(content) + "x", []string{""}},
		"nothing":                {"", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			p.ranges = nil
			dir := filepath.Join(t.TempDir(), "set")
			put(t, filepath.Join(filepath.Dir(dir), ".set.partial", "f.bin.part"), c.part)
			if _, err := get(t.Context(),
				[]remote{{"f.bin", []string{p.url()}, int64(len(content)), sum(content), ""}},
				GetOptions{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			if read(t, dir, "f.bin") != string(content) || !slices.Equal(p.ranges, c.ranges) {
				t.Errorf("asked for the ranges %q", p.ranges)
			}
		})
	}
	// Of unknown size, the server says that nothing is lacking.
	dir := filepath.Join(t.TempDir(), "set")
	put(t, filepath.Join(filepath.Dir(dir), ".set.partial", "f.bin.part"), string(content))
	if _, err := get(t.Context(), []remote{{"f.bin", []string{p.url()}, 0, sum(content), ""}},
		GetOptions{Dir: dir}); err != nil {
		t.Error(err)
	}
}

// A connection that breaks leaves what has come, and the next Get goes on there.
func TestGetGoesOnAfterABreak(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 50000))
	breaks := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if breaks {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:200000])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "set")
	files := []remote{{"f.bin", []string{server.URL + "/"}, int64(len(content)), sum(content), ""}}
	if _, err := get(t.Context(), files, GetOptions{Dir: dir}); err == nil ||
		!strings.Contains(err.Error(), server.URL) {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("an unfinished set is there")
	}
	breaks = false
	first := int64(-1)
	if _, err := get(t.Context(), files, GetOptions{Dir: dir, Progress: func(_ string, done, _ int64) {
		if first < 0 {
			first = done
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if read(t, dir, "f.bin") != string(content) || first < 1000 {
		t.Errorf("began at %d", first)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := get(ctx, files, GetOptions{Dir: filepath.Join(t.TempDir(), "set")}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestGetRefuses(t *testing.T) {
	content := []byte("content")
	p := newPlace(t, map[string][]byte{"f.bin": content,
		"f.tar.gz": tarGz(t, entry{name: "../out.txt", content: "x"})})
	for name, c := range map[string]struct {
		file remote
		says string
	}{
		"a wrong hash": {remote{"f.bin", []string{p.url()}, 0, sum([]byte("other")), ""},
			sum([]byte("other"))},
		"a wrong MD5": {remote{"f.bin", []string{p.url()}, 0, strings.Repeat("0", 32), ""},
			"9a0364b9e99bb480dd25e1f0284c8555"},
		"fewer bytes":   {remote{"f.bin", []string{p.url()}, 8, "", ""}, "7 bytes, where 8"},
		"more bytes":    {remote{"f.bin", []string{p.url()}, 6, "", ""}, "exceeds the limit of 6"},
		"nothing there": {remote{"gone", []string{p.url()}, 0, "", ""}, "404"},
		"a way out":     {remote{"f.tar.gz", []string{p.url()}, 0, "", ""}, "leads out"},
		"no hash at all": {remote{"f.bin", []string{p.url()}, 0, "abc", ""},
			"neither a SHA-256 nor its beginning nor an MD5"},
	} {
		dir := filepath.Join(t.TempDir(), "deep", "set")
		if _, err := get(t.Context(), []remote{c.file}, GetOptions{Dir: dir}); err == nil ||
			!strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is there", name)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "out.txt")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file got out", name)
		}
	}
}

func TestUnpack(t *testing.T) {
	zipped := func(entries ...entry) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, e := range entries {
			h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
			h.SetMode(0o644)
			if e.kind == tar.TypeSymlink {
				h.SetMode(0o777 | os.ModeSymlink)
			}
			f, err := w.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.Write([]byte(e.content))
		}
		_ = w.Close()
		return b.Bytes()
	}
	cut := tarGz(t, entry{name: "a", content: strings.Repeat("abc", 1000)})
	for name, c := range map[string]struct {
		archive string
		content []byte
		says    string // "" when it is fine
	}{
		"tar": {"x.tar.gz", tarGz(t, entry{name: "a/b.txt", content: "B"}), ""},
		"zip": {"x.zip", zipped(entry{name: "a/b.txt", content: "B"}), ""},
		"tar up": {"x.tar.gz", tarGz(t, entry{name: "a/../../b.txt", content: "B"}),
			"leads out"},
		"tar from the root": {"x.tar.gz", tarGz(t, entry{name: "/tmp/b.txt", content: "B"}), "leads out"},
		"tar backslash":     {"x.tar.gz", tarGz(t, entry{name: `..\b.txt`, content: "B"}), "leads out"},
		"tar drive":         {"x.tar.gz", tarGz(t, entry{name: `C:b.txt`, content: "B"}), "leads out"},
		"tar symbolic link": {"x.tar.gz", tarGz(t, entry{name: "a", kind: tar.TypeSymlink, link: "/etc"},
			entry{name: "a/b.txt", content: "B"}), "links"},
		"tar hard link": {"x.tar.gz",
			tarGz(t, entry{name: "a", kind: tar.TypeLink, link: "/etc/passwd"}), "links"},
		"tar device": {"x.tar.gz", tarGz(t, entry{name: "a", kind: tar.TypeChar}), "devices"},
		"tar twice": {"x.tar.gz", tarGz(t, entry{name: "a", content: "1"},
			entry{name: "a", content: "2"}), "exists"},
		"tar too large": {"x.tar.gz", tarGz(t, entry{name: "a", content: strings.Repeat("a", 600)},
			entry{name: "b", content: strings.Repeat("a", 600)}), "exceeds the limit"},
		"tar cut":     {"x.tar.gz", cut[:len(cut)-20], "x.tar.gz"},
		"tar rubbish": {"x.tar.gz", []byte("rubbish"), "gzip"},
		"zip up":      {"x.zip", zipped(entry{name: "../b.txt", content: "B"}), "leads out"},
		"zip symbolic link": {"x.zip", zipped(entry{name: "a", kind: tar.TypeSymlink, content: "/etc"}),
			"links"},
		"zip too large": {"x.zip", zipped(entry{name: "a", content: strings.Repeat("a", 2000)}),
			"exceeds the limit"},
		"zip rubbish": {"x.zip", []byte("rubbish"), "zip"},
		"zip twice": {"x.zip", zipped(entry{name: "a", content: "1"},
			entry{name: "a", content: "2"}), "exists"},
		"a file for a folder": {"x.tar.gz", tarGz(t, entry{name: "a", content: "1"},
			entry{name: "a/b", content: "2"}), "x.tar.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "to")
			put(t, filepath.Join(root, c.archive), string(c.content))
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			err := unpack(filepath.Join(root, c.archive), dir, "", 1000)
			if c.says == "" {
				if err != nil || read(t, dir, "a", "b.txt") != "B" {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(filepath.Join(root, "b.txt")); err == nil {
				t.Error("a file got out")
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Name: "../a", Typeflag: tar.TypeReg, Size: 1})
	_, _ = w.Write([]byte("x"))
	_ = errors.Join(w.Close(), z.Close())
	f.Add(b.Bytes(), true)
	f.Add([]byte("PK\x05\x06"), false)
	f.Fuzz(func(t *testing.T, raw []byte, isTar bool) {
		root := t.TempDir()
		name := filepath.Join(root, "x.zip")
		if isTar {
			name = filepath.Join(root, "x.tar.gz")
		}
		put(t, name, string(raw))
		dir := filepath.Join(root, "to")
		_ = os.Mkdir(dir, 0o777)
		_ = unpack(name, dir, "", 1<<16)
		if entries, _ := os.ReadDir(root); len(entries) != 2 {
			t.Errorf("%v", entries)
		}
	})
}

// The pinned hashes are those of the files here.
func TestVerify(t *testing.T) {
	report, err := Verify("mnist")
	if err != nil || len(report) != 4 || Sums(report) != nil {
		t.Errorf("%+v: %v", report, err)
	}
	if report, err := Verify("images:x"); err != nil || len(report) != 0 {
		t.Errorf("%+v: %v", report, err)
	}
	if _, err := Verify("mnits"); err == nil {
		t.Error("no error")
	}
	dir := t.TempDir()
	for i := range 5 {
		put(t, filepath.Join(dir, fmt.Sprintf("data_batch_%d.bin", i+1)), "short")
	}
	report, err = Verify("cifar10=" + dir)
	if err != nil || len(report) != 6 || Sums(report) == nil || !errors.Is(report[5].Err, os.ErrNotExist) {
		t.Errorf("%+v: %v", report, err)
	}
	for _, line := range []string{"x  a", strings.Repeat("0", 64) + "  ../a", strings.Repeat("0", 64) + " a",
		strings.Repeat("0", 64) + "  /a"} {
		put(t, filepath.Join(dir, SumsFile), line+"\n")
		var format *onnxio.FormatError
		if _, err := Verify("cifar10=" + dir); !errors.As(err, &format) {
			t.Errorf("%q: %v", line, err)
		}
	}
	if os.Getenv("CNNKIT_DATA") == "" || testing.Short() {
		return
	}
	root, err := Find("cifar10")
	if err != nil {
		t.Fatal(err)
	}
	// One of six, since unpacking takes seconds.
	if report := verifyFS(os.DirFS(root), ".", pinned("cifar10")[5:]); len(report) != 1 ||
		Sums(report) != nil {
		t.Errorf("%+v", report)
	}
}

func TestRemotesArePinned(t *testing.T) {
	for name, files := range remotes {
		if !slices.Contains(Names(), name) || !Fetchable(name) {
			t.Errorf("%s is no data set", name)
		}
		for _, r := range slices.Concat(files, unpacked[name]) {
			if len(r.hash) != 64 && len(r.hash) != 32 || r.size == 0 {
				t.Errorf("%s: %s is not pinned", name, r.file)
			}
		}
	}
	if _, err := Get(t.Context(), "nuclei", GetOptions{}); err == nil ||
		!strings.Contains(err.Error(), "account") {
		t.Errorf("%v", err)
	}
	if _, err := Get(t.Context(), "../x", GetOptions{}); err == nil {
		t.Error("no error")
	}
	if runtime.GOOS == "windows" {
		return
	}
	// A link in the place of the unfinished download is not followed.
	root := t.TempDir()
	victim := put(t, filepath.Join(t.TempDir(), "victim"), "mine")
	if err := os.Mkdir(filepath.Join(root, ".set.partial"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(root, ".set.partial", "f.part")); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, map[string][]byte{"f": []byte("theirs")})
	if _, err := get(t.Context(), []remote{{"f", []string{p.url()}, 0, "", ""}},
		GetOptions{Dir: filepath.Join(root, "set")}); err == nil || read(t, victim) != "mine" {
		t.Errorf("%v", err)
	}
}
