package train

import (
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/data"
)

// A checkpoint goes on with the data that it was made with, and with no other.
func TestResumeKnowsItsData(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Epochs: 1, Batch: 32, Optimizer: "sgd", LR: 0.05, Threads: 1}
	if _, err := Run(t.Context(), lenet(t), small(t, 64, 10), cfg, dir, Observer{}); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Epochs = 2
	changed := func(change func(*data.Images)) data.Splits {
		s := small(t, 64, 10)
		whole := s.Train.(data.Subset).Dataset.(*data.Images)
		own := *whole
		own.Pixels, own.Labels, own.Names = append([]uint8{}, whole.Pixels...), append([]uint8{},
			whole.Labels...), append([]string{}, whole.Names...)
		change(&own)
		s.Train = data.Subset{Dataset: &own, Indices: s.Train.(data.Subset).Indices}
		return s
	}
	for name, change := range map[string]func(*data.Images){
		"a pixel":      func(d *data.Images) { d.Pixels[300]++ },
		"a label":      func(d *data.Images) { d.Labels[3] = (d.Labels[3] + 1) % 10 },
		"a class":      func(d *data.Images) { d.Names[2] = "deux" },
		"the pictures": func(d *data.Images) { copy(d.Pixels[784:], d.Pixels[:784]) },
	} {
		if _, err := (Recipe{Config: cfg}).Resume(t.Context(), c, changed(change), "",
			Observer{}); err == nil || !strings.Contains(err.Error(), "has changed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Recipe{Config: cfg}).Resume(t.Context(), c, changed(func(*data.Images) {}), "",
		Observer{}); err != nil {
		t.Error(err)
	}
}

// A schedule that ends with the run goes on with the run's length, or says where it ends.
func TestResumePinsTheSchedule(t *testing.T) {
	for _, c := range []struct {
		schedule Schedule
		refused  bool
	}{{Schedule{Kind: Cosine}, true}, {Schedule{Kind: OneCycle}, true}, {Schedule{Kind: Polynomial}, true},
		{Schedule{Kind: Cosine, Total: 5}, false},
		{Schedule{Kind: StepLR, StepSize: 2}, false}, {Schedule{}, false}} {
		was := Recipe{Config: Config{Epochs: 2, Schedule: c.schedule}}
		longer := was
		longer.Epochs = 3
		if err := was.continues(longer); (err != nil) != c.refused || err != nil &&
			!strings.Contains(err.Error(), "schedule") {
			t.Errorf("%+v: %v", c.schedule, err)
		}
		if err := was.continues(was); err != nil {
			t.Error(err)
		}
	}
}
