package download

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A hash may be the beginning of a SHA-256; another one, or more bytes than allowed, leaves nothing.
func TestFetch(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(content))
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		hash  string
		limit int64
		want  func(error) bool
	}{
		"whole":     {sum, 0, func(err error) bool { return err == nil }},
		"beginning": {sum[:8], int64(len(content)), func(err error) bool { return err == nil }},
		"another": {"00000000", 0, func(err error) bool {
			return errors.As(err, new(*onnxio.FormatError))
		}},
		"too short": {sum[:4], 0, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "neither")
		}},
		"too many": {sum, int64(len(content)) - 1, func(err error) bool {
			return errors.As(err, new(*onnxio.LimitError))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			f := File{Name: "f", Bases: []string{server.URL + "/"}, Limit: c.limit, Hash: c.hash}
			err := f.Fetch(t.Context(), path, Options{})
			got, _ := os.ReadFile(path)
			if left, _ := filepath.Glob(path + "*"); err != nil && len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if !c.want(err) || (err == nil) != (string(got) == content) || err != nil && got != nil {
				t.Errorf("%d bytes: %v", len(got), err)
			}
		})
	}
}
