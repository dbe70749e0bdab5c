// Package recipes holds the recipes of the reference experiments, embedded: each is a file of fields that
// train.ReadFields reads. `cnnkit train --recipe NAME` and `cnnkit sweep NAME.json` open them by name.
package recipes

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed *.json
var files embed.FS

// Names lists the recipes.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".json"))
	}
	return out
}

// Open opens a recipe, whose name may end in .json.
func Open(name string) (fs.File, error) {
	return files.Open(strings.TrimSuffix(name, ".json") + ".json")
}
