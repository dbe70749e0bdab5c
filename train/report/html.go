package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"image/png"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

//go:embed page.html
var pageTemplate string

//go:embed page.css
var style string

//go:embed page.js
var script string

var page = template.Must(template.New("page").Parse(pageTemplate))

// maxMatrix is the number of classes up to which a confusion matrix is drawn; beyond it stand the pairs
// confused most. maxCounts is that up to which the counts are written into it.
const (
	maxMatrix = 120
	maxCounts = 24
	maxPairs  = 12
)

// policy is the Content-Security-Policy: the page's own style and script, by their hashes, embedded images
// and nothing else. connect is what the script may connect to.
func policy(connect string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; img-src data:; style-src " + hash(style) + "; script-src " + hash(script) +
		"; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'"
}

// WriteHTML writes the run as one page that needs no other file. It is an error when an image is not a PNG or
// the confusion matrix not square.
func WriteHTML(w io.Writer, run Run) error {
	v, err := newView(run)
	if err != nil {
		return err
	}
	var b bytes.Buffer // nothing is written when the template fails
	if err := page.ExecuteTemplate(&b, "page", v); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// SaveHTML is WriteHTML into a file, atomically.
func SaveHTML(path string, run Run) error {
	return onnxio.WriteFile(path, func(w io.Writer) error { return WriteHTML(w, run) })
}

// view is what the template shows.
type view struct {
	Run        Run
	Live       bool
	Version    uint64 // of a live run
	Style      template.CSS
	Script     template.JS
	Policy     template.HTML // a meta element
	Facts      []Entry
	Charts     []chart
	Figures    []string // heads of the table of epochs
	Rows       []figureRow
	Confusion  *confusionView
	Mistakes   []sampleView
	Samples    []sampleView
	Triples    []tripleView
	Config     []Entry
	ChartWidth int
}

type figureRow struct {
	Best  bool
	Cells []string
}

type picture struct {
	URL           template.URL
	Width, Height int
	Small         bool // drawn larger, its pixels being seen
	Caption       string
}

type sampleView struct {
	Sample
	Picture picture
	Wrong   bool
	Chance  string
}

type tripleView struct {
	Name     string
	Scores   string
	Pictures []picture
}

func newView(run Run) (*view, error) {
	v := &view{Run: run, Style: template.CSS(style), Script: template.JS(script), Facts: facts(run),
		ChartWidth: chartWidth,
		Policy: template.HTML(`<meta http-equiv="Content-Security-Policy" content="` +
			template.HTMLEscapeString(policy("'none'")) + `">`)}
	var err error
	if len(run.Epochs) > 0 {
		planned := 0
		if run.State == Running {
			planned = run.Planned
		}
		if v.Charts, err = charts(run.Epochs, planned); err != nil {
			return nil, err
		}
		v.table(run)
	}
	if run.Confusion != nil {
		if v.Confusion, err = newConfusionView(run.Confusion); err != nil {
			return nil, err
		}
	}
	if v.Mistakes, err = sampleViews(run.Mistakes); err != nil {
		return nil, err
	}
	if v.Samples, err = sampleViews(run.Samples); err != nil {
		return nil, err
	}
	for _, t := range run.Masks {
		tv, err := newTripleView(t)
		if err != nil {
			return nil, err
		}
		v.Triples = append(v.Triples, tv)
	}
	v.Config, err = flat(run.Config)
	return v, err
}

// table lists the figures of all epochs, the last first.
func (v *view) table(run Run) {
	v.Figures = names(run.Epochs)
	for _, e := range slices.Backward(run.Epochs) {
		row := figureRow{Best: e.Epoch == run.Best, Cells: []string{strconv.Itoa(e.Epoch)}}
		for _, name := range v.Figures {
			cell := ""
			if value, ok := e.Values[name]; ok {
				cell = short(value, false)
			}
			row.Cells = append(row.Cells, cell)
		}
		v.Rows = append(v.Rows, row)
	}
}

// facts are what a reader looks for first.
func facts(run Run) []Entry {
	var out []Entry
	add := func(name, value string) { out = append(out, Entry{name, value}) }
	if n := len(run.Epochs); n > 0 {
		last := run.Epochs[n-1]
		s := strconv.Itoa(last.Epoch)
		if run.Planned > 0 {
			s += " of " + strconv.Itoa(run.Planned)
		}
		add("epochs", s)
		best, which := last, "last epoch"
		for _, e := range run.Epochs {
			if e.Epoch == run.Best {
				best, which = e, "best epoch, "+strconv.Itoa(e.Epoch)
			}
		}
		for _, f := range []struct{ key, name string }{{"validation_accuracy", "validation accuracy"},
			{"iou", "IoU"}, {"dice", "Dice"}, {"validation_loss", "validation loss"}} {
			if value, ok := best.Values[f.key]; ok {
				text := short(value, false)
				if f.key == "validation_accuracy" {
					text = short(100*value, true)
				}
				add(f.name+" ("+which+")", text)
			}
		}
		total := 0.0
		for _, e := range run.Epochs {
			total += e.Values["seconds"]
		}
		if total > 0 && total < 1e9 {
			add("time", time.Duration(total*float64(time.Second)).Round(time.Second).String())
		}
	}
	if !run.Started.IsZero() {
		add("started", run.Started.Format("2006-01-02 15:04 MST"))
	}
	return out
}

func newPicture(data []byte, caption string) (picture, error) {
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return picture{}, err
	}
	return picture{URL: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(data)),
		Width: c.Width, Height: c.Height,
		Small: c.Width < 128, Caption: caption}, nil
}

func sampleViews(samples []Sample) ([]sampleView, error) {
	var out []sampleView
	for _, s := range samples {
		p, err := newPicture(s.Image, s.Name)
		if err != nil {
			return nil, fmt.Errorf("sample %q: %w", s.Name, err)
		}
		out = append(out, sampleView{Sample: s, Picture: p, Wrong: s.Truth != s.Prediction,
			Chance: strconv.FormatFloat(100*s.Probability, 'f', 1, 64) + "%"})
	}
	return out, nil
}

func newTripleView(t Triple) (tripleView, error) {
	v := tripleView{Name: t.Name}
	var scores []string
	for _, name := range slices.Sorted(maps.Keys(t.Scores)) {
		scores = append(scores, fmt.Sprintf("%s %.3f", name, t.Scores[name]))
	}
	v.Scores = strings.Join(scores, ", ")
	for _, p := range []struct {
		caption string
		data    []byte
	}{{"input", t.Input}, {"truth", t.Truth}, {"prediction", t.Prediction}} {
		if p.data == nil && p.caption == "truth" {
			continue
		}
		shown, err := newPicture(p.data, p.caption)
		if err != nil {
			return v, fmt.Errorf("%s of %q: %w", p.caption, t.Name, err)
		}
		v.Pictures = append(v.Pictures, shown)
	}
	return v, nil
}

// flat lists a JSON document's leaves as dotted names.
func flat(doc json.RawMessage) ([]Entry, error) {
	if len(doc) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var root any
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	var out []Entry
	var walk func(name string, v any)
	walk = func(name string, v any) {
		object, ok := v.(map[string]any)
		if !ok {
			text, plain := v.(string)
			if !plain {
				var b strings.Builder
				e := json.NewEncoder(&b)
				e.SetEscapeHTML(false) // the template escapes
				_ = e.Encode(v)        // of what was JSON
				text = strings.TrimSpace(b.String())
			}
			out = append(out, Entry{name, text})
			return
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			full := key
			if name != "" {
				full = name + "." + key
			}
			walk(full, object[key])
		}
	}
	walk("", root)
	return out, nil
}

// confusionView is the matrix, each row's shares as shades 0 to 10.
type confusionView struct {
	Classes []string
	Rows    []confusionRow
	Counts  bool
	Drawn   bool
	Pairs   []Entry
	Scores  []scoreRow
}

type confusionRow struct {
	Class string
	Cells []confusionCell
}

type confusionCell struct {
	Text, Title, Shade string
}

type scoreRow struct {
	Class                          string
	Samples                        int64
	Precision, Recall, F1, Overlap string
}

func newConfusionView(c *Confusion) (*confusionView, error) {
	n := len(c.Classes)
	square := n > 0 && len(c.Counts) == n
	for _, row := range c.Counts {
		square = square && len(row) == n
	}
	if !square {
		return nil, fmt.Errorf("the confusion matrix is not of %d by %d counts, as its classes are", n, n)
	}
	v := &confusionView{Classes: c.Classes, Counts: n <= maxCounts, Drawn: n <= maxMatrix}
	if v.Drawn {
		for i, class := range c.Classes {
			v.Rows = append(v.Rows, confusionRow{class, shades(c, i, v.Counts)})
		}
	}
	v.Pairs, v.Scores = confused(c), scores(c)
	return v, nil
}

// shades are the cells of a row; small shares are seen, for shades rise with the square root.
func shades(c *Confusion, i int, counts bool) []confusionCell {
	sum := int64(0)
	for _, k := range c.Counts[i] {
		sum += k
	}
	out := make([]confusionCell, len(c.Counts[i]))
	for j, k := range c.Counts[i] {
		if counts {
			out[j].Text = strconv.FormatInt(k, 10)
		}
		share := 0.0
		if sum > 0 {
			share = min(1, max(0, float64(k)/float64(sum)))
		}
		out[j].Title = fmt.Sprintf("%s taken for %s: %d (%.1f%%)", c.Classes[i], c.Classes[j], k, 100*share)
		if k == 0 {
			out[j].Text = ""
			continue
		}
		kind := "e"
		if i == j {
			kind = "d"
		}
		out[j].Shade = kind + strconv.Itoa(max(1, int(math.Round(10*math.Sqrt(share)))))
	}
	return out
}

// confused lists the pairs that were confused most.
func confused(c *Confusion) []Entry {
	type pair struct{ i, j int }
	var all []pair
	for i, row := range c.Counts {
		for j, k := range row {
			if i != j && k > 0 {
				all = append(all, pair{i, j})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b pair) int { return int(c.Counts[b.i][b.j] - c.Counts[a.i][a.j]) })
	var out []Entry
	for _, p := range all[:min(len(all), maxPairs)] {
		out = append(out, Entry{c.Classes[p.i] + " taken for " + c.Classes[p.j],
			strconv.FormatInt(c.Counts[p.i][p.j], 10)})
	}
	return out
}

func scores(c *Confusion) []scoreRow {
	var out []scoreRow
	ratio := func(a, b int64) string {
		if b == 0 {
			return "-"
		}
		return strconv.FormatFloat(float64(a)/float64(b), 'f', 4, 64)
	}
	for i, row := range c.Counts {
		tp, of, as := row[i], int64(0), int64(0)
		for j, k := range row {
			of += k
			as += c.Counts[j][i]
		}
		out = append(out, scoreRow{c.Classes[i], of, ratio(tp, as), ratio(tp, of), ratio(2*tp, of+as),
			ratio(tp, of+as-tp)})
	}
	return out
}
