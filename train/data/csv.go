package data

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Task says what the targets of a table are.
type Task string

// The tasks of csv: tables.
const (
	// Classification has one class an image, in the column label.
	Classification Task = ""
	// MultiLabel has any number of labels an image: in the column labels, separated by | or blanks, or 0 and
	// 1 in a column for each label.
	MultiLabel Task = "multi-label"
	// Regression has a number in each column beside path and split.
	Regression Task = "regression"
)

// Tasks lists the tasks that have a name.
func Tasks() []string { return []string{string(MultiLabel), string(Regression)} }

// openCSV reads csv:FILE.
func openCSV(name, path string, o Options) (Splits, error) {
	if err := regular(path); err != nil {
		return Splits{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return Splits{}, err
	}
	defer f.Close()
	t, err := readCSV(f, path, o.Task, o.WeightColumn)
	if err != nil {
		return Splits{}, err
	}
	train, validation, err := parts(name, t.train, t.validation, o.files(t.classes))
	if err != nil {
		return Splits{}, err
	}
	return splits(name, train, validation, o)
}

// table is what a csv: file holds. validation is nil when no column says which rows to validate on.
type table struct {
	classes           []string
	train, validation []Item
}

// columns are where a table has what.
type columns struct {
	path, label, part int   // -1: not there
	weight            int   // -1: not there
	numbers           []int // of the targets
	width             int
}

// csvReader reads the rows of a table.
type csvReader struct {
	*csv.Reader
	path string
	head []string
	columns
}

// fault is an error of the line that was read last.
func (r *csvReader) fault(format string, args ...any) error {
	line, _ := r.FieldPos(0)
	return &onnxio.FormatError{Format: "csv", Path: r.path, Where: fmt.Sprintf("line %d", line),
		Msg: fmt.Sprintf(format, args...)}
}

// readCSV reads a table whose first line names its columns: path (from the table's folder), the targets (Task
// says which columns hold them), and perhaps split (train; validation, val, valid or test) and weight, the
// name of a column of weights.
func readCSV(in io.Reader, path string, task Task, weight string) (table, error) {
	text := bufio.NewReader(io.LimitReader(in, maxList))
	r := &csvReader{Reader: csv.NewReader(text), path: path}
	r.Comma = separator(text)
	r.TrimLeadingSpace, r.FieldsPerRecord = r.Comma != '\t', -1
	if err := r.readHead(task, weight); err != nil {
		return table{}, err
	}
	var rows []row
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return table{}, &onnxio.FormatError{Format: "csv", Path: path, Msg: "cannot be read", Err: err}
		}
		if emptyRow(fields) {
			continue
		}
		one, err := r.row(fields, task)
		if err != nil {
			return table{}, err
		}
		rows = append(rows, one)
	}
	if len(rows) == 0 {
		return table{}, &onnxio.FormatError{Format: "csv", Path: path,
			Msg: "no images: the table has no rows"}
	}
	classes, err := r.targets(rows, task)
	if err != nil {
		return table{}, err
	}
	t := table{classes: classes}
	for _, one := range rows {
		if one.validate {
			t.validation = append(t.validation, one.Item)
		} else {
			t.train = append(t.train, one.Item)
		}
	}
	if r.part >= 0 && (len(t.train) == 0 || len(t.validation) == 0) {
		return table{}, &onnxio.FormatError{Format: "csv", Path: path,
			Msg: fmt.Sprintf("no images in one of the parts: %d to train on, %d to validate on", len(t.train),
				len(t.validation))}
	}
	return t, nil
}

// readHead finds the columns.
func (r *csvReader) readHead(task Task, weight string) error {
	head, err := r.Read()
	if err != nil {
		return &onnxio.FormatError{Format: "csv", Path: r.path, Msg: "no line that names the columns",
			Err: err}
	}
	at := map[string]int{}
	for i, h := range head {
		h = strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))
		r.head = append(r.head, h)
		at[strings.ToLower(h)] = i
	}
	r.columns = columns{path: -1, label: -1, part: -1, weight: -1, width: len(head)}
	label := map[Task]string{Classification: "label", MultiLabel: "labels"}[task]
	for name, to := range map[string]*int{"path": &r.columns.path, label: &r.label, "split": &r.part} {
		if i, ok := at[name]; ok {
			*to = i
		}
	}
	if weight != "" {
		i, ok := at[strings.ToLower(weight)]
		if !ok || i == r.columns.path || i == r.label || i == r.part {
			return r.fault("the first line names the columns %q: none of them is one of weights called %q",
				strings.Join(head, ","), weight)
		}
		r.weight = i
	}
	if r.label < 0 && task != Classification {
		for i := range head {
			if i != r.columns.path && i != r.part && i != r.weight {
				r.numbers = append(r.numbers, i)
			}
		}
	}
	wanted := map[Task]string{Classification: "label",
		MultiLabel: "labels, or a column of 0 and 1 for each label,",
		Regression: "a column for each value"}[task]
	if r.columns.path < 0 || r.label < 0 && len(r.numbers) == 0 {
		return r.fault("the first line names the columns %q: path and %s are wanted",
			strings.Join(head, ","), wanted)
	}
	return nil
}

// row is a row of a table.
type row struct {
	Item
	validate bool
	label    string
}

// row reads a row.
func (r *csvReader) row(fields []string, task Task) (row, error) {
	if len(fields) != r.width {
		return row{}, r.fault("%d fields, and the first line has %d", len(fields), r.width)
	}
	file := strings.TrimSpace(fields[r.columns.path])
	out := row{}
	if r.label >= 0 {
		out.label = strings.TrimSpace(fields[r.label])
	}
	if file == "" || strings.ContainsRune(file, 0) || out.label == "" && task == Classification {
		return row{}, r.fault("no path or no label")
	}
	out.Image = beside(filepath.Dir(r.path), file)
	for _, i := range r.numbers {
		text := strings.TrimSpace(fields[i])
		v, err := strconv.ParseFloat(text, 32)
		switch {
		case err != nil || math.IsInf(v, 0) || math.IsNaN(v):
			return row{}, r.fault("column %q: %q is no number", r.head[i], text)
		case task == MultiLabel && v != 0 && v != 1:
			return row{}, r.fault("column %q: %q: 0 or 1 is wanted, for not and for having the label",
				r.head[i], text)
		}
		out.Numbers = append(out.Numbers, float32(v))
	}
	if r.weight >= 0 {
		text := strings.TrimSpace(fields[r.weight])
		w, err := strconv.ParseFloat(text, 64)
		if err != nil || !isWeight(w) {
			return row{}, r.fault("column %q: %q: a weight that is not negative is wanted",
				r.head[r.weight], text)
		}
		out.Weight = w
	}
	if r.part < 0 {
		return out, nil
	}
	switch word := strings.ToLower(strings.TrimSpace(fields[r.part])); word {
	case "train":
	case "validation", "val", "valid", "test":
		out.validate = true
	default:
		return row{}, r.fault("split %q: train, or validation or test, is wanted", word)
	}
	return out, nil
}

// targets names the classes and puts the rows' targets into their items.
func (r *csvReader) targets(rows []row, task Task) ([]string, error) {
	if len(r.numbers) > 0 {
		var names []string
		for _, i := range r.numbers {
			names = append(names, r.head[i])
		}
		return names, nil
	}
	known := map[string]int{}
	split := func(label string) []string { return []string{label} }
	if task == MultiLabel {
		split = func(label string) []string {
			return strings.FieldsFunc(label, func(c rune) bool { return c == '|' || c == ' ' })
		}
	}
	for _, one := range rows {
		for _, label := range split(one.label) {
			known[label] = 0
		}
	}
	if len(known) == 0 {
		return nil, &onnxio.FormatError{Format: "csv", Path: r.path, Msg: "no row has a label"}
	}
	if len(known) == 1 && task == Classification {
		return nil, oneClass(r.path, []string{rows[0].label})
	}
	classes, err := classesOf(known)
	if err != nil {
		return nil, &onnxio.FormatError{Format: "csv", Path: r.path, Msg: err.Error()}
	}
	for i := range rows {
		if task == Classification {
			rows[i].Label = known[rows[i].label]
			continue
		}
		rows[i].Numbers = make([]float32, len(classes))
		for _, label := range split(rows[i].label) {
			rows[i].Numbers[known[label]] = 1
		}
	}
	return classes, nil
}

// separator is what the first line of a table has between its columns: comma, semicolon or
// tab, whichever is there most.
func separator(r *bufio.Reader) rune {
	head, _ := r.Peek(r.Size())
	head, _, _ = bytes.Cut(head, []byte("\n"))
	best, most := ',', 0
	for _, sep := range []rune{',', ';', '\t'} {
		if n := bytes.Count(head, []byte(string(sep))); n > most {
			best, most = sep, n
		}
	}
	return best
}

// emptyRow says that a row has nothing but separators, as spreadsheets leave them.
func emptyRow(row []string) bool {
	return !slices.ContainsFunc(row, func(s string) bool { return strings.TrimSpace(s) != "" })
}

// beside is a path of a table, from the table's folder. Backslashes separate folders, as on Windows, unless
// there is a file whose name has them.
func beside(dir, file string) string {
	from := func(file string) string {
		if filepath.IsAbs(file) {
			return file
		}
		return filepath.Join(dir, filepath.FromSlash(file))
	}
	path := from(file)
	if strings.Contains(file, `\`) {
		if _, err := os.Lstat(path); err != nil {
			return from(strings.ReplaceAll(file, `\`, "/"))
		}
	}
	return path
}

// classesOf orders labels and numbers them. Labels that are all whole numbers stand for themselves, so
// that a model's outputs keep their meaning when a class has no image; a negative one, or one far beyond
// their count, is out of range.
func classesOf(known map[string]int) ([]string, error) {
	numbers := map[string]int{}
	top := 0
	for label := range known {
		n, err := strconv.Atoi(label)
		if err != nil {
			break
		}
		numbers[label], top = n, max(top, n)
		if n < 0 {
			return nil, fmt.Errorf("label %d is out of range: numbers from 0 are wanted", n)
		}
	}
	if len(numbers) == len(known) {
		if top >= 10*len(known)+100 {
			return nil, fmt.Errorf("label %d is out of range: there are %d different labels", top, len(known))
		}
		for label, n := range numbers {
			known[label] = n
		}
		out := make([]string, top+1)
		for i := range out {
			out[i] = strconv.Itoa(i)
		}
		return out, nil
	}
	var out []string
	for label := range known {
		out = append(out, label)
	}
	slices.Sort(out)
	for i, label := range out {
		known[label] = i
	}
	return out, nil
}
