package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// safeFile is a header, its length before it, and n zero bytes.
func safeFile(head string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), make([]byte, n)...)
}

func TestSafetensorsHeader(t *testing.T) {
	long := binary.LittleEndian.AppendUint64(nil, maxHeader+1)
	if _, err := loadBytes(append(long, "{}"...), Limits{}); !limited(err) {
		t.Errorf("a header over 100 MB: %v", err)
	}
	for name, b := range map[string][]byte{
		"longer than the file": append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...),
		"not an object":        safeFile(`[]`, 0),
		"space first":          safeFile(` {}`, 0),
		"empty":                safeFile(``, 1),
		"nested arrays":        safeFile(`{"a":{"dtype":"F32","shape":`+strings.Repeat("[", 100_000)+`}}`, 0),
		"nested objects":       safeFile(`{"a":`+strings.Repeat(`{"dtype":`, 100_000)+`}`, 0),
		"fraction":             safeFile(`{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}`, 4),
		"beyond 64 bits": safeFile(
			`{"a":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}}`, 4),
		"field twice": safeFile(
			`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
		"field of other case": safeFile(`{"a":{"dtype":"F32","Shape":[1],"data_offsets":[0,4]}}`, 4),
		"field missing":       safeFile(`{"a":{"dtype":"F32","shape":[1]}}`, 0),
		"offsets reversed":    safeFile(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4),
		"metadata twice":      safeFile(`{"__metadata__":{},"__metadata__":{}}`, 0),
		"metadata key twice":  safeFile(`{"__metadata__":{"a":"1","a":"2"}}`, 0),
		"metadata an array":   safeFile(`{"__metadata__":[]}`, 0),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := loadBytes(b, Limits{}); !typed(err) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// A header of 640 bytes starts the file with 80 02, as a pickle starts; one of 0x04034b50
// bytes with a zip's PK 03 04.
func TestSafetensorsThatLooksLikePickle(t *testing.T) {
	for _, n := range []int{0x0280, 0x0380, 0x0480, 0x0580} {
		head := `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
		head += strings.Repeat(" ", n-len(head))
		if sd, err := loadBytes(safeFile(head, 4), Limits{}); err != nil || sd.Get("a") == nil {
			t.Errorf("a header of %d bytes: %v", n, err)
		}
	}
}

// What is written is sorted, aligned to its elements, without gaps, and marked as PyTorch's.
func TestSafetensorsLayout(t *testing.T) {
	var sd StateDict
	sd.Set("z", onnxio.Floats([]float32{1, 2, 3}))
	sd.Set("b.bool", &onnxio.Tensor{Type: onnxio.Bool, Dims: []int64{3}, Raw: []byte{1, 0, 1}})
	sd.Set("a.count", onnxio.Scalar(onnxio.Int64, int64(7)))
	sd.Set("q\"<\u00e9", &onnxio.Tensor{Type: onnxio.Float16, Dims: []int64{1}, Raw: []byte{0, 0x3c}})
	var w bytes.Buffer
	if err := WriteSafetensors(&w, &sd); err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(w.Bytes())
	head := w.Bytes()[8 : 8+n]
	if n%8 != 0 || !bytes.HasPrefix(head, []byte(`{"__metadata__":{"format":"pt"},"a.count"`)) {
		t.Errorf("header %s", head)
	}
	var entries map[string]struct {
		Dtype   string
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(bytes.Replace(head, []byte(`"__metadata__":{"format":"pt"},`), nil, 1),
		&entries); err != nil {
		t.Fatal(err)
	}
	for name, e := range entries {
		if width := safeTypes[e.Dtype].Bits() / 8; e.Offsets[0]%width != 0 {
			t.Errorf("%s of %s at %d", name, e.Dtype, e.Offsets[0])
		}
	}
	got, err := loadBytes(w.Bytes(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range got.Entries() {
		names = append(names, e.Name)
		if !bytes.Equal(e.Tensor.Raw, sd.Get(e.Name).Raw) {
			t.Errorf("%s differs", e.Name)
		}
	}
	if !slices.IsSorted(names) || len(names) != 4 {
		t.Errorf("keys %q", names)
	}
	var u *onnxio.UnsupportedError
	sd.Set("n", &onnxio.Tensor{Type: onnxio.Complex128, Dims: []int64{1}, Raw: make([]byte, 16)})
	if err := WriteSafetensors(&w, &sd); !errors.As(err, &u) {
		t.Errorf("a type that the format lacks: %v", err)
	}
}
