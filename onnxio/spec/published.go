package spec

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Weights are weights of a network that its authors published. testdata/builders/gen_published.py writes the
// list, published.json, which is not edited.
type Weights struct {
	Arch       string    `json:"arch"`
	Name       string    `json:"name"` // torchvision's, such as IMAGENET1K_V2
	URL        string    `json:"url"`
	License    string    `json:"license,omitempty"`
	Size       int       `json:"size,omitempty"` // of the square that is cut out; 0: none is
	Shorter    int       `json:"shorter"`        // side of the image before that
	Resize     string    `json:"resize"`
	Mean       []float32 `json:"mean,omitempty"` // empty: ImageNet's
	Std        []float32 `json:"std,omitempty"`
	GMACs      float64   `json:"gmacs"` // thousands of millions of multiply-adds, as published
	Parameters int64     `json:"parameters"`
	MiB        float64   `json:"mib,omitempty"` // of the file, as published; 0: not stated
}

// hashed is the end of a file name as torch.hub checks it: the first digits of its SHA-256.
var hashed = regexp.MustCompile(`-([0-9a-f]{8,})\.[a-z]+$`)

// Hash is how the file's SHA-256 begins, which its name says; "" where it does not.
func (w Weights) Hash() string {
	if found := hashed.FindStringSubmatch(w.URL); found != nil {
		return found[1]
	}
	return ""
}

//go:embed published.json
var publishedText []byte

// torchvisionLicense is that of weights for which no other is named.
const torchvisionLicense = "BSD-3-Clause"

// Published lists the published weights of a network, the first being those that the preset imagenet prepares
// for; of all networks for "".
func Published(arch string) []Weights {
	var all []Weights
	if err := json.Unmarshal(publishedText, &all); err != nil {
		panic(err) // the file is part of the program, and a test reads it
	}
	for i := range all {
		if all[i].License == "" {
			all[i].License = torchvisionLicense
		}
	}
	if arch == "" {
		return all
	}
	return slices.DeleteFunc(all, func(w Weights) bool { return w.Arch != arch })
}

// weightsFor are those of a network that a preset names: "imagenet" the first, else by torchvision's name.
func weightsFor(arch, preset string) (Weights, bool) {
	for _, w := range Published(arch) {
		if preset == "imagenet" || strings.EqualFold(w.Name, preset) {
			return w, true
		}
	}
	return Weights{}, false
}
