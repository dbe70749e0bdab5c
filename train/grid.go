package train

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Grid is one recipe trained in every combination of some fields' values, and on every
// fold where Folds is above 1.
type Grid struct {
	Fields Fields
	Vary   []Variation
	Folds  int
}

// Variation is a field with the values that it takes.
type Variation struct {
	Field  string
	Values []any
}

// maxPoints bounds the runs of a grid.
const maxPoints = 10_000

// ParseVariation reads FIELD=VALUE,VALUE,...; whole numbers A..B are all from A to B.
// Values are JSON, or text.
func ParseVariation(text string) (Variation, error) {
	name, values, ok := strings.Cut(text, "=")
	if !ok || name == "" || values == "" {
		return Variation{}, fmt.Errorf("%q is no FIELD=VALUE,VALUE such as lr=0.1,0.01 or seed=0..4", text)
	}
	v := Variation{Field: name}
	for _, word := range splitValues(values) {
		from, to, ok := strings.Cut(word, "..")
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if ok && (err1 == nil || err2 == nil) {
			if err1 != nil || err2 != nil || b < a || b-a >= maxPoints {
				return v, fmt.Errorf("%s: %q is no range of whole numbers such as 0..4", name, word)
			}
			for n := a; n <= b; n++ {
				v.Values = append(v.Values, json.Number(strconv.Itoa(n)))
			}
			continue
		}
		v.Values = append(v.Values, jsonOrText(word))
	}
	return v, nil
}

// splitValues splits at the commas outside of brackets, braces and quotes.
func splitValues(text string) []string {
	var out []string
	depth, start, quoted := 0, 0, false
	for i, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth <= 0:
			out, start = append(out, text[start:i]), i+1
		}
	}
	return append(out, text[start:])
}

// Point is one run of a grid.
type Point struct {
	Name   string            // of its folder: lr=0.1,seed=0
	Values map[string]string // of the varied fields
	Fields Fields
}

// Points lists the runs; the last field varies fastest, and the folds faster still. Each makes a recipe.
func (g Grid) Points() ([]Point, error) {
	if g.Folds < 0 || g.Folds == 1 {
		return nil, fmt.Errorf("%d folds: at least 2 are wanted", g.Folds)
	}
	vary := slices.Clone(g.Vary)
	if g.Folds > 0 {
		v := Variation{Field: "fold"}
		for i := range g.Folds {
			v.Values = append(v.Values, fmt.Sprintf("%d/%d", i+1, g.Folds))
		}
		vary = append(vary, v)
	}
	points := []Point{{Fields: g.Fields}}
	for i, v := range vary {
		if slices.ContainsFunc(vary[:i], func(w Variation) bool { return w.Field == v.Field }) {
			return nil, fmt.Errorf("%s is varied twice", v.Field)
		}
		if len(points)*len(v.Values) > maxPoints {
			return nil, fmt.Errorf("more than %d runs", maxPoints)
		}
		var next []Point
		for _, p := range points {
			for _, value := range v.Values {
				q, err := p.with(v.Field, value)
				if err != nil {
					return nil, err
				}
				next = append(next, q)
			}
		}
		points = next
	}
	for _, p := range points {
		arch, err := p.Fields.Text("model")
		if err == nil {
			_, err = p.Fields.Recipe(arch)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cmp.Or(p.Name, "run"), err)
		}
	}
	return points, nil
}

// with is the point with a field of another value.
func (p Point) with(field string, value any) (Point, error) {
	raw, err := json.Marshal(p.Fields)
	if err != nil {
		return p, err
	}
	own, err := ReadFields(bytes.NewReader(raw))
	if err != nil {
		return p, err
	}
	if err := own.Set(field, value); err != nil {
		return p, err
	}
	text := fmt.Sprint(value)
	if raw, err := json.Marshal(value); err == nil && !json.Valid([]byte(text)) &&
		strings.ContainsAny(string(raw), "{[") {
		text = string(raw)
	}
	values := maps.Clone(p.Values)
	if values == nil {
		values = map[string]string{}
	}
	values[field] = text
	name := field + "=" + folderName(text)
	if p.Name != "" {
		name = p.Name + "," + name
	}
	return Point{Name: name, Values: values, Fields: own}, nil
}

// folderName is text that every file system takes.
func folderName(text string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '-'
		}
		return r
	}, text)
}

// Row is what a run of a grid gave.
type Row struct {
	Name   string            `json:"name"`
	Values map[string]string `json:"values"`
	Best   Epoch             `json:"best"`
	Failed string            `json:"failed,omitempty"` // why there is no Best
	Recipe json.RawMessage   `json:"recipe"`
}

// Files of a grid's folder.
const (
	GridFile  = "sweep.json"
	GridTable = "sweep.csv"
)

// Run trains every point, each into a folder of dir by its name. Runs that dir has already are not repeated,
// and one that was interrupted goes on. observe gives a run its Observer, and done is told each row; both may
// be nil. A run that diverges has a row that says so.
func (g Grid) Run(ctx context.Context, dir string, observe func(Point) Observer, done func(Row)) ([]Row,
	error) {
	points, err := g.Points()
	if err != nil {
		return nil, err
	}
	had, err := readRows(filepath.Join(dir, GridFile))
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, p := range points {
		var obs Observer
		if observe != nil {
			obs = observe(p)
		}
		row, err := p.run(ctx, filepath.Join(dir, p.Name), had, obs)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", cmp.Or(p.Name, "run"), err)
		}
		if rows = append(rows, row); done != nil {
			done(row)
		}
		if err := writeJSON(filepath.Join(dir, GridFile), rows); err != nil {
			return rows, err
		}
	}
	return rows, writeTable(filepath.Join(dir, GridTable), g.columns(), rows)
}

// columns are the varied fields.
func (g Grid) columns() []string {
	var out []string
	for _, v := range g.Vary {
		out = append(out, v.Field)
	}
	if g.Folds > 0 {
		out = append(out, "fold")
	}
	return out
}

// run trains a point, or takes what it gave before.
func (p Point) run(ctx context.Context, dir string, had map[string]Row, obs Observer) (Row, error) {
	row := Row{Name: p.Name, Values: p.Values}
	m, err := p.Fields.Network()
	if err != nil {
		return row, err
	}
	recipe, err := p.Fields.Recipe(archOf(m))
	if err != nil {
		return row, err
	}
	if row.Recipe, err = json.Marshal(recipe); err != nil {
		return row, err
	}
	if old, ok := had[p.Name]; ok && bytes.Equal(compact(old.Recipe), row.Recipe) {
		return old, nil
	}
	splits, err := recipe.Open(ctx, m)
	if err != nil {
		return row, err
	}
	var result *Result
	switch from, loadErr := LoadCheckpoint(dir); {
	case loadErr == nil && len(from.History) == recipe.Epochs && isRecipe(from.Recipe, row.Recipe):
		row.Best = from.History[from.Best] // it was finished, and another sweep has written the rows since
		return row, nil
	case loadErr == nil && from.Epoch > recipe.Epochs:
		return row, fmt.Errorf("folder %s holds a run of another recipe: choose another folder", dir)
	case loadErr == nil:
		result, err = recipe.Resume(ctx, from, splits, dir, obs)
	case errors.Is(loadErr, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return row, err
		}
		if _, err := recipe.Start(m); err != nil {
			return row, err
		}
		result, err = recipe.Run(ctx, m, splits, dir, obs)
	default:
		return row, loadErr
	}
	if d := new(DivergedError); errors.As(err, &d) {
		row.Failed = d.Error()
		return row, nil
	}
	if err != nil {
		return row, err
	}
	row.Best = result.History[result.Best]
	return row, nil
}

// isRecipe says whether a recipe is that in JSON, every field of it.
func isRecipe(recipe Recipe, raw []byte) bool {
	own, err := json.Marshal(recipe)
	return err == nil && bytes.Equal(own, raw)
}

func compact(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

func readRows(path string) (map[string]Row, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var rows []Row
	if err == nil {
		err = json.Unmarshal(raw, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := map[string]Row{}
	for _, r := range rows {
		out[r.Name] = r
	}
	return out, nil
}

// Figures are a row's by name: loss, accuracy where there is one, and the metrics.
func (r Row) Figures() map[string]float64 {
	if r.Failed != "" {
		return nil
	}
	out := map[string]float64{"loss": r.Best.ValidationLoss}
	if !math.IsNaN(r.Best.ValidationAccuracy) {
		out["accuracy"] = r.Best.ValidationAccuracy
	}
	maps.Copy(out, r.Best.Metrics)
	return out
}

// Summary is the rows that differ in nothing but seed and fold.
type Summary struct {
	Values map[string]string  `json:"values"` // of the fields that they share
	Runs   int                `json:"runs"`
	Mean   map[string]float64 `json:"mean"`
	Median map[string]float64 `json:"median"`
	Std    map[string]float64 `json:"std"` // of the sample, n-1
}

// Summarize takes rows together over seed and fold, in the order of the first of each.
func Summarize(rows []Row) []Summary {
	var keys []string
	groups := map[string][]Row{}
	shared := func(r Row) map[string]string {
		v := maps.Clone(r.Values)
		delete(v, "seed")
		delete(v, "fold")
		return v
	}
	for _, r := range rows {
		raw, _ := json.Marshal(shared(r)) // of texts
		if groups[string(raw)] == nil {
			keys = append(keys, string(raw))
		}
		groups[string(raw)] = append(groups[string(raw)], r)
	}
	var out []Summary
	for _, key := range keys {
		s := Summary{Values: shared(groups[key][0]), Mean: map[string]float64{}, Median: map[string]float64{},
			Std: map[string]float64{}}
		values := map[string][]float64{}
		for _, r := range groups[key] {
			if r.Failed == "" {
				s.Runs++
			}
			for name, v := range r.Figures() {
				values[name] = append(values[name], v)
			}
		}
		for name, v := range values {
			s.Mean[name], s.Median[name], s.Std[name] = spread(v)
		}
		out = append(out, s)
	}
	return out
}

// spread is the mean, the median and the sample's standard deviation, 0 of one number.
func spread(v []float64) (mean, median, std float64) {
	slices.Sort(v)
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		std += (x - mean) * (x - mean)
	}
	if len(v) > 1 {
		std = math.Sqrt(std / float64(len(v)-1))
	}
	n := len(v)
	return mean, (v[(n-1)/2] + v[n/2]) / 2, std
}

// FigureNames are the figures that any row has: accuracy and loss first.
func FigureNames(rows []Row) []string {
	seen := map[string]bool{}
	for _, r := range rows {
		for name := range r.Figures() {
			seen[name] = true
		}
	}
	out := slices.Sorted(maps.Keys(seen))
	slices.SortStableFunc(out, func(a, b string) int {
		rank := func(s string) int { return slices.Index([]string{"loss", "accuracy"}, s) }
		return rank(b) - rank(a)
	})
	return out
}

func writeTable(path string, columns []string, rows []Row) error {
	figures := FigureNames(rows)
	return onnxio.WriteFile(path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		_ = c.Write(slices.Concat(columns, []string{"epoch"}, figures, []string{"failed"})) // Error tells
		for _, r := range rows {
			var line []string
			for _, name := range columns {
				line = append(line, r.Values[name])
			}
			line = append(line, strconv.Itoa(r.Best.Epoch))
			all := r.Figures()
			for _, name := range figures {
				text := ""
				if v, ok := all[name]; ok {
					text = strconv.FormatFloat(v, 'g', -1, 64)
				}
				line = append(line, text)
			}
			_ = c.Write(append(line, r.Failed))
		}
		c.Flush()
		return c.Error()
	})
}
