package builders

import (
	"math"
	"strconv"
)

// regnets are torchvision.models.regnet (Radosavovic et al. 2020): X without, Y with squeeze-and-excitation.
// Numbers are the paper's: depth, first width, slope and step of the widths, and channels a group.
var regnets = []network{
	regNet("regnet_x_400mf", "RegNetX-400MF", 22, 24, 24.48, 2.54, 16, 0),
	regNet("regnet_x_800mf", "RegNetX-800MF", 16, 56, 35.73, 2.28, 16, 0),
	regNet("regnet_x_1_6gf", "RegNetX-1.6GF", 18, 80, 34.01, 2.25, 24, 0),
	regNet("regnet_x_3_2gf", "RegNetX-3.2GF", 25, 88, 26.31, 2.25, 48, 0),
	regNet("regnet_x_8gf", "RegNetX-8GF", 23, 80, 49.56, 2.88, 120, 0),
	regNet("regnet_x_16gf", "RegNetX-16GF", 22, 216, 55.59, 2.1, 128, 0),
	regNet("regnet_x_32gf", "RegNetX-32GF", 23, 320, 69.86, 2.0, 168, 0),
	regNet("regnet_y_400mf", "RegNetY-400MF", 16, 48, 27.89, 2.09, 8, 0.25),
	regNet("regnet_y_800mf", "RegNetY-800MF", 14, 56, 38.84, 2.4, 16, 0.25),
	regNet("regnet_y_1_6gf", "RegNetY-1.6GF", 27, 48, 20.71, 2.65, 24, 0.25),
	regNet("regnet_y_3_2gf", "RegNetY-3.2GF", 21, 80, 42.63, 2.66, 24, 0.25),
	regNet("regnet_y_8gf", "RegNetY-8GF", 17, 192, 76.82, 2.19, 56, 0.25),
	regNet("regnet_y_16gf", "RegNetY-16GF", 18, 200, 106.23, 2.48, 112, 0.25),
	regNet("regnet_y_32gf", "RegNetY-32GF", 20, 232, 115.89, 2.53, 232, 0.25),
	regNet("regnet_y_128gf", "RegNetY-128GF", 27, 456, 160.83, 2.52, 264, 0.25),
}

// regStage is a stage of blocks of one width.
type regStage struct{ width, depth, group int }

// regStages follow from the widths w0 + wa*j of the blocks j, rounded to w0 times a power of wm and to
// eights; a stage is what has one width, fitted to its groups.
func regStages(depth, w0 int, wa, wm float64, group int) []regStage {
	var stages []regStage
	last := 0
	for j := range depth {
		linear := float64(w0) + wa*float64(j)
		power := math.RoundToEven(math.Log(linear/float64(w0)) / math.Log(wm))
		w := 8 * int(math.RoundToEven(float64(w0)*math.Pow(wm, power)/8))
		if w != last {
			stages = append(stages, regStage{width: w})
			last = w
		}
		stages[len(stages)-1].depth++
	}
	for i := range stages {
		s := &stages[i]
		s.group = min(group, s.width)
		fitted := max(s.group, (s.width+s.group/2)/s.group*s.group)
		if float64(fitted) < 0.9*float64(s.width) {
			fitted += s.group
		}
		s.width = fitted
	}
	return stages
}

func regNet(name, summary string, depth, w0 int, wa, wm float64, group int, squeeze float64) network {
	return classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		x := b.convNormAct("stem", b.Input(), 32, 3, re, Stride(2), WeightInit(KaimingNormal))
		for i, s := range regStages(depth, w0, wa, wm, group) {
			number := strconv.Itoa(i + 1)
			stage := b.Scope("trunk_output.block" + number)
			stride := 2
			for j := range s.depth {
				x = stage.Scope("block"+number+"-"+strconv.Itoa(j)).regBlock(x, s, stride, squeeze)
				stride = 1
			}
		}
		x = b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x))
		return b.Linear("fc", x, cfg.Classes, WeightInit(Normal(0.01)), BiasInit(Zeros))
	})
}

// regBlock is 1x1, 3x3 in groups, and 1x1, beside a shortcut.
func (b *Builder) regBlock(x Value, s regStage, stride int, squeeze float64) Value {
	if !b.is3("f", x) {
		return Value{}
	}
	he, in, shortcut := WeightInit(KaimingNormal), x.Shape[0], x
	if in != int64(s.width) || stride != 1 {
		shortcut = b.convNormAct("proj", x, s.width, 1, nil, Stride(stride), he)
	}
	f := b.Scope("f")
	y := f.convNormAct("a", x, s.width, 1, re, he)
	y = f.convNormAct("b", y, s.width, 3, re, Stride(stride), Groups(s.width/s.group), he)
	if squeeze > 0 {
		y = f.SqueezeExcitation("se", y, int(math.RoundToEven(squeeze*float64(in))), re,
			(*Builder).Sigmoid, he)
	}
	y = f.convNormAct("c", y, s.width, 1, nil, he)
	return b.ReLU("activation", b.Add("add", shortcut, y))
}
