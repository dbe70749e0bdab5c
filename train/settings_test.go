package train

import (
	"reflect"
	"strings"
	"testing"
)

// The table has a row for each field of a recipe and no other, documented, and each flag once.
func TestTableOfFields(t *testing.T) {
	rows, flags := map[string]bool{}, map[string]bool{}
	for _, f := range RecipeFields() {
		if f.Type() == nil {
			t.Errorf("%s: no recipe has it", f.Name)
		}
		if rows[f.Name] || f.Flag != "" && flags[f.Flag] {
			t.Errorf("%s, --%s stands twice", f.Name, f.Flag)
		}
		rows[f.Name], flags[f.Flag] = true, true
		if strings.TrimSpace(f.Help()) == "" {
			t.Errorf("%s has no documentation", f.Name)
		}
	}
	for _, s := range reflect.VisibleFields(reflect.TypeFor[Recipe]()) {
		if name, _, _ := strings.Cut(s.Tag.Get("json"), ","); !s.Anonymous && name != "-" && !rows[name] {
			t.Errorf("field %q of a recipe has no row in the table", name)
		}
	}
}

func TestFlagsOfFields(t *testing.T) {
	for _, c := range []struct {
		flag string
		text any
		says string // of the error; "" for none
	}{
		{"lr", 0.1, ""}, {"lr", 0.0, "lr is 0: it must be positive"}, {"epochs", 0,
			"epochs is 0: at least 1"}, {"ema", 1.0, "in [0,1)"},
		{"betas", "0.9,0.99", ""}, {"betas", "0.9", "two numbers"}, {"betas", "0.9,1", "in [0,1)"}, {"blocks",
			"2,0", "positive"},
		{"mean", "0.5,x", "numbers"}, {"class-weights", "balanced", ""}, {"class-weights", "1,x",
			"balanced"}, {"no-decay", "bias,norm", ""},
		{"augment", "RandomHorizontalFlip", ""}, {"augment", `[{"name": "Pad", "padding": 2}]`,
			""}, {"augment", "[{", "unexpected"},
		{"metrics", "top3,f1", ""}, {"schedule", "cosine", ""}, {"pos-weight", "0", "positive"}, {"gamma",
			2.0, "no field has the flag"},
	} {
		f := Fields{}
		err := f.SetFlag(c.flag, c.text)
		if err == nil && c.says == "" {
			_, err = f.Recipe("")
		}
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("--%s %v: %v", c.flag, c.text, err)
		}
	}
}
