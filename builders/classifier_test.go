package builders

import (
	"slices"
	"testing"
)

func TestClassifier(t *testing.T) {
	for name, want := range map[string][]string{
		"resnet18":      {"fc.weight", "fc.bias"},
		"squeezenet1_1": {"classifier.1.weight", "classifier.1.bias"},
		"vit_b_16":      {"heads.head.weight", "heads.head.bias"},
		"unet":          {"conv_final.weight", "conv_final.bias"},
	} {
		m, err := Outline(name, Config{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Classifier(m)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	m, _ := Outline("lenet5", Config{})
	m.Metadata = nil
	if _, err := Classifier(m); err == nil {
		t.Error("a model that no builder made has no classifier")
	}
}
