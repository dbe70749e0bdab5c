package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var show = flag.String("show", "", "write the example's page here")

func render(t *testing.T, run Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, run); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHTML(t *testing.T) {
	run := example(t)
	out := render(t, run)
	if *show != "" {
		if err := SaveHTML(*show, run); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"<title>lenet5 on fashion-mnist</title>", ">Loss<", "Accuracy, %",
		"Learning rate, logarithmic", "Worst mistakes",
		"Predictions", "Confusion matrix", "Shirt taken for T-shirt/top: 312", "schedule.kind", "[0.9,0.999]",
		"&lt;b&gt;&amp;",
		"data:image/png;base64,iVBORw0KGgo", "validation accuracy (best epoch, 22)",
		"prefers-color-scheme:dark", "iou 0.8", "24 of 30"} {
		if !strings.Contains(out, s) {
			t.Errorf("the page does not say %s", s)
		}
	}
	if n := strings.Count(out, "ZgotmplZ"); n > 0 {
		t.Errorf("the template refused %d values", n)
	}
}

// What comes from outside is text wherever it stands, and nothing is fetched.
func TestHTMLHostile(t *testing.T) {
	run := example(t)
	run.Title, run.Message, run.State = hostile, hostile, State(hostile)
	run.Config = json.RawMessage(`{"a` + strings.ReplaceAll(hostile, `"`, `\"`) + `":"` +
		strings.ReplaceAll(hostile, `"`, `\"`) + `"}`)
	run.Epochs[3].Values[hostile] = 1
	run.Epochs[3].Values["train_"+hostile] = 1
	out := render(t, run)
	if strings.Contains(out, "<script>alert") || strings.Contains(out, "<img src=x") ||
		strings.Count(out, "<script") != 1 {
		t.Error("a name became an element")
	}
	// All tags are of the template: no attribute of an event, no address but data.
	for _, tag := range regexp.MustCompile(`<[a-zA-Z][^>]*>`).FindAllString(out, -1) {
		for _, attribute := range regexp.MustCompile(`([\w-]+)="([^"]*)"`).FindAllStringSubmatch(tag, -1) {
			name, value := attribute[1], attribute[2]
			if strings.HasPrefix(name, "on") || name == "style" {
				t.Errorf("%.200s", tag)
			}
			if (name == "src" || name == "href") && !strings.HasPrefix(value, "data:") {
				t.Errorf("%.200s", tag)
			}
		}
	}
	for _, s := range []string{"http://", "https://", "url(", "@import"} {
		if strings.Contains(out, s) {
			t.Errorf("the page has %s", s)
		}
	}
}

// The policy names the style and the script that stand in the page.
func TestHTMLPolicy(t *testing.T) {
	out := render(t, example(t))
	for name, text := range map[string]string{"style": style, "script": script} {
		if !strings.Contains(out, "<"+name+">"+text+"</"+name+">") {
			t.Errorf("the %s is not in the page as it is", name)
		}
	}
	if !strings.Contains(out,
		`http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-`) {
		t.Error("no policy")
	}
}

func TestHTMLEdges(t *testing.T) {
	big := &Confusion{}
	for i := range 300 {
		big.Classes = append(big.Classes, "class "+string(rune('a'+i%26)))
		big.Counts = append(big.Counts, make([]int64, 300))
		big.Counts[i][(i*7)%300] = int64(i)
	}
	for _, c := range []struct {
		name string
		run  Run
		want string
	}{
		{"nothing", Run{}, "No epoch is finished yet."},
		{"one epoch", Run{Epochs: []Epoch{{1, map[string]float64{"train_loss": 0}}}},
			"All figures of 1 epoch<"},
		{"not finite", Run{Epochs: []Epoch{{1, map[string]float64{"a": math.NaN(), "b": 1}},
			{2, map[string]float64{"a": math.Inf(1), "b": 1e300}},
			{3, map[string]float64{}}}}, "NaN"},
		{"equal", Run{Epochs: []Epoch{{1, map[string]float64{"lr": 0.1}},
			{2, map[string]float64{"lr": 0.1}}}}, "Learning rate<"},
		{"many classes", Run{Confusion: big}, "Confused most"},
		{"many epochs", Run{Epochs: make([]Epoch, 3000)}, "All figures of 3000"},
		{"a list for a configuration", Run{Config: json.RawMessage("[1]")}, "[1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.run.Epochs {
				if c.run.Epochs[i].Epoch == 0 {
					c.run.Epochs[i] = Epoch{i + 1, map[string]float64{"train_loss": 1 / float64(i+1)}}
				}
			}
			out := render(t, c.run)
			if !strings.Contains(out, c.want) || strings.Contains(out, "NaN NaN") {
				t.Errorf("no %q in %.3000s", c.want, out[strings.Index(out, "<body"):])
			}
		})
	}
}

func TestHTMLErrors(t *testing.T) {
	for name, run := range map[string]Run{
		"sample":        {Samples: []Sample{{Name: "a", Image: []byte("no picture")}}},
		"mistake":       {Mistakes: []Sample{{Name: "a"}}},
		"mask":          {Masks: []Triple{{Name: "a", Input: []byte{1}}}},
		"matrix":        {Confusion: &Confusion{Classes: []string{"a", "b"}, Counts: [][]int64{{1, 2}}}},
		"ragged matrix": {Confusion: &Confusion{Classes: []string{"a", "b"}, Counts: [][]int64{{1, 2}, {1}}}},
		"configuration": {Config: json.RawMessage("{")},
	} {
		path := filepath.Join(t.TempDir(), "report.html")
		if err := SaveHTML(path, run); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file is left", name)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		values []float64
		log    bool
		want   string
	}{
		{[]float64{0, 1}, false, "0.0 0.5 1.0"},
		{[]float64{0.31, 2.2}, false, "0.5 1.0 1.5 2.0"},
		{[]float64{97.1, 98.9}, false, "97.5 98.0 98.5"},
		{[]float64{1e-5, 0.1}, true, "1e-5 0.0001 0.001 0.01 0.1"},
		{[]float64{0.01, 0.1}, true, "0.02 0.04 0.06 0.08 0.10"},
		{[]float64{5000, 5400}, false, "5000 5100 5200 5300 5400"},
		{[]float64{3, 3}, false, "2.8 3.0 3.2"},
		{[]float64{1e-4, 1e-4}, false, "9e-5 9.5e-5 1e-4 1.05e-4 1.1e-4"},
		{[]float64{1.2e6, 2.2e6}, false, "1.5e6 2e6"},
		{[]float64{0}, false, "-1.0 -0.5 0.0 0.5 1.0"},
	} {
		var got []string
		for _, tick := range valueTicks(newAxis(c.values, c.log)) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%v: %s, want %s", c.values, s, c.want)
		}
	}
}
