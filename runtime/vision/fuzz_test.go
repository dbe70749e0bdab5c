package vision_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Whatever an image file holds, it is decoded within its limits or refused.
func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(files, "gr*.*"))
	if err != nil || len(paths) == 0 {
		f.Fatal("no files to start from")
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	p := builders.Preprocessing{Size: [2]int{8, 8}, Channels: 3, Mean: make([]float32, 3),
		Std: []float32{1, 1, 1}}
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := vision.Decode(bytes.NewReader(b), vision.Limits{Pixels: 1 << 20})
		if err == nil {
			vision.Input(img, p)
		}
	})
}
