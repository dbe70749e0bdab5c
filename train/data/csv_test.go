package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Tables as spreadsheets and other programs write them hold the same two images.
func TestTablesOfSpreadsheets(t *testing.T) {
	for name, text := range map[string]string{
		"commas":       "path,label\na/0.png,red\nb/1.png,sky\n",
		"mark, CRLF":   "\ufeffpath,label\r\na/0.png,red\r\nb/1.png,sky\r\n",
		"semicolons":   "path;label\na/0.png;red\nb/1.png;sky\n",
		"tabs":         "path\tlabel\na/0.png\tred\nb/1.png\tsky\n",
		"blanks":       "path , label\na/0.png , red\n b/1.png ,sky \n",
		"backslashes":  "path,label\na\\0.png,red\nb\\1.png,sky\n",
		"empty rows":   "path,label\n\na/0.png,red\n,\nb/1.png,sky\n,\n , \n",
		"quotes":       "\"path\",\"label\"\n\"a/0.png\",\"red\"\n\"b/1.png\",\"sky\"\n",
		"more columns": "id;path;note;label\n1;a/0.png;x,y;red\n2;b/1.png;;sky\n",
	} {
		got, err := readCSV(strings.NewReader(text), filepath.Join("set", "table.csv"), Classification, "")
		classes, items := got.classes, got.train
		if err != nil || !slices.Equal(classes, []string{"red", "sky"}) || len(items) != 2 ||
			items[0].Image != filepath.Join("set", "a", "0.png") || items[1].Image != filepath.Join("set",
			"b", "1.png") || items[1].Label != 1 {
			t.Errorf("%s: %v, %v, %v", name, classes, items, err)
		}
	}
	for name, text := range map[string]string{"a row too short": "path,label\na.png\nb.png,sky\n",
		"no label": "path,label\na.png,\nb.png,sky\n"} {
		if _, err := readCSV(strings.NewReader(text), "table.csv", Classification, ""); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// A file whose name has a backslash is itself.
func TestBackslashInName(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, `a\0.png`), nil, 0o666); err != nil {
		t.Skipf("no such name in this file system: run on Unix: %v", err)
	}
	if got := beside(dir, `a\0.png`); got != filepath.Join(dir, `a\0.png`) {
		t.Error(got)
	}
}

// Hidden files and folders, wherever they lie, are no images and no classes.
func TestHiddenIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"red/0.png", "red/._0.png", "red/.trash/9.png", "sky/sub/1.png",
		".git/2.png"} {
		path := filepath.Join(dir, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	classes, items, err := classFolders(dir)
	if err != nil || !slices.Equal(classes, []string{"red", "sky"}) || len(items) != 2 {
		t.Errorf("%v, %v, %v", classes, items, err)
	}
}

func TestTasksOfTables(t *testing.T) {
	for name, c := range map[string]struct {
		task    Task
		text    string
		names   []string
		targets [][]float32 // nil: refused
	}{
		"values": {Regression, "path,width,height\na.png,1.5,-2\nb.png,0,1e3\n",
			[]string{"width", "height"}, [][]float32{{1.5, -2}, {0, 1000}}},
		"labels": {MultiLabel, "path,labels\na.png,sky|sea\nb.png,\nc.png,sea\n",
			[]string{"sea", "sky"}, [][]float32{{1, 1}, {0, 0}, {1, 0}}},
		"columns": {MultiLabel, "path;sky;sea\na.png;1;0\nb.png;0;1\n", []string{"sky", "sea"},
			[][]float32{{1, 0}, {0, 1}}},
		"no number":      {Regression, "path,width\na.png,wide\n", nil, nil},
		"not a number":   {Regression, "path,width\na.png,NaN\n", nil, nil},
		"no column":      {Regression, "path,split\na.png,train\n", nil, nil},
		"half a label":   {MultiLabel, "path,sky\na.png,0.5\n", nil, nil},
		"nothing":        {MultiLabel, "path,labels\na.png,\n", nil, nil},
		"a cell too few": {Regression, "path,x,y\na.png,1\n", nil, nil},
	} {
		got, err := readCSV(strings.NewReader(c.text), "table.csv", c.task, "")
		if c.targets == nil {
			if err == nil {
				t.Errorf("%s was taken", name)
			}
			continue
		}
		if err != nil || !slices.Equal(got.classes, c.names) || len(got.train) != len(c.targets) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		for i, want := range c.targets {
			if !slices.Equal(got.train[i].Numbers, want) {
				t.Errorf("%s: row %d is %v, not %v", name, i, got.train[i].Numbers, want)
			}
		}
	}
}
