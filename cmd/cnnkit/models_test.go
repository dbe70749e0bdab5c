package main

import (
	"encoding/csv"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/cnnkit/cnnkit/train/data"
)

// TestPublishedCheckpoint turns a ResNet-20 that was trained elsewhere into ONNX: 9,173 of the test images
// right, as its authors say: an error of 8.27%.
func TestPublishedCheckpoint(t *testing.T) {
	root := os.Getenv("CNNKIT_DATA")
	if testing.Short() || root == "" {
		t.Skip("evaluates a network on CIFAR-10: set CNNKIT_DATA, and run without -short")
	}
	out := filepath.Join(t.TempDir(), "resnet20.onnx")
	done(t, "convert", filepath.Join(root, "checkpoints", "resnet20-12fca82f.th"), out, "--arch", "resnet20")
	var got struct{ Accuracy float64 }
	answer(t, &got, "eval", out, "--data", "cifar10", "--engine", "native", "--mean", "0.485,0.456,0.406",
		"--std", "0.229,0.224,0.225")
	if got.Accuracy != 0.9173 {
		t.Errorf("accuracy %v", got.Accuracy)
	}
}

// TestModelCards evaluates the models that are shipped and compares with the figure that their card prints
// in bold. Two images in ten thousand are allowed for: where two classes are as likely, another instruction
// set may round the other way. Where the model is too large to be shipped, the history's last epoch has the figure.
func TestModelCards(t *testing.T) {
	if testing.Short() {
		t.Skip("evaluates every shipped model: run without -short")
	}
	cards, err := filepath.Glob("../../models/*/card.md")
	if err != nil || len(cards) == 0 {
		t.Fatalf("no cards: %v", err)
	}
	command := regexp.MustCompile(`cnnkit eval models/\S+ --data (\S+)(?: --tta (\S+))?`)
	figure := regexp.MustCompile(`\*\*(Dice |IoU )?([0-9.]+)%?\*\*`)
	for _, card := range cards {
		dir := filepath.Dir(card)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(card)
			if err != nil {
				t.Fatal(err)
			}
			set, want := command.FindSubmatch(text), figure.FindSubmatch(text)
			if want == nil {
				t.Fatal("the card has no figure in bold")
			}
			var got measures
			if _, err := os.Stat(filepath.Join(dir, "model.onnx")); errors.Is(err, fs.ErrNotExist) {
				lastEpoch(t, filepath.Join(dir, "history.csv")).compare(t, string(want[1]), string(want[2]))
				return
			}
			if set == nil {
				t.Fatal("the card has no eval command")
			}
			if _, err := data.Find(string(set[1])); err != nil {
				t.Skip(err)
			}
			args := []string{"eval", filepath.Join(dir, "model.onnx"), "--data", string(set[1]),
				"--engine", "native"}
			if len(set[2]) > 0 {
				args = append(args, "--tta", string(set[2]))
			}
			answer(t, &got, args...)
			got.compare(t, string(want[1]), string(want[2]))
		})
	}
}

type measures struct{ Accuracy, Dice, IoU float64 }

// compare holds a card's figure of a measure against what was found.
func (m measures) compare(t *testing.T, measure, figure string) {
	t.Helper()
	promised, err := strconv.ParseFloat(figure, 64)
	if err != nil {
		t.Fatal(err)
	}
	value, digits := 100*m.Accuracy, 0.02
	switch measure {
	case "Dice ":
		value, digits = m.Dice, 0.001
	case "IoU ":
		value, digits = m.IoU, 0.001
	}
	if math.Abs(value-promised) > digits+1e-9 {
		t.Errorf("the card says %s, it is %.4f", figure, value)
	}
}

// lastEpoch reads the measures of validation in the last line of a history.
func lastEpoch(t *testing.T, path string) measures {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("%s: %d lines: %v", path, len(rows), err)
	}
	var m measures
	for i, name := range rows[0] {
		v, _ := strconv.ParseFloat(rows[len(rows)-1][i], 64)
		switch name {
		case "validation_accuracy":
			m.Accuracy = v
		case "dice":
			m.Dice = v
		case "iou":
			m.IoU = v
		}
	}
	return m
}
