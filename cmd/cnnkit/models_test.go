package main

import (
	"fmt"
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
// set may round the other way.
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
			if set == nil || want == nil {
				t.Fatal("the card has no eval command or no figure in bold")
			}
			if _, err := data.Find(string(set[1])); err != nil {
				t.Skip(err)
			}
			var got struct{ Accuracy, Dice, IoU float64 }
			args := []string{"eval", filepath.Join(dir, "model.onnx"), "--data", string(set[1]),
				"--engine", "native"}
			if len(set[2]) > 0 {
				args = append(args, "--tta", string(set[2]))
			}
			answer(t, &got, args...)
			promised, err := strconv.ParseFloat(string(want[2]), 64)
			if err != nil {
				t.Fatal(err)
			}
			value, digits := 100*got.Accuracy, 0.02
			switch string(want[1]) {
			case "Dice ":
				value, digits = got.Dice, 0.001
			case "IoU ":
				value, digits = got.IoU, 0.001
			}
			if math.Abs(value-promised) > digits+1e-9 {
				t.Errorf("the card says %s, it is %s", want[2], fmt.Sprintf("%.4f", value))
			}
		})
	}
}
