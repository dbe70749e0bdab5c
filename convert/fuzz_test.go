package convert

import (
	"bytes"
	"os"
	"testing"
)

func fuzz(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		b, err := os.ReadFile(fixtures + s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sd, err := LoadReader(bytes.NewReader(b), int64(len(b)), Limits{})
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		var w bytes.Buffer
		if err := WritePT(&w, sd); err != nil && !typed(err) {
			t.Fatalf("read but not written: %v", err)
		}
	})
}

func FuzzPT(f *testing.F)     { fuzz(f, "all-zip-new.pth", "all-zip-old.pth") }
func FuzzLegacy(f *testing.F) { fuzz(f, "all-legacy-new.pth", "all-legacy-old.pth") }

func FuzzSafetensors(f *testing.F) {
	sd, err := Load(fixtures + "all-zip-new.pth")
	if err != nil {
		f.Fatal(err)
	}
	var w bytes.Buffer
	if err := WriteSafetensors(&w, sd); err != nil {
		f.Fatal(err)
	}
	f.Add(w.Bytes())
	fuzz(f)
}
