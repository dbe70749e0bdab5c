package serve

import (
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The protocol's descriptions.
type (
	serverMetadata struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}
	modelMetadata struct {
		Name     string           `json:"name"`
		Versions []string         `json:"versions"`
		Platform string           `json:"platform"`
		Inputs   []tensorMetadata `json:"inputs"`
		Outputs  []tensorMetadata `json:"outputs"`
	}
	tensorMetadata struct {
		Name     string  `json:"name"`
		Datatype string  `json:"datatype"`
		Shape    []int64 `json:"shape"`
	}
)

func (s *Server) describe() serverMetadata {
	return serverMetadata{"cnnkit", buildVersion(), s.extensions()}
}

// buildVersion is that of this module in the program.
func buildVersion() string {
	const path = "github.com/cnnkit/cnnkit"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(slices.Clone(info.Deps), &info.Main) {
		if m.Path == path && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return "devel"
}

func (s *Server) describeModel(m *model) modelMetadata {
	out := modelMetadata{Name: m.name, Versions: s.models.versionsOf(m.name), Platform: platform}
	for _, v := range m.session.Inputs() {
		out.Inputs = append(out.Inputs, describeTensor(v))
	}
	for _, v := range m.session.Outputs() {
		out.Outputs = append(out.Outputs, describeTensor(v))
	}
	return out
}

func describeTensor(v *onnxio.ValueInfo) tensorMetadata {
	t := tensorMetadata{v.Name, datatypeOf(elemOf(v)), dimsOf(v)}
	if t.Shape == nil {
		t.Shape = []int64{}
	}
	return t
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) error {
	s.json(w, http.StatusOK, s.describe())
	return nil
}

func (s *Server) modelMetadata(w http.ResponseWriter, r *http.Request) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	s.json(w, http.StatusOK, s.describeModel(m))
	return nil
}

func (s *Server) modelReady(w http.ResponseWriter, r *http.Request) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	if s.draining.Load() {
		return &failure{http.StatusServiceUnavailable, errNotReady}
	}
	s.json(w, http.StatusOK, map[string]any{"name": m.name, "ready": true})
	return nil
}

func (s *Server) modelConfig(w http.ResponseWriter, r *http.Request) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	text, err := configJSON(m.config)
	if err != nil {
		return err
	}
	s.send(w, http.StatusOK, "application/json", text)
	return nil
}

func (s *Server) statistics(w http.ResponseWriter, r *http.Request) error {
	out := []statistics{}
	if r.PathValue("model") == "" {
		for _, m := range s.models.models() {
			out = append(out, m.stats.snapshot(m.name, m.versionText()))
		}
	} else {
		m, done, err := s.find(r)
		if err != nil {
			return err
		}
		defer done()
		out = append(out, m.stats.snapshot(m.name, m.versionText()))
	}
	s.json(w, http.StatusOK, map[string]any{"model_stats": out})
	return nil
}
