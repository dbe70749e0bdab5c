//go:build unix

package convert

import (
	"path/filepath"
	"syscall"
	"testing"
)

// A named pipe is refused, not waited for.
func TestLoadOfPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pt")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("run where named pipes can be made: %v", err)
	}
	if _, err := Load(path); err == nil {
		t.Fatal("a pipe was read")
	}
}
