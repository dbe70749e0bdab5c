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
		classes, items, _, err := readCSV(strings.NewReader(text), filepath.Join("set", "table.csv"))
		if err != nil || !slices.Equal(classes, []string{"red", "sky"}) || len(items) != 2 ||
			items[0].Image != filepath.Join("set", "a", "0.png") || items[1].Image != filepath.Join("set", "b", "1.png") || items[1].Label != 1 {
			t.Errorf("%s: %v, %v, %v", name, classes, items, err)
		}
	}
	for name, text := range map[string]string{"a row too short": "path,label\na.png\nb.png,sky\n", "no label": "path,label\na.png,\nb.png,sky\n"} {
		if _, _, _, err := readCSV(strings.NewReader(text), "table.csv"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// A file whose name has a backslash is itself.
func TestBackslashInName(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, `a\0.png`), nil, 0o666); err != nil {
		t.Skip(err)
	}
	if got := beside(dir, `a\0.png`); got != filepath.Join(dir, `a\0.png`) {
		t.Error(got)
	}
}

// Hidden files and folders, wherever they lie, are no images and no classes.
func TestHiddenIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"red/0.png", "red/._0.png", "red/.trash/9.png", "sky/sub/1.png", ".git/2.png"} {
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
