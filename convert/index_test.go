package convert

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Shards are read through their index, in its order; metadata may be anything.
func TestShards(t *testing.T) {
	for _, file := range []string{"model.safetensors.index.json", "pytorch_model.bin.index.json"} {
		sd, err := Load(objects + file)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range sd.Entries() {
			names = append(names, e.Name)
		}
		if !slices.Equal(names, []string{"a.weight", "a.bias", "b.weight"}) ||
			!slices.Equal(sd.Get("b.weight").Float32s(), []float32{5, 6, 7, 8}) {
			t.Errorf("%s: %q", file, names)
		}
	}
}

// An index that leads elsewhere, or that its shards contradict, is refused.
func TestHostileIndexes(t *testing.T) {
	const one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	dir := t.TempDir()
	for _, file := range []string{one, two} {
		b, err := os.ReadFile(objects + file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := `"a.weight":"` + one + `","a.bias":"` + one + `",`
	cases := map[string][2]string{
		"parent":        {`{"weight_map":{"a":"../x.safetensors"}}`, "beside the index"},
		"absolute":      {`{"weight_map":{"a":"/etc/passwd"}}`, "beside the index"},
		"backslash":     {`{"weight_map":{"a":"..\\x"}}`, "beside the index"},
		"drive":         {`{"weight_map":{"a":"c:x"}}`, "beside the index"},
		"sub folder":    {`{"weight_map":{"a":"folder/x"}}`, "beside the index"},
		"NUL":           {`{"weight_map":{"a":"x\u0000"}}`, "beside the index"},
		"itself":        {`{"weight_map":{"a":"index.json"}}`, "index of shards"},
		"folder":        {`{"weight_map":{"a":"folder"}}`, "link or a folder"},
		"missing shard": {`{"weight_map":{"a":"x","b":"y"}}`, "x, y"},
		"missing key":   {`{"weight_map":{` + all + `"b.bias":"` + two + `"}}`, "b.bias"},
		"more keys":     {`{"weight_map":{"a.weight":"` + one + `"}}`, "a.bias"},
		"key twice":     {`{"weight_map":{` + all + `"a.bias":"` + two + `"}}`, "duplicate"},
		"key elsewhere": {`{"weight_map":{` + all + `"b.weight":"` + one + `"}}`, "b.weight"},
		"no map":        {`{"metadata":{}}`, "no weight_map"},
		"number":        {`{"weight_map":{"a":1}}`, "string"},
		"text after":    {`{"weight_map":{}} x`, "after"},
		"cut off":       {`{"weight_map":{"a":`, "JSON"},
	}
	if runtime.GOOS != "windows" {
		real := filepath.Join(dir, "real.safetensors")
		if err := os.WriteFile(real, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, one), filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(real, filepath.Join(dir, "hard")); err != nil {
			t.Fatal(err)
		}
		cases["link"] = [2]string{`{"weight_map":{"a":"link"}}`, "link or a folder"}
		cases["hard link"] = [2]string{`{"weight_map":{"a":"hard"}}`, "hard links"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "index.json")
			if err := os.WriteFile(path, []byte(c[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); !typed(err) || !strings.Contains(err.Error(), c[1]) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Metadata of null is none, as the safetensors library has it; within it, null is not a string.
func TestNullMetadata(t *testing.T) {
	const a = `"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	if sd, err := loadBytes(safeFile(`{"__metadata__":null,`+a, 4), Limits{}); err != nil || sd.Len() != 1 {
		t.Errorf("null: %v", err)
	}
	for _, meta := range []string{`{"a":null}`, `[]`, `1`, `"x"`} {
		if _, err := loadBytes(safeFile(`{"__metadata__":`+meta+`,`+a, 4), Limits{}); !typed(err) {
			t.Errorf("%s: %v", meta, err)
		}
	}
}
