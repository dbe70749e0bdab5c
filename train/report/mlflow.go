package report

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// MLflow writes a run into MLflow's file store, which `mlflow ui --backend-store-uri DIR` shows: the recipe's fields are
// its params, the figures its metrics.
type MLflow struct {
	dir   string // the run's
	meta  mlflowRun
	files map[string]*metricFile
	now   func() time.Time
}

// metricFile is an open file of a metric.
type metricFile struct {
	f *os.File
	w *bufio.Writer
}

// Statuses of mlflow.entities.RunStatus.
var mlflowStatus = map[State]int{Running: 1, Finished: 3, Failed: 4, Interrupted: 5}

// mlflowExperiment is the number of the store's default experiment.
const mlflowExperiment = "0"

// NewMLflow starts a run in the store dir, under its default experiment, which is made where it is not there.
func NewMLflow(dir string, run Run) (*MLflow, error) {
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
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	m := &MLflow{files: map[string]*metricFile{}, now: time.Now}
	m.meta = mlflowRun{id: hex.EncodeToString(id[:]), name: run.Title, started: m.now(), status: Running}
	m.dir = filepath.Join(experiment, m.meta.id)
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
	tags := map[string]string{"mlflow.runName": run.Title, "mlflow.source.name": "cnnkit", "mlflow.source.type": "LOCAL"}
	for name, v := range tags {
		if err := m.put("tags", name, v); err != nil {
			return nil, err
		}
	}
	return m, m.meta.save(m.dir)
}

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
			file, err := os.OpenFile(filepath.Join(m.dir, "metrics", name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
			if err != nil {
				return err
			}
			f = &metricFile{file, bufio.NewWriter(file)}
			m.files[name] = f
		}
		if _, err := fmt.Fprintf(f.w, "%d %s %d\n", at, strconv.FormatFloat(v, 'g', -1, 64), step); err != nil {
			return err
		}
	}
	return nil
}

// Close implements Logger.
func (m *MLflow) Close(state State) error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.w.Flush(), f.f.Close())
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
	text := fmt.Sprintf("artifact_location: %s\ncreation_time: %d\nexperiment_id: '%s'\nlast_update_time: %d\nlifecycle_stage: active\nname: Default\n",
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
