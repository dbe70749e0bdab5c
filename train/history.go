package train

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"image/color"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Epoch is one line of a run's history. Training figures are means over the epoch, while the weights
// moved. Accuracies are NaN, in files absent, where values are to be predicted, and validation figures
// where an epoch was not validated.
type Epoch struct {
	Epoch              int     `json:"epoch"`
	TrainLoss          float64 `json:"train_loss"`
	TrainAccuracy      float64 `json:"train_accuracy"`
	ValidationLoss     float64 `json:"validation_loss"`
	ValidationAccuracy float64 `json:"validation_accuracy"`
	Seconds            float64 `json:"seconds"`
	ImagesPerSecond    float64 `json:"images_per_s"` // training alone
	LR                 float64 `json:"lr"`           // at its end

	Metrics map[string]float64 `json:"metrics,omitempty"` // of the validation, those asked for
}

// epochFile is an Epoch in files.
type epochFile struct {
	epochFields
	TrainAccuracy      *float64 `json:"train_accuracy,omitempty"`
	ValidationLoss     *float64 `json:"validation_loss,omitempty"`
	ValidationAccuracy *float64 `json:"validation_accuracy,omitempty"`
}

type epochFields Epoch

// MarshalJSON leaves out what does not exist.
func (e Epoch) MarshalJSON() ([]byte, error) {
	f := epochFile{epochFields: epochFields(e)}
	if !math.IsNaN(e.TrainAccuracy) {
		f.TrainAccuracy = &e.TrainAccuracy
	}
	if !math.IsNaN(e.ValidationLoss) {
		f.ValidationLoss = &e.ValidationLoss
	}
	if !math.IsNaN(e.ValidationAccuracy) {
		f.ValidationAccuracy = &e.ValidationAccuracy
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Epoch) UnmarshalJSON(b []byte) error {
	var f epochFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return err
	}
	*e = Epoch(f.epochFields)
	e.TrainAccuracy, e.ValidationLoss = value(f.TrainAccuracy, math.NaN()), value(f.ValidationLoss,
		math.NaN())
	e.ValidationAccuracy = value(f.ValidationAccuracy, math.NaN())
	return nil
}

// WriteCSV writes the history, atomically; a column for each metric stands behind the others.
func WriteCSV(path string, history []Epoch) error {
	return onnxio.WriteFile(path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		metrics := map[string]bool{}
		for _, e := range history {
			for name := range e.Metrics {
				metrics[name] = true
			}
		}
		names := slices.Sorted(maps.Keys(metrics))
		_ = c.Write(append([]string{"epoch", "train_loss", "train_accuracy", "validation_loss",
			"validation_accuracy", "seconds",
			"images_per_s", "lr"}, names...))
		f := func(v float64, digits int) string {
			if math.IsNaN(v) {
				return ""
			}
			return strconv.FormatFloat(v, 'f', digits, 64)
		}
		for _, e := range history {
			row := []string{strconv.Itoa(e.Epoch), f(e.TrainLoss, 6), f(e.TrainAccuracy, 6),
				f(e.ValidationLoss, 6),
				f(e.ValidationAccuracy, 6), f(e.Seconds, 3), f(e.ImagesPerSecond, 1),
				strconv.FormatFloat(e.LR, 'g', 6, 64)}
			for _, name := range names {
				cell := ""
				if v, ok := e.Metrics[name]; ok {
					cell = f(v, 6)
				}
				row = append(row, cell)
			}
			_ = c.Write(row)
		}
		c.Flush()
		return c.Error()
	})
}

// The plot's colours: blue for training, orange for validation, told apart by people who
// do not see red and green.
var (
	trainColor      = color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}
	validationColor = color.RGBA{R: 0xe6, G: 0x7e, B: 0x22, A: 0xff}
	gridColor       = color.RGBA{R: 0xe4, G: 0xe4, B: 0xe4, A: 0xff}
)

// Plot draws loss and accuracy over the epochs as a PNG, atomically.
func Plot(path string, history []Epoch) error {
	loss, err := panel(history, "Loss", func(e Epoch) (float64, float64) {
		return e.TrainLoss, e.ValidationLoss
	})
	if err != nil {
		return err
	}
	img := vgimg.NewWith(vgimg.UseWH(10*vg.Inch, 4*vg.Inch), vgimg.UseDPI(120))
	canvas := draw.New(img)
	write := func() error {
		return onnxio.WriteFile(path, func(w io.Writer) error {
			_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
			return err
		})
	}
	loss.Legend.Top, loss.Title.Text = true, "Loss"
	if !slices.ContainsFunc(history, func(e Epoch) bool { return !math.IsNaN(e.TrainAccuracy) }) {
		loss.Draw(canvas)
		return write()
	}
	accuracy, err := panel(history, "Accuracy, %", func(e Epoch) (float64, float64) {
		return 100 * e.TrainAccuracy, 100 * e.ValidationAccuracy
	})
	if err != nil {
		return err
	}
	accuracy.Legend.Top = false
	best := 0.0
	for _, e := range history {
		if e.ValidationAccuracy > best {
			best = e.ValidationAccuracy
		}
	}
	accuracy.Title.Text = fmt.Sprintf("Accuracy (best validation %.2f%%)", 100*best)
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: 16, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 12}
	loss.Draw(tiles.At(canvas, 0, 0))
	accuracy.Draw(tiles.At(canvas, 1, 0))
	return write()
}

// epochTicks marks whole epochs, about ten of them.
type epochTicks struct{}

// Ticks implements plot.Ticker.
func (epochTicks) Ticks(lo, hi float64) []plot.Tick {
	step := max(1, int((hi-lo)/10+0.999))
	var out []plot.Tick
	for e := 1; float64(e) <= hi; e++ {
		if (e-1)%step == 0 && float64(e) >= lo {
			out = append(out, plot.Tick{Value: float64(e), Label: strconv.Itoa(e)})
		}
	}
	return out
}

// appendPoint adds an epoch's figure, where there is one.
func appendPoint(points plotter.XYs, epoch int, v float64) plotter.XYs {
	if math.IsNaN(v) {
		return points
	}
	return append(points, plotter.XY{X: float64(epoch), Y: v})
}

func panel(history []Epoch, label string, values func(Epoch) (train, validation float64)) (*plot.Plot,
	error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "Epoch", label
	p.Title.TextStyle.Font.Size, p.Title.Padding = font.Length(14), 8
	p.X.Tick.Marker = epochTicks{}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridColor, gridColor
	p.Add(grid)
	var train, validation plotter.XYs
	for _, e := range history {
		a, b := values(e)
		train = appendPoint(train, e.Epoch, a)
		validation = appendPoint(validation, e.Epoch, b)
	}
	for _, s := range []struct {
		name   string
		points plotter.XYs
		color  color.Color
	}{{"training", train, trainColor}, {"validation", validation, validationColor}} {
		if len(s.points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = s.color, 1.6
		dots.Color, dots.Radius, dots.Shape = s.color, 2.6, draw.CircleGlyph{}
		if len(history) > 40 {
			dots.Radius = 1
		}
		p.Add(line, dots)
		p.Legend.Add(s.name, line, dots)
	}
	p.Legend.Padding, p.Legend.YOffs, p.Legend.XOffs = 3, 4, -6
	if len(history) == 1 {
		p.X.Min, p.X.Max = 0.5, 1.5
	}
	return p, nil
}
