package train

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
)

func TestRecipeFields(t *testing.T) {
	f, err := ReadFields(
		strings.NewReader(`{"model": "lenet5", "data": "mnist", "seed": 18446744073709551615, "schedule": {"kind": "step"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"lr=0.1", "schedule.step_size=3", "optimizer=adam", "betas=[0.8,0.9]",
		"metrics=[\"top5\",\"auc\"]", `groups=[{"params":"bias","weight_decay":0}]`} {
		if err := f.SetText(s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.Recipe("lenet5")
	if err != nil {
		t.Fatal(err)
	}
	want := Recipe{Model: "lenet5", Data: "mnist", Config: Config{Epochs: 5, Batch: 64, Seed: 1<<64 - 1,
		Loss: "auto", Optimizer: "adam", LR: 0.1,
		Betas: [2]float64{0.8, 0.9}, Groups: []Group{{Params: "bias", WeightDecay: new(float64)}},
		Schedule: Schedule{Kind: StepLR, StepSize: 3},
		EMA:      0.99, Metrics: []string{"top5", "auc"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nnot %+v", got, want)
	}
	if err := f.SetText("swa.start=3"); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Recipe("lenet5"); err != nil || got.EMA != 0 {
		t.Errorf("with SWA in the place of the average that is the default: %v, %v", got.EMA, err)
	}
}

// Mistakes in a recipe are errors that name them.
func TestRecipeMistakes(t *testing.T) {
	for text, says := range map[string]string{
		`{"LR": 0.1}`:                               `"LR"`,
		`{"learning_rate": 0.1}`:                    "learning_rate",
		`{"schedule": {"knd": "step"}}`:             "knd",
		`{"groups": [{"parms": "bias"}]}`:           "parms",
		`{"lr": "0.1"}`:                             `"lr" takes float64`,
		`{"epochs": 1.5}`:                           "epochs",
		`{"optimizer": 3}`:                          "optimizer",
		`{"optimizer": "adma"}`:                     "adma",
		`{"lr": 0.1, "lr": 0.2}`:                    "twice",
		`{"schedule": {"by": 1, "by": 2}}`:          "twice",
		`{"lr": 0.1} {}`:                            "behind",
		`{"lr": 0.1`:                                "unexpected EOF",
		`null`:                                      "null",
		`[]`:                                        "array",
		`{"schedule": {"kind": "step"}}`:            "step_size",
		`{"metrics": ["accuracy2"]}`:                "accuracy2",
		`{"groups": [{"params": "["}]}`:             "pattern",
		`{"monitor": "confusion"}`:                  "picture",
		`{"loss": "focal", "label_smoothing": 0.1}`: "label_smoothing",
		`{"loss": "dice", "class_weights": [1, 2]}`: "class_weights",
		`{"class_weights": "even"}`:                 `"balanced"`,
		`{"class_weights": [1, -1]}`:                "class 1",
		`{"class_weights": [0, 0]}`:                 "nothing",
	} {
		f, err := ReadFields(strings.NewReader(text))
		if err == nil {
			_, err = f.Recipe("lenet5")
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	f := Fields{"lr": 1.0}
	for _, s := range []string{"lr", "=1", "lr.x=1", "schedule.=1"} {
		if f.SetText(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// A recipe that was resolved and written resolves to itself, whatever the network's defaults are.
func TestResolvedRecipeIsWhole(t *testing.T) {
	for _, arch := range []string{"lenet5", "unet", ""} {
		for _, optimizer := range Optimizers() {
			want := Recipe{Model: "x", Input: "3x32x32", Blocks: []int{1, 2},
				Config: Defaults(arch).With(optimizer)}
			dir := t.TempDir()
			if err := want.Save(dir); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(filepath.Join(dir, RecipeFile))
			if err != nil {
				t.Fatal(err)
			}
			f, err := ReadFields(file)
			file.Close()
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range []string{"lenet5", "unet", ""} {
				if got, err := f.Recipe(other); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %s read for %s: %+v, %v", arch, optimizer, other, got, err)
				}
			}
		}
	}
}

// Every recipe under train/recipes resolves for its network, and says all that matters itself.
func TestShippedRecipes(t *testing.T) {
	paths, err := filepath.Glob("recipes/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no recipes")
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ReadFields(file)
		file.Close()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, name := range []string{"model", "data", "epochs", "batch", "seed", "optimizer", "lr"} {
			if f[name] == nil {
				t.Errorf("%s: no %s", path, name)
			}
		}
		arch, _ := f.Text("model")
		if _, err := f.Recipe(arch); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if !slices.Contains(builders.Names(), arch) {
			t.Errorf("%s: no network %q", path, arch)
		}
	}
}

// The run's files carry what was asked for, and patience ends it.
func TestMetricsAndPatience(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Epochs: 50, Batch: 32, Optimizer: "sgd", LR: 0.05, Momentum: 0.9, Metrics: shippedMetrics,
		Monitor: "f1", Patience: 2,
		Schedule: Schedule{Kind: MultiStep, Milestones: []int{3}, Gamma: 1e-9}}
	res, err := Run(t.Context(), lenet(t), small(t, 500, 200), cfg, dir, Observer{})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Stopped || len(res.History) != res.Best+3 || len(res.History) == 50 {
		t.Errorf("stopped %v after %d epochs, the best being %d", res.Stopped, len(res.History), res.Best+1)
	}
	last := res.History[len(res.History)-1]
	for _, name := range shippedMetrics {
		if slices.Contains([]string{"map", "mae", "rmse", "r2"}, name) { // of other tasks
			if v, ok := last.Metrics[name]; ok {
				t.Errorf("a classifier has %s %v", name, v)
			}
			continue
		}
		if v, ok := last.Metrics[name]; ok == (name == "confusion") || v < 0 || v > 1 {
			t.Errorf("%s: %v, %v", name, v, ok)
		}
	}
	if last.Metrics["top5"] < last.Metrics["top3"] || last.Metrics["top3"] < last.ValidationAccuracy ||
		res.Confusion.Accuracy() != last.ValidationAccuracy {
		t.Errorf("%+v", last)
	}
	file, err := os.Open(filepath.Join(dir, HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) != len(res.History)+1 ||
		!slices.Equal(rows[0][8:], []string{"auc", "dice", "f1", "iou", "miou", "precision", "recall",
			"top3", "top5"}) {
		t.Errorf("%v, %v", rows, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, MetricsFile))
	var metrics struct {
		Epoch   Epoch
		Classes []ClassScore
	}
	if err != nil || json.Unmarshal(raw, &metrics) != nil || len(metrics.Classes) != 10 ||
		metrics.Epoch.Metrics["f1"] != last.Metrics["f1"] {
		t.Errorf("%s %v", raw, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ConfusionFile)); err != nil {
		t.Error(err)
	}
}
