package report

import (
	"encoding/json"
	"image"
	"image/color"
	"math"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

// hostile is a name that would run, were it not escaped.
const hostile = `</script><script>alert("x")</script><img src=x onerror='alert(1)'>{{.}}`

// example is a run with everything in it.
func example(t *testing.T) Run {
	t.Helper()
	run := Run{Title: "lenet5 on fashion-mnist", State: Running, Started: time.Date(2025, 10, 9, 8, 0, 0, 0,
		time.UTC), Planned: 30,
		Config: json.RawMessage(
			`{"arch":"lenet5","batch":64,"schedule":{"kind":"one-cycle","warmup":3},"betas":[0.9,0.999],"note":"<b>&"}`),
		Environment: []Entry{{"cnnkit", "v1.2.3"}, {"processor", "A Processor (TM) " + hostile}}}
	for n := 1; n <= 24; n++ {
		at := float64(n)
		run.Epochs = append(run.Epochs, Epoch{Epoch: n, Values: map[string]float64{
			"train_loss": 2.2*math.Exp(-at/5) + 0.05, "validation_loss": 2.1*math.Exp(-at/5) + 0.3 +
				0.02*math.Sin(at*1.7) + at/400,
			"train_accuracy": 1 - 0.85*math.Exp(-at/4), "validation_accuracy": 0.91 - 0.8*math.Exp(-at/4) +
				0.005*math.Sin(at*2),
			"lr": 0.1 * math.Pow(0.75, at), "seconds": 11.5 + math.Sin(at), "images_per_s": 5300 +
				150*math.Sin(at), "top3": 1 - 0.3*math.Exp(-at/3)}})
	}
	run.Best = 22
	classes := []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
		"Bag", hostile}
	run.Confusion = &Confusion{Classes: classes, Counts: make([][]int64, 10)}
	for i := range classes {
		run.Confusion.Counts[i] = make([]int64, 10)
		for j := range classes {
			run.Confusion.Counts[i][j] = int64(900 / (1 + 40*(i-j)*(i-j)) % 1000)
		}
	}
	run.Confusion.Counts[6][0] = 312
	for i := range 8 {
		picture, err := PNG(glyph(28, i))
		if err != nil {
			t.Fatal(err)
		}
		s := Sample{Name: "test/000" + string(rune('0'+i)) + ".png", Image: picture, Truth: classes[i],
			Prediction: classes[9-i], Probability: 0.99 - 0.03*float64(i)}
		if i == 1 {
			s.Name = hostile
		}
		run.Mistakes = append(run.Mistakes, s)
		s.Prediction = s.Truth
		run.Samples = append(run.Samples, s)
	}
	for i := range 2 {
		truth := disc(160, 120, 70+20*i, 60, 35, 1, 2)
		triple, err := NewTriple("cells/"+string(rune('a'+i))+".png", slope(160, 120), &truth,
			disc(160, 120, 74, 63, 33, 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		run.Masks = append(run.Masks, triple)
	}
	alone, err := NewTriple(hostile, slope(90, 120), nil, vision.Mask{W: 9, H: 12, Classes: 2,
		Pixels: make([]uint8, 108)})
	if err != nil {
		t.Fatal(err)
	}
	run.Masks = append(run.Masks, alone)
	return run
}

// glyph is a grey figure.
func glyph(n, kind int) image.Image {
	img := image.NewGray(image.Rect(0, 0, n, n))
	for y := range n {
		for x := range n {
			u, v := float64(x-n/2), float64(y-n/2)
			d := math.Hypot(u, v*(1+float64(kind)/4)) - float64(n)/3
			img.SetGray(x, y, color.Gray{uint8(255 * math.Exp(-d*d/6))})
		}
	}
	return img
}
