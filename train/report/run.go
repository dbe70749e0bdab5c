package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"maps"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
)

// State says how far a run is.
type State string

// The states.
const (
	Running     State = "running"
	Finished    State = "finished"
	Interrupted State = "interrupted"
	Failed      State = "failed"
)

// Run is all that a report says about a run. The zero value is a run of which nothing is known yet.
type Run struct {
	Title       string          `json:"title"`
	State       State           `json:"state"`
	Message     string          `json:"message,omitempty"` // why the run ended, where it did not just finish
	Started     time.Time       `json:"started,omitzero"`
	Ended       time.Time       `json:"ended,omitzero"`
	Planned     int             `json:"planned,omitempty"` // epochs
	Best        int             `json:"best,omitempty"`    // the number of the best epoch; 0: none yet
	Config      json.RawMessage `json:"config,omitempty"`  // the resolved recipe
	Environment []Entry         `json:"environment,omitempty"`
	Epochs      []Epoch         `json:"epochs"`
	Confusion   *Confusion      `json:"confusion,omitempty"`
	Mistakes    []Sample        `json:"mistakes,omitempty"` // the worst first
	Samples     []Sample        `json:"samples,omitempty"`
	Masks       []Triple        `json:"masks,omitempty"`
}

// Entry is a line of a table.
type Entry struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Confusion counts, for each class, what its samples were taken for: Counts[label][prediction].
type Confusion struct {
	Classes []string  `json:"classes"`
	Counts  [][]int64 `json:"counts"`
}

// Sample is an image with what it is and what the model takes it for.
type Sample struct {
	Name        string  `json:"name"` // its file, or its number
	Image       []byte  `json:"image"`
	Truth       string  `json:"truth"`
	Prediction  string  `json:"prediction"`
	Probability float64 `json:"probability"` // of the prediction, 0..1
}

// Triple is an image with its true mask and the predicted one, all PNG; Truth may be nil.
// Compare makes pictures of masks.
type Triple struct {
	Name       string             `json:"name"`
	Input      []byte             `json:"input"`
	Truth      []byte             `json:"truth,omitempty"`
	Prediction []byte             `json:"prediction"`
	Scores     map[string]float64 `json:"scores,omitempty"` // iou, dice
}

// Epoch is the figures of one epoch. In JSON it is one flat object, {"epoch":1,"lr":0.01,...}; figures that
// are not finite are null there, and NaN when they are read again.
type Epoch struct {
	Epoch  int
	Values map[string]float64
}

// MarshalJSON writes the epoch first, then the figures by name.
func (e Epoch) MarshalJSON() ([]byte, error) {
	b := strconv.AppendInt([]byte(`{"epoch":`), int64(e.Epoch), 10)
	for _, name := range slices.Sorted(maps.Keys(e.Values)) {
		if name == "epoch" {
			return nil, fmt.Errorf("epoch %d: a figure named %q", e.Epoch, name)
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, ','), key...), ':')
		v := e.Values[name]
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
			continue
		}
		number, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		b = append(b, number...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Epoch) UnmarshalJSON(b []byte) error {
	var all map[string]*float64
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	n := all["epoch"]
	if n == nil || *n != math.Trunc(*n) || math.Abs(*n) > 1<<31 {
		return fmt.Errorf("an epoch without a whole number %q", "epoch")
	}
	delete(all, "epoch")
	e.Epoch, e.Values = int(*n), make(map[string]float64, len(all))
	for name, v := range all {
		e.Values[name] = math.NaN()
		if v != nil {
			e.Values[name] = *v
		}
	}
	return nil
}

// PNG encodes an image for a Sample or a Triple.
func PNG(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Pixels is the image of pixels [c,h,w] of 1 or 3 channels.
func Pixels(c, h, w int, pixels []uint8) (image.Image, error) {
	if (c != 1 && c != 3) || h < 1 || w < 1 || len(pixels) != c*h*w {
		return nil, fmt.Errorf("%d values are no image [%d,%d,%d] of 1 or 3 channels", len(pixels), c, h, w)
	}
	if c == 1 {
		return &image.Gray{Pix: slices.Clone(pixels), Stride: w, Rect: image.Rect(0, 0, w, h)}, nil
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3] = pixels[i], pixels[h*w+i],
			pixels[2*h*w+i], 255
	}
	return img, nil
}

// Environment describes this process and the machine that it runs on, without naming it.
func Environment() []Entry {
	version := "unknown"
	out := []Entry{{"Go", runtime.Version()}, {"platform", runtime.GOOS + "/" + runtime.GOARCH},
		{"threads", strconv.Itoa(runtime.GOMAXPROCS(0))}}
	if cpu := strings.TrimSpace(cpuid.CPU.BrandName); cpu != "" {
		out = append(out, Entry{"processor", cpu})
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				out = append(out, Entry{"revision", s.Value})
			}
		}
	}
	return append([]Entry{{"cnnkit", version}}, out...)
}
