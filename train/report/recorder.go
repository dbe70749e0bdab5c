package report

import (
	"errors"
	"path/filepath"
)

// Files that a Recorder leaves in its folder, beside TensorBoard's.
const (
	LinesFile = "history.jsonl"
	PageFile  = "report.html"
)

// Recorder writes a run's reports into a folder as the run goes on, and keeps a dashboard up to date.
// Not safe for concurrent use.
type Recorder struct {
	// Run may be changed between calls, but for its epochs; Save then writes it.
	Run Run
	// Dashboard follows when it is not nil.
	Dashboard *Dashboard

	dir    string
	events *Events
}

// NewRecorder starts in a folder that exists; "" writes no files. Epochs that run has already, being resumed,
// are kept; those beyond them that event files of the folder have are void.
func NewRecorder(dir string, run Run) (*Recorder, error) {
	r := &Recorder{Run: clipped(run), dir: dir}
	if dir == "" {
		return r, nil
	}
	from := 1
	if n := len(run.Epochs); n > 0 {
		from = run.Epochs[n-1].Epoch + 1
	}
	var err error
	r.events, err = CreateEvents(dir, from)
	return r, err
}

// Epoch appends an epoch and writes all files; best says that no epoch was better.
func (r *Recorder) Epoch(e Epoch, best bool) error {
	r.Run.Epochs = append(r.Run.Epochs, e)
	if best {
		r.Run.Best = e.Epoch
	}
	var err error
	if r.events != nil {
		err = r.events.Epoch(e)
	}
	return errors.Join(err, r.Save())
}

// Image puts a picture into TensorBoard's file.
func (r *Recorder) Image(tag string, epoch int, png []byte) error {
	if r.events == nil {
		return nil
	}
	return r.events.Image(tag, int64(epoch), png)
}

// Progress tells the dashboard.
func (r *Recorder) Progress(p Progress) {
	if r.Dashboard != nil {
		r.Dashboard.Progress(p)
	}
}

// Save writes the page and the lines anew and tells the dashboard.
func (r *Recorder) Save() error {
	if r.Dashboard != nil {
		r.Dashboard.Set(r.Run)
	}
	if r.dir == "" {
		return nil
	}
	return errors.Join(SaveLines(filepath.Join(r.dir, LinesFile), r.Run.Epochs),
		SaveHTML(filepath.Join(r.dir, PageFile), r.Run))
}

// Close saves and closes the event file. The dashboard goes on as long as it is served.
func (r *Recorder) Close() error {
	err := r.Save()
	if r.events != nil {
		err = errors.Join(err, r.events.Close())
		r.events = nil
	}
	return err
}
