package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A chart is drawn in these units, which the page scales; margins hold the ticks' labels.
const (
	chartWidth, chartHeight         = 480, 250
	chartLeft, chartRight           = 60, 12
	chartTop, chartBottom           = 10, 28
	dotted                          = 40 // up to so many epochs each has its dot
	plotWidth, plotHeight   float64 = chartWidth - chartLeft - chartRight, chartHeight -
		chartTop - chartBottom
)

// chart is what the template draws of one panel.
type chart struct {
	Title   string
	Summary string // for those who do not see it
	Lines   []line
	X, Y    []tick
	Data    string // JSON for the page's script: positions, and what to say there
}

type line struct {
	Name  string
	Color int
	Path  string
	Dots  []dot
}

type dot struct{ X, Y, Title string }

type tick struct{ At, Label string }

// hover is chart.Data: for each epoch its position from the left and its label, for each line positions from
// the top (null where there is no value) and texts.
type hover struct {
	X      []float64   `json:"x"`
	Epochs []int       `json:"epochs"`
	Lines  []hoverLine `json:"lines"`
}

type hoverLine struct {
	Name string     `json:"name"`
	Y    []*float64 `json:"y"`
	Text []string   `json:"text"`
}

// titles are the panels that have a place of their own, in their order.
var titles = []struct{ key, title string }{
	{"loss", "Loss"}, {"accuracy", "Accuracy"}, {"lr", "Learning rate"}, {"images_per_s",
		"Images per second, training"},
}

// metricTitles are the names of the metrics that are written otherwise than their figures.
var metricTitles = map[string]string{"iou": "IoU", "dice": "Dice", "f1": "F1", "precision": "Precision",
	"recall": "Recall",
	"top3":   "Top 3", "top5": "Top 5", "auc": "AUC"}

// panelOf splits a figure's name into its panel and its line.
func panelOf(name string) (panel, line string) {
	for _, part := range []string{"train", "validation"} {
		if rest, ok := strings.CutPrefix(name, part+"_"); ok {
			return rest, part
		}
	}
	return name, name
}

func panelTitle(panel string) string {
	for _, t := range titles {
		if t.key == panel {
			return t.title
		}
	}
	if title, ok := metricTitles[panel]; ok {
		return title
	}
	return panel
}

// charts draws all figures but the seconds, which the table has.
func charts(epochs []Epoch, planned int) ([]chart, error) {
	panels := map[string][]string{}
	for _, name := range names(epochs) {
		if p, _ := panelOf(name); name != "seconds" {
			panels[p] = append(panels[p], name)
		}
	}
	var order []string
	for _, t := range titles[:3] {
		order = append(order, t.key)
	}
	for _, p := range slices.Sorted(maps.Keys(panels)) {
		if !slices.Contains(order, p) && p != titles[3].key {
			order = append(order, p)
		}
	}
	var out []chart
	for _, p := range append(order, titles[3].key) {
		if len(panels[p]) == 0 {
			continue
		}
		c, err := drawPanel(p, panels[p], epochs, planned)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// names are those of all figures.
func names(epochs []Epoch) []string {
	all := map[string]bool{}
	for _, e := range epochs {
		for name := range e.Values {
			all[name] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
	})
}

// rank puts the figures that are looked for first, and those that are not about learning last.
func rank(name string) int {
	panel, _ := panelOf(name)
	return cmp.Or(map[string]int{"loss": 1, "accuracy": 2, "lr": 4, "seconds": 5, "images_per_s": 6}[panel],
		3)
}

// axis maps values to positions.
type axis struct {
	lo, hi float64
	log    bool
}

// newAxis takes in all the values; it is logarithmic where they span decades, as learning rates do.
func newAxis(values []float64, mayLog bool) axis {
	a := axis{lo: math.Inf(1), hi: math.Inf(-1)}
	for _, v := range values {
		a.lo, a.hi = min(a.lo, v), max(a.hi, v)
	}
	switch {
	case len(values) == 0:
		a.lo, a.hi = 0, 1
	case mayLog && a.lo > 0 && a.hi/a.lo > 50:
		a.log, a.lo, a.hi = true, math.Log10(a.lo), math.Log10(a.hi)
	case a.hi-a.lo <= 1e-9*max(math.Abs(a.lo), math.Abs(a.hi)):
		margin := math.Abs(a.lo) * 0.1
		if a.lo == 0 {
			margin = 1
		}
		a.lo, a.hi = a.lo-margin, a.hi+margin
	}
	margin := (a.hi - a.lo) * 0.04
	a.lo, a.hi = a.lo-margin, a.hi+margin
	return a
}

// at is the position of a value from the top.
func (a axis) at(v float64) float64 {
	if a.log {
		v = math.Log10(v)
	}
	return math.Round((chartTop+plotHeight*(1-(v-a.lo)/(a.hi-a.lo)))*100) / 100
}

// ticks are round values within the axis, about five.
func (a axis) ticks() []float64 {
	var out []float64
	if a.log {
		step := math.Ceil((a.hi - a.lo) / 5)
		for p := math.Ceil(a.lo/step) * step; p <= a.hi; p += step {
			out = append(out, math.Pow(10, p))
		}
		return out
	}
	step := roundStep((a.hi - a.lo) / 5)
	for n := math.Ceil(a.lo / step); n*step <= a.hi; n++ {
		out = append(out, n*step+0) // never -0
	}
	return out
}

// roundStep is the smallest of 1, 2 and 5 times a power of ten that is not below v.
func roundStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// places are the digits behind the point that tell a step's multiples apart.
func places(step float64) int { return max(0, int(math.Ceil(-math.Log10(step)-1e-9))) }

func drawPanel(panel string, figures []string, epochs []Epoch, planned int) (chart, error) {
	percent := panel == "accuracy" || panel == "top3" || panel == "top5"
	c := chart{Title: panelTitle(panel)}
	if percent {
		c.Title += ", %"
	}
	shown := func(v float64) float64 {
		if percent {
			return 100 * v
		}
		return v
	}
	var values []float64
	for _, name := range figures {
		for _, e := range epochs {
			if v, ok := e.Values[name]; ok && finite(v) && math.Abs(v) < 1e150 {
				values = append(values, shown(v))
			}
		}
	}
	a := newAxis(values, panel == "lr")
	if a.log {
		c.Title += ", logarithmic"
	}
	first, last := epochs[0].Epoch, epochs[len(epochs)-1].Epoch
	last = max(last, planned)
	x := func(epoch int) float64 {
		if last <= first {
			return chartLeft + plotWidth/2
		}
		return math.Round((chartLeft+plotWidth*float64(epoch-first)/float64(last-first))*100) / 100
	}
	c.X, c.Y = epochTicks(first, last, x), valueTicks(a)
	h := hover{}
	for _, e := range epochs {
		h.X, h.Epochs = append(h.X, x(e.Epoch)), append(h.Epochs, e.Epoch)
	}
	for i, name := range figures {
		_, label := panelOf(name)
		l, hl := line{Name: label, Color: i % 6}, hoverLine{Name: label}
		if label == name {
			l.Name, hl.Name = panelTitle(panel), panelTitle(panel)
		}
		move := true
		var path strings.Builder
		for _, e := range epochs {
			v, ok := e.Values[name]
			v = shown(v)
			if !ok || !finite(v) || math.Abs(v) >= 1e150 {
				move = true
				hl.Y, hl.Text = append(hl.Y, nil), append(hl.Text, missing(v, ok))
				continue
			}
			px, py := x(e.Epoch), a.at(v)
			command := byte('L')
			if move {
				command = 'M'
			}
			move = false
			fmt.Fprintf(&path, "%c%g %g", command, px, py)
			text := short(v, percent)
			hl.Y, hl.Text = append(hl.Y, &py), append(hl.Text, text)
			if len(epochs) <= dotted {
				l.Dots = append(l.Dots, dot{fmt.Sprintf("%g", px), fmt.Sprintf("%g", py),
					fmt.Sprintf("epoch %d: %s %s", e.Epoch, l.Name, text)})
			}
		}
		l.Path = path.String()
		c.Lines, h.Lines = append(c.Lines, l), append(h.Lines, hl)
		c.Summary += fmt.Sprintf("%s: %s after epoch %d. ", l.Name, hl.Text[len(hl.Text)-1],
			epochs[len(epochs)-1].Epoch)
	}
	data, err := json.Marshal(h)
	c.Data, c.Summary = string(data), strings.TrimSpace(c.Summary)
	return c, err
}

func epochTicks(first, last int, x func(int) float64) []tick {
	step := max(1, int(roundStep(float64(last-first+1)/8)))
	var out []tick
	for e := first; e <= last; e++ {
		if e == first && step > 1 && e%step != 0 && step-e%step < (step+1)/2 {
			continue // too near to the next
		}
		if e%step == 0 || e == first {
			out = append(out, tick{fmt.Sprintf("%g", x(e)), strconv.Itoa(e)})
		}
	}
	return out
}

func valueTicks(a axis) []tick {
	digits := 0
	if !a.log {
		digits = places(roundStep((a.hi - a.lo) / 5))
	}
	var out []tick
	for _, v := range a.ticks() {
		label := strconv.FormatFloat(v, 'f', digits, 64)
		switch {
		case a.log:
			label = exponent.ReplaceAllString(strconv.FormatFloat(v, 'g', 3, 64), "e$1")
		case digits > 5 || math.Abs(v) >= 1e6: // all of them in one form
			label = powerOfTen(v)
		}
		out = append(out, tick{fmt.Sprintf("%g", a.at(v)), label})
	}
	return out
}

// exponent is Go's, of which a plus and a zero in front are left away: there is room for seven characters.
var exponent = regexp.MustCompile(`e\+?(-?)0?`)

// powerOfTen writes a number as 9.5e-5, with as many places as it needs, three at most.
func powerOfTen(v float64) string {
	mantissa, power, _ := strings.Cut(strconv.FormatFloat(v, 'e', 3, 64), "e")
	return strings.TrimRight(strings.TrimRight(mantissa, "0"), ".") + exponent.ReplaceAllString("e"+power,
		"e$1")
}

func missing(v float64, there bool) string {
	if !there {
		return "-"
	}
	return short(v, false)
}

// short is a figure for people.
func short(v float64, percent bool) string {
	if percent {
		return strconv.FormatFloat(v, 'f', 2, 64) + "%"
	}
	return strconv.FormatFloat(v, 'g', 5, 64)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
