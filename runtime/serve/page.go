package serve

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// page is the playground: one file, which asks nobody but this server.
//
//go:embed page.html
var page string

// policy lets a browser run the page's own script and style, by their hashes, and nothing else.
var policy = strings.Join([]string{
	"default-src 'none'", "script-src '" + hashOf("script") + "'", "style-src '" + hashOf("style") + "'",
	"connect-src 'self'", "img-src 'self' blob: data:", "media-src blob:",
	"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}, "; ")

// hashOf is the hash of the page's element of that name, as a content security policy wants it.
func hashOf(element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	text, _, _ := strings.Cut(rest, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (s *Server) playground(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	s.send(w, http.StatusOK, "text/html; charset=utf-8", []byte(page))
	return nil
}

// card is what the page shows of a model.
type card struct {
	Name    string           `json:"name"`
	Version string           `json:"version"`
	Engine  string           `json:"engine"`
	Weights int64            `json:"weight_bytes"`
	Inputs  []tensorMetadata `json:"inputs"`
	Outputs []tensorMetadata `json:"outputs"`
	Images  bool             `json:"images"` // /classify or /segment takes them
	Why     string           `json:"why,omitempty"`
	Task    spec.Task        `json:"task,omitempty"`
	Spec    *spec.Input      `json:"input,omitempty"`
	Labels  int              `json:"labels"`
	About   []property       `json:"about"` // what the file says of itself
}

type property struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// shown are the keys of a model's metadata that the card shows.
var shown = []string{"cnnkit.arch", "description", "author", "license"}

func (s *Server) card(w http.ResponseWriter, r *http.Request) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	d := s.describeModel(m)
	c := card{Name: m.name, Version: m.versionText(), Engine: string(m.session.Engine()), Weights: m.weights,
		Inputs: d.Inputs, Outputs: d.Outputs, Images: m.meaning != nil, Why: m.foreign, About: []property{}}
	if m.meaning != nil {
		c.Task, c.Spec, c.Labels = m.meaning.Output.Task, &m.meaning.Input, len(m.meaning.Labels)
	}
	for _, key := range shown {
		if v := m.session.Metadata()[key]; v != "" {
			c.About = append(c.About, property{key, v})
		}
	}
	s.json(w, http.StatusOK, c)
	return nil
}
