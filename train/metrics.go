package train

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Confusion counts, for each class, what its samples were taken for: Counts[label][prediction].
type Confusion struct {
	Classes []string  `json:"classes"`
	Counts  [][]int64 `json:"counts"`
}

// NewConfusion is a matrix of zeros.
func NewConfusion(classes []string) *Confusion {
	c := &Confusion{Classes: classes, Counts: make([][]int64, len(classes))}
	for i := range c.Counts {
		c.Counts[i] = make([]int64, len(classes))
	}
	return c
}

// ClassScore is how well one class was told from the others. With TP, FP and FN counted: precision
// TP/(TP+FP), recall TP/(TP+FN), F1 (the same as Dice) 2TP/(2TP+FP+FN), IoU TP/(TP+FP+FN); 0 where
// nothing is to be divided by.
type ClassScore struct {
	Class     string  `json:"class"`
	Samples   int64   `json:"samples"` // that are of it
	Answers   int64   `json:"answers"` // that were taken for it
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
	IoU       float64 `json:"iou"`
}

// Occurs reports whether the class occurs, as a target or as an answer: else its scores do not exist.
func (s ClassScore) Occurs() bool { return s.Samples+s.Answers > 0 }

// classScore scores a class of so many samples, for which so many answers were given, tp of them rightly.
func classScore(name string, tp, samples, answers int64) ClassScore {
	return ClassScore{Class: name, Samples: samples, Answers: answers,
		Precision: ratio(tp, answers), Recall: ratio(tp, samples), F1: ratio(2*tp, samples+answers),
		IoU: ratio(tp, samples+answers-tp)}
}

// PerClass scores every class.
func (c *Confusion) PerClass() []ClassScore {
	out := make([]ClassScore, len(c.Counts))
	for i, row := range c.Counts {
		tp, of, as := row[i], int64(0), int64(0)
		for j, n := range row {
			of += n
			as += c.Counts[j][i]
		}
		out[i] = classScore(c.Classes[i], tp, of, as)
	}
	return out
}

// Accuracy is the share on the diagonal.
func (c *Confusion) Accuracy() float64 {
	right, all := int64(0), int64(0)
	for i, row := range c.Counts {
		right += row[i]
		for _, n := range row {
			all += n
		}
	}
	return ratio(right, all)
}

// Macro is the plain mean of the scores over the classes that occur, as a label or as a prediction.
func (c *Confusion) Macro() ClassScore {
	mean, n := ClassScore{Class: "mean"}, 0.0
	for _, s := range occurring(c.PerClass()) {
		n++
		mean.Samples += s.Samples
		mean.Answers += s.Answers
		mean.Precision += s.Precision
		mean.Recall += s.Recall
		mean.F1 += s.F1
		mean.IoU += s.IoU
	}
	if n > 0 {
		mean.Precision, mean.Recall, mean.F1, mean.IoU = mean.Precision/n, mean.Recall/n,
			mean.F1/n, mean.IoU/n
	}
	return mean
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// InTop says whether label is among the k largest values of a row; of equal ones the first is the largest.
func InTop(row []float32, label, k int) bool {
	before := 0
	for i, v := range row {
		if v > row[label] || v == row[label] && i < label {
			before++
		}
	}
	return before < k
}

// AUC is the area under the receiver operating characteristic: the chance that a positive has a higher
// score than a negative, equal scores counting half (Mann and Whitney's U). NaN when there are only
// positives or only negatives.
func AUC(scores []float64, positive []bool) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	var pos, neg, u float64
	for at := 0; at < len(order); {
		end, p, n := at, 0.0, 0.0
		for ; end < len(order) && scores[order[end]] == scores[order[at]]; end++ {
			if positive[order[end]] {
				p++
			} else {
				n++
			}
		}
		u += p * (neg + n/2)
		pos, neg, at = pos+p, neg+n, max(end, at+1)
	}
	return u / (pos * neg)
}

// AveragePrecision is the sum over the scores, from the highest, of what the recall gains times the precision
// there, as scikit-learn's average_precision_score has it. NaN when there are no positives.
func AveragePrecision(scores []float64, positive []bool) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	found, sum := 0.0, 0.0
	for at := 0; at < len(order); {
		end, gained := at, 0.0
		for ; end < len(order) && scores[order[end]] == scores[order[at]]; end++ {
			if positive[order[end]] {
				gained++
			}
		}
		found += gained
		sum += gained * found / float64(end)
		at = max(end, at+1)
	}
	return sum / found
}

// MacroAUC is the mean of each class's AUC against all others; rows are the samples' probabilities
// [len(labels),classes]. Classes that no sample or every sample is of are left out.
func MacroAUC(rows []float64, labels []int, classes int) float64 {
	sum, n := 0.0, 0.0
	scores, positive := make([]float64, len(labels)), make([]bool, len(labels))
	for c := range classes {
		for i, label := range labels {
			scores[i], positive[i] = rows[i*classes+c], label == c
		}
		if a := AUC(scores, positive); !math.IsNaN(a) {
			sum, n = sum+a, n+1
		}
	}
	return sum / n
}

// shades colour a confusion matrix, from white to blue.
type shades struct{}

// Colors implements palette.Palette.
func (shades) Colors() []color.Color {
	out := make([]color.Color, 256)
	for i := range out {
		f := float64(i) / 255
		mix := func(to uint8) uint8 { return uint8(255 - f*float64(255-to)) }
		out[i] = color.RGBA{mix(trainColor.R), mix(trainColor.G), mix(trainColor.B), 255}
	}
	return out
}

// grid implements plotter.GridXYZ: the share of each class's samples, the first class on top.
type grid struct{ c *Confusion }

func (g grid) Dims() (int, int) { return len(g.c.Counts), len(g.c.Counts) }
func (g grid) X(c int) float64  { return float64(c) }
func (g grid) Y(r int) float64  { return float64(r) }
func (g grid) Z(col, row int) float64 {
	counts, sum := g.c.Counts[len(g.c.Counts)-1-row], int64(0)
	for _, n := range counts {
		sum += n
	}
	return ratio(counts[col], sum)
}

// Plot draws the matrix as a PNG, atomically: labels downwards, predictions to the right, the shade being the
// share of the label's samples. Up to 20 classes the counts are written into it.
func (c *Confusion) Plot(path string) error {
	n := len(c.Counts)
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Confusion (accuracy %.2f%%)", 100*c.Accuracy())
	p.X.Label.Text, p.Y.Label.Text = "Prediction", "Label"
	p.Title.TextStyle.Font.Size, p.Title.Padding = font.Length(14), 8
	heat := plotter.NewHeatMap(grid{c}, shades{})
	heat.Min, heat.Max = 0, 1
	p.Add(heat)
	var xs, ys []plot.Tick
	var cells plotter.XYLabels
	for i, class := range c.Classes {
		xs = append(xs, plot.Tick{Value: float64(i), Label: class})
		ys = append(ys, plot.Tick{Value: float64(n - 1 - i), Label: class})
		for j, count := range c.Counts[i] {
			if count > 0 && n <= 20 {
				cells.XYs = append(cells.XYs, plotter.XY{X: float64(j), Y: float64(n - 1 - i)})
				cells.Labels = append(cells.Labels, strconv.FormatInt(count, 10))
			}
		}
	}
	if len(cells.Labels) > 0 {
		labels, err := plotter.NewLabels(cells)
		if err != nil {
			return err
		}
		for k, at := range cells.XYs {
			style := &labels.TextStyle[k]
			style.XAlign, style.YAlign = draw.XCenter, draw.YCenter
			if heat.GridXYZ.Z(int(at.X), int(at.Y)) > 0.5 {
				style.Color = color.White
			}
		}
		p.Add(labels)
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.ConstantTicks(xs), plot.ConstantTicks(ys)
	if slices.ContainsFunc(c.Classes, func(s string) bool { return len(s) > 3 }) {
		p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/4, draw.XRight,
			draw.YCenter
	}
	size := vg.Length(min(12, 4+0.35*float64(n))) * vg.Inch
	img := vgimg.NewWith(vgimg.UseWH(size, size), vgimg.UseDPI(120))
	p.Draw(draw.Crop(draw.New(img), 8, -12, 8, -8))
	return onnxio.WriteFile(path, func(w io.Writer) error {
		_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
		return err
	})
}
