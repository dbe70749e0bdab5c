package train

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// Files of a learning rate's search.
const (
	FindLRFile     = "find-lr.csv"
	FindLRPlotFile = "find-lr.png"
)

// FindLR says how to look for a learning rate: Smith, Cyclical Learning Rates for Training Neural Networks,
// arXiv:1506.01186, section 3.3. The rate grows exponentially from Low to High over so many steps of the
// optimiser, and the search ends early when the smoothed loss exceeds Diverged times its lowest, or a
// number is not finite any more. Zero values mean the default of the field's comment, which are those of
// fastai and PyTorch Lightning.
type FindLR struct {
	Low      float64 // 1e-7
	High     float64 // 10
	Steps    int     // 100
	Smooth   float64 // how much of the mean of the losses so far each step keeps, 0.98
	Diverged float64 // 4
}

// Validate names the first field that makes no sense.
func (f FindLR) Validate() error {
	_, err := f.filled()
	return err
}

func (f FindLR) filled() (FindLR, error) {
	f.Low, f.High, f.Smooth, f.Diverged = or(f.Low, 1e-7), or(f.High, 10), or(f.Smooth,
		0.98), or(f.Diverged, 4)
	if f.Steps == 0 {
		f.Steps = 100
	}
	switch {
	case !(f.Low > 0 && f.Low < f.High) || math.IsInf(f.High, 1):
		return f, fmt.Errorf(
			"the rates %v to %v are no range: it wants two positive numbers, the lower one first",
			f.Low, f.High)
	case f.Steps < minSweep:
		return f, fmt.Errorf("%d steps are too few to tell a slope: at least %d", f.Steps, minSweep)
	case !(f.Smooth > 0 && f.Smooth < 1) || !(f.Diverged > 1):
		return f, fmt.Errorf("smooth must be in (0,1), and diverged above 1")
	}
	return f, nil
}

// minSweep is the least number of steps.
const minSweep = 10

// SweepStep is one step of a search.
type SweepStep struct {
	LR   float64 `json:"lr"`
	Loss float64 `json:"loss"` // of the step's images, before the step
	// exponentially weighted mean of the losses so far, its bias towards 0 corrected
	Smoothed float64 `json:"smoothed"`
}

// Sweep is what a search for the learning rate saw.
type Sweep struct {
	Steps []SweepStep `json:"steps"`
	// Suggestion is the rate at which the smoothed loss falls most steeply over the logarithm of the rate, as
	// PyTorch Lightning has it; 0 where it does not fall. The first tenth of the steps, which the smoothing
	// has not settled in, and the last are left out, here and for Lowest, and so are those behind the lowest
	// loss, where it may fall from a height that it has just been thrown to.
	Suggestion float64 `json:"suggestion"`
	// Lowest is the rate at which the smoothed loss is lowest. A tenth of it is fastai's
	// older, more careful suggestion.
	Lowest   float64 `json:"lowest"`
	Diverged bool    `json:"diverged"` // the search ended before its last step
}

// FindLR looks for a learning rate for the recipe, whose own rate, schedule and averages do not count. It
// takes the training images in the order of a run. The model is not changed, and nothing is written. When ctx
// ends, so does the search, with its error.
func (recipe Recipe) FindLR(ctx context.Context, model *onnxio.Model, splits data.Splits,
	find FindLR) (*Sweep, error) {
	find, err := find.filled()
	if err != nil {
		return nil, err
	}
	if recipe.Comm != nil && recipe.Comm.Size() > 1 {
		return nil, fmt.Errorf("a learning rate is looked for in one process")
	}
	recipe.LR, recipe.Schedule, recipe.EMA, recipe.SWA = find.Low, Schedule{}, 0, SWA{}
	own := withOwnInitializers(model)
	own.Metadata = append([]onnxio.Property{}, model.Metadata...)
	r := &run{Trainer: &Trainer{cfg: recipe.Config, model: own}, unlock: func() {}, recipe: recipe,
		splits: splits, result: &Result{Model: own}, at: 1}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.Close()
	return r.sweep(ctx, find)
}

// sweep makes the search's steps.
func (r *run) sweep(ctx context.Context, find FindLR) (*Sweep, error) {
	s, mean, lowest := &Sweep{}, 0.0, math.Inf(1)
	f := r.feeder(0)
	defer func() { f.stop() }()
	for i := range find.Steps {
		r.cfg.LR = find.Low * math.Pow(find.High/find.Low, float64(i)/float64(find.Steps-1))
		if r.done == r.batches { // another epoch
			f.stop()
			r.at, r.done = r.at+1, 0
			f = r.feeder(0)
		}
		loss, err := r.sweepStep(ctx, f)
		var diverged *DivergedError
		if s.Diverged = errors.As(err, &diverged); s.Diverged {
			break
		}
		if err != nil {
			return nil, err
		}
		mean = find.Smooth*mean + (1-find.Smooth)*loss
		smoothed := mean / (1 - math.Pow(find.Smooth, float64(i+1)))
		s.Steps = append(s.Steps, SweepStep{r.cfg.LR, loss, smoothed})
		lowest = min(lowest, smoothed)
		if s.Diverged = smoothed > find.Diverged*lowest && i > 0; s.Diverged {
			break
		}
	}
	steps := settled(s.Steps)
	if n := lowestOf(steps); n > 0 {
		s.Suggestion, s.Lowest = steepest(steps), steps[n-1].LR
	}
	return s, nil
}

// sweepStep takes batches until the optimiser has made its step, and gives the mean loss of their images.
func (r *run) sweepStep(ctx context.Context, f *feeder) (float64, error) {
	r.lossSum, r.seen = 0, 0
	for before := r.updates(); r.updates() == before; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := r.step(ctx, f); err != nil {
			return 0, err
		}
	}
	return r.lossSum / float64(r.seen), nil
}

// steepest is the rate at the least slope of the smoothed loss. The logarithms of the rates are
// evenly spaced, so that central differences (at the ends one-sided, as numpy.gradient has them)
// need no division by that.
func steepest(steps []SweepStep) float64 {
	rate, least := 0.0, 0.0
	for i, s := range steps[:lowestOf(steps)] {
		lo, hi := max(0, i-1), min(len(steps)-1, i+1)
		if hi == lo {
			break
		}
		if slope := (steps[hi].Smoothed - steps[lo].Smoothed) / float64(hi-lo); slope < least {
			rate, least = s.LR, slope
		}
	}
	return rate
}

// settled leaves out the first tenth of the steps, which the smoothing has not settled in, and the last one.
func settled(steps []SweepStep) []SweepStep {
	return steps[len(steps)/10 : max(len(steps)/10, len(steps)-1)]
}

// lowestOf is the number of steps up to the lowest smoothed loss.
func lowestOf(steps []SweepStep) int {
	n := 0
	for i, s := range steps {
		if n == 0 || s.Smoothed < steps[n-1].Smoothed {
			n = i + 1
		}
	}
	return n
}

// WriteCSV writes a line for each step, atomically.
func (s *Sweep) WriteCSV(path string) error {
	return onnxio.WriteFile(path, func(w io.Writer) error {
		c := csv.NewWriter(w)
		_ = c.Write([]string{"step", "lr", "loss", "smoothed_loss"})
		f := func(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }
		for i, p := range s.Steps {
			_ = c.Write([]string{strconv.Itoa(i + 1), f(p.LR), f(p.Loss), f(p.Smoothed)})
		}
		c.Flush()
		return c.Error()
	})
}

// Plot draws the losses over the learning rate as a PNG, atomically, with the suggestion marked.
func (s *Sweep) Plot(path string) error {
	if len(s.Steps) == 0 {
		return fmt.Errorf("the search has no step to draw: its first loss was not finite")
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = "Loss over the learning rate", "Learning rate", "Loss"
	p.Title.TextStyle.Font.Size, p.Title.Padding = font.Length(14), 8
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridColor, gridColor
	p.Add(grid)
	raw, smoothed := make(plotter.XYs, len(s.Steps)), make(plotter.XYs, len(s.Steps))
	for i, step := range s.Steps {
		raw[i], smoothed[i] = plotter.XY{X: step.LR, Y: step.Loss}, plotter.XY{X: step.LR, Y: step.Smoothed}
	}
	if err := addLine(p, "of a step", raw, color.RGBA{R: 0xb8, G: 0xcc, B: 0xe0, A: 0xff}, 1); err != nil {
		return err
	}
	if err := addLine(p, "smoothed", smoothed, trainColor, 1.8); err != nil {
		return err
	}
	if err := s.mark(p); err != nil {
		return err
	}
	p.Y.Min, p.Y.Max = s.heights()
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding, p.Legend.YOffs, p.Legend.XOffs = 3, -6, 6
	img := vgimg.NewWith(vgimg.UseWH(7*vg.Inch, 4*vg.Inch), vgimg.UseDPI(120))
	p.Draw(draw.Crop(draw.New(img), 8, -12, 8, -8))
	return onnxio.WriteFile(path, func(w io.Writer) error {
		_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
		return err
	})
}

// decades marks the powers of ten.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(lo, hi float64) []plot.Tick {
	var out []plot.Tick
	for e := int(math.Floor(math.Log10(lo))); e <= int(math.Ceil(math.Log10(hi))); e++ {
		// The text of a power is its shortest one; math.Pow may be off by a rounding.
		power, err := strconv.ParseFloat(fmt.Sprintf("1e%d", e), 64)
		if err == nil && power >= lo*(1-1e-9) && power <= hi*(1+1e-9) {
			out = append(out, plot.Tick{Value: power, Label: strconv.FormatFloat(power, 'g', -1, 64)})
		}
		for k := 2.; k < 10; k++ {
			if v := k * power; v >= lo && v <= hi {
				out = append(out, plot.Tick{Value: v})
			}
		}
	}
	return out
}

// heights is the range of losses to draw: up to one and a half times the first one, since those of a search
// that diverges know no bounds.
func (s *Sweep) heights() (lo, hi float64) {
	lo, hi = math.Inf(1), 0
	for _, step := range s.Steps {
		lo, hi = min(lo, step.Loss, step.Smoothed), max(hi, step.Smoothed)
	}
	hi = min(hi, 1.5*s.Steps[0].Smoothed)
	room := max(hi-lo, 1e-6) / 10
	return max(0, lo-room), hi + room
}

// mark puts a dot on the suggestion.
func (s *Sweep) mark(p *plot.Plot) error {
	for _, step := range s.Steps {
		if step.LR != s.Suggestion {
			continue
		}
		dot, err := plotter.NewScatter(plotter.XYs{{X: step.LR, Y: step.Smoothed}})
		if err != nil {
			return err
		}
		dot.GlyphStyle = draw.GlyphStyle{Color: validationColor, Radius: 4.5, Shape: draw.CircleGlyph{}}
		p.Add(dot)
		p.Legend.Add(fmt.Sprintf("steepest: %.3g", s.Suggestion), dot)
	}
	return nil
}

func addLine(p *plot.Plot, name string, points plotter.XYs, c color.Color, width vg.Length) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c, width
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}
