package report

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// MLflow writes a run into MLflow's file store, which `mlflow ui --backend-store-uri DIR` shows: the recipe's
// fields are its params, the figures its metrics.
type MLflow struct {
	dir   string // the run's
	meta  mlflowRun
	files map[string]*os.File // by metric
	now   func() time.Time
	had   map[string]bool
}

// MLflowFile is the name of the file in a run's folder that says which run of MLflow it is.
const MLflowFile = "mlflow.json"

// mlflowNote is what MLflowFile says.
type mlflowNote struct {
	Store string `json:"store"`
	Run   string `json:"run"`
}

// Statuses of mlflow.entities.RunStatus.
var mlflowStatus = map[State]int{Running: 1, Finished: 3, Failed: 4, Interrupted: 5}

// mlflowExperiment is the number of the store's default experiment.
const mlflowExperiment = "0"

// NewMLflow starts a run in the store dir, under its default experiment, which is made where it is not there.
// The file note (MLflowFile; "": none) remembers the run: from a step on, 0 for a new run, it goes on,
// without what was logged beyond the step. Where the store has that run no more there is a new one.
func NewMLflow(dir string, run Run, note string, from int64) (*MLflow, error) {
	params, err := flatten(run.Config)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	experiment := filepath.Join(dir, mlflowExperiment)
	if err := makeExperiment(experiment); err != nil {
		return nil, err
	}
	m := &MLflow{files: map[string]*os.File{}, now: time.Now, had: map[string]bool{}}
	m.meta = mlflowRun{name: run.Title, started: m.now(), status: Running}
	if err := m.identify(dir, note, from); err != nil {
		return nil, err
	}
	m.dir = filepath.Join(experiment, m.meta.id)
	if err := m.rewind(from); err != nil {
		return nil, err
	}
	for _, sub := range []string{"metrics", "params", "tags", "artifacts"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o777); err != nil {
			return nil, err
		}
	}
	for name, v := range params {
		if err := m.put("params", name, v); err != nil {
			return nil, err
		}
	}
	tags := map[string]string{"mlflow.runName": run.Title, "mlflow.source.name": "cnnkit",
		"mlflow.source.type": "LOCAL"}
	for name, v := range tags {
		if err := m.put("tags", name, v); err != nil {
			return nil, err
		}
	}
	return m, m.meta.save(m.dir)
}

// identify finds the run that the note remembers, or makes one that it remembers then.
func (m *MLflow) identify(store, note string, from int64) error {
	if raw, err := os.ReadFile(note); err == nil && from > 0 {
		var was mlflowNote
		if err := json.Unmarshal(raw, &was); err != nil || was.Run != filepath.Base(was.Run) {
			return fmt.Errorf("%s does not say which run of MLflow goes on: remove it, and there is a new one", note)
		}
		meta, err := os.ReadFile(filepath.Join(store, mlflowExperiment, was.Run, "meta.yaml"))
		active := err == nil && was.Store == store && bytes.Contains(meta,
			[]byte("\nlifecycle_stage: active\n"))
		if found := mlflowStarted.FindSubmatch(meta); active && found != nil {
			ms, err := strconv.ParseInt(string(found[1]), 10, 64)
			m.meta.id, m.meta.started = was.Run, time.UnixMilli(ms)
			return err
		}
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	m.meta.id = hex.EncodeToString(id[:])
	if note == "" {
		return nil
	}
	return onnxio.WriteFile(note, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(mlflowNote{store, m.meta.id})
	})
}

// mlflowStarted finds when a run began in its meta.yaml, in milliseconds.
var mlflowStarted = regexp.MustCompile(`(?m)^start_time: (\d+)$`)

// rewind drops what the metrics have beyond a step, which the resumed run logs again.
func (m *MLflow) rewind(from int64) error {
	files, err := filepath.Glob(filepath.Join(m.dir, "metrics", "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var kept []byte
		for line := range bytes.Lines(raw) {
			var at, step int64
			var v string
			if n, _ := fmt.Sscan(string(line), &at, &v, &step); n != 3 || step > from ||
				!bytes.HasSuffix(line, []byte("\n")) {
				continue
			}
			kept = append(kept, line...)
			if step == from {
				m.had[filepath.Base(path)] = true
			}
		}
		if err := onnxio.WriteFile(path, func(w io.Writer) error {
			_, err := w.Write(kept)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Has implements Resumed.
func (m *MLflow) Has(name string) bool { return m.had[name] }

// put writes a param or a tag. MLflow shows up to 6,000 characters of a param.
func (m *MLflow) put(kind, name, value string) error {
	const most = 6000
	if len(value) > most {
		value = value[:most]
	}
	return os.WriteFile(filepath.Join(m.dir, kind, name), []byte(value), 0o666)
}

// Log implements Logger.
func (m *MLflow) Log(step int64, values map[string]float64) error {
	at := m.now().UnixMilli()
	for name, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		f := m.files[name]
		if f == nil {
			if name == "" || strings.ContainsAny(name, `/\:`) || strings.HasPrefix(name, ".") {
				return fmt.Errorf("metric %q: a name without slashes and colons is wanted", name)
			}
			var err error
			path := filepath.Join(m.dir, "metrics", name)
			if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666); err != nil {
				return err
			}
			m.files[name] = f
		}
		if _, err := fmt.Fprintf(f, "%d %s %d\n", at, strconv.FormatFloat(v, 'g', -1, 64), step); err != nil {
			return err
		}
	}
	return nil
}

// Close implements Logger.
func (m *MLflow) Close(state State) error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	m.meta.ended, m.meta.status = m.now(), state
	return errors.Join(append(errs, m.meta.save(m.dir))...)
}

// mlflowRun is what meta.yaml of a run says.
type mlflowRun struct {
	id, name       string
	started, ended time.Time
	status         State
}

func (r mlflowRun) save(dir string) error {
	end := "null"
	if !r.ended.IsZero() {
		end = strconv.FormatInt(r.ended.UnixMilli(), 10)
	}
	text := fmt.Sprintf(`artifact_uri: %s
end_time: %s
entry_point_name: ''
experiment_id: '%s'
lifecycle_stage: active
run_id: %s
run_name: %s
run_uuid: %s
source_name: ''
source_type: 4
source_version: ''
start_time: %d
status: %d
tags: []
user_id: cnnkit
`, yamlText(fileURI(filepath.Join(dir, "artifacts"))), end, mlflowExperiment, yamlText(r.id), yamlText(r.name), yamlText(r.id), r.started.UnixMilli(), mlflowStatus[r.status])
	return os.WriteFile(filepath.Join(dir, "meta.yaml"), []byte(text), 0o666)
}

// makeExperiment makes the store's default experiment, unless it is there.
func makeExperiment(dir string) error {
	meta := filepath.Join(dir, "meta.yaml")
	if _, err := os.Stat(meta); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	text := fmt.Sprintf(
		"artifact_location: %s\ncreation_time: %d\nexperiment_id: '%s'\nlast_update_time: %d\nlifecycle_stage: active\nname: Default\n",
		yamlText(fileURI(dir)), now, mlflowExperiment, now)
	return os.WriteFile(meta, []byte(text), 0o666)
}

// yamlText is a text as a single-quoted YAML scalar.
func yamlText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// fileURI is a path as a file: address.
func fileURI(path string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	if !strings.HasPrefix(u.Path, "/") { // a drive's letter
		u.Path = "/" + u.Path
	}
	return u.String()
}
