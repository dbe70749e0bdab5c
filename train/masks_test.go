package train

import (
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// blocks is a data set of 16x16 pixels of noise in blocks, whose mask is how bright
// they are, in some classes.
func blocks(t *testing.T, n, classes int) data.Splits {
	t.Helper()
	part := func(n int, key uint64) data.Dataset {
		pixels, masks := make([]uint8, n*256), make([]uint8, n*256)
		for i := range n {
			for j, v := range uniform(16, key+uint64(i)) {
				for k := range 16 {
					at := i*256 + (j/4*4+k/4)*16 + j%4*4 + k%4
					pixels[at] = uint8((v + 1) * 127.9)
					masks[at] = uint8((v + 1) / 2 * 0.999 * float32(classes))
				}
			}
		}
		d, err := data.NewImages([3]int{1, 16, 16}, pixels, make([]uint8, n),
			[]string{"dark", "grey", "bright"}[:classes], []float32{0.5}, []float32{0.25})
		if err != nil {
			t.Fatal(err)
		}
		d.Masks = masks
		return d
	}
	return data.Splits{Name: "blocks", Train: part(n, 1), Validation: part(20, 9000), Mean: []float32{0.5},
		Std: []float32{0.25}}
}

func unet(t *testing.T, classes int) *onnxio.Model {
	t.Helper()
	m, err := builders.Build("unet", builders.Config{Input: [3]int{1, 16, 16}, Depth: 2, Width: 4,
		Classes: classes})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Every loss that takes masks learns them, and so does cross-entropy over three classes of pixels.
func TestMasksAreLearnt(t *testing.T) {
	if testing.Short() {
		t.Skip("trains again and again: run without -short")
	}
	for _, loss := range []string{LossAuto, LossSigmoidFocal, LossDice, LossJaccard, LossTversky, LossBCEDice,
		LossCrossEntropy} {
		t.Run(loss, func(t *testing.T) {
			classes, channels := 2, 1
			if loss == LossCrossEntropy {
				classes, channels = 3, 3
			}
			cfg := Config{Epochs: 12, Batch: 8, Loss: loss, Optimizer: "adam", LR: 5e-3,
				Metrics: []string{"iou", "dice"}, Monitor: "iou"}
			res, err := Run(t.Context(), unet(t, channels), blocks(t, 120, classes), cfg,
				t.TempDir(), Observer{})
			if err != nil {
				t.Fatal(err)
			}
			best := res.History[res.Best]
			if best.Metrics["iou"] < 0.8 || best.ValidationAccuracy < 0.85 ||
				best.Metrics["dice"] < best.Metrics["iou"] {
				t.Errorf("%+v", best)
			}
			t.Logf("accuracy %.3f, IoU %.3f", best.ValidationAccuracy, best.Metrics["iou"])
		})
	}
}

func TestMasksAndLabelsAreToldApart(t *testing.T) {
	cfg := Config{Epochs: 1, Batch: 8, Optimizer: "adam", LR: 1e-3}
	bce := cfg
	bce.Loss = LossBCE
	if _, err := Run(t.Context(), unet(t, 3), blocks(t, 16, 3), bce, "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "--classes 1") {
		t.Error(err)
	}
	m, err := builders.Build("lenet5", builders.Config{Input: [3]int{1, 16, 16}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), m, blocks(t, 16, 2), cfg, "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "has masks") {
		t.Error(err)
	}
}
