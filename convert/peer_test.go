package convert

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWriteForPeers leaves files in CNNKIT_PEER_OUT for testdata/convert/peers.py.
func TestWriteForPeers(t *testing.T) {
	dir := os.Getenv("CNNKIT_PEER_OUT")
	if dir == "" {
		t.Skip("CNNKIT_PEER_OUT is not set: make peers runs it")
	}
	sd, err := Load(fixtures + "all-zip-new.pth")
	if err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".pt", ".safetensors"} {
		if err := Save(filepath.Join(dir, "all"+ext), sd); err != nil {
			t.Fatal(err)
		}
	}
}
