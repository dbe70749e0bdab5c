package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"image"
	"image/png"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// maxPixels bounds the images that clients send.
const maxPixels = 50_000_000

// pixelBytes is what a pixel takes while an image is decoded and prepared.
const pixelBytes = 16

// classification is the answer of POST /v2/models/MODEL/classify, whose body is an image
// file: cnnkit's own extension.
type classification struct {
	Model   string         `json:"model_name"`
	Version string         `json:"model_version"`
	Top     []vision.Guess `json:"top"`
	Took    float64        `json:"took_ms"` // to decode, prepare, wait and compute
}

// segmentation is the answer of POST /v2/models/MODEL/segment.
type segmentation struct {
	Model   string       `json:"model_name"`
	Version string       `json:"model_version"`
	Width   int          `json:"width"`
	Height  int          `json:"height"`
	Classes []classShare `json:"classes"`
	Mask    string       `json:"mask_png"` // base64; the gray level, or the palette's index, is the class
	Took    float64      `json:"took_ms"`
}

// classShare is a class that a mask has.
type classShare struct {
	Class int     `json:"class"`
	Label string  `json:"label"`
	Share float64 `json:"share"` // of the pixels
	Color string  `json:"color"`
}

// pictured is an image that went through a model.
type pictured struct {
	image  image.Image
	output *onnxio.Tensor
	start  time.Time
}

func (p *pictured) took() float64 { return float64(time.Since(p.start).Microseconds()) / 1000 }

func (s *Server) classify(w http.ResponseWriter, r *http.Request) error {
	return s.withImage(w, r, func(m *model, p *pictured) error {
		if m.meaning.Output.Task == spec.Masks {
			return invalid("%s gives masks: ask /segment", m.name)
		}
		k := 5
		if text := r.URL.Query().Get("top"); text != "" {
			var err error
			if k, err = strconv.Atoi(text); err != nil || k < 1 {
				return invalid("top is %q: a number from 1 on is wanted", printable(text))
			}
		}
		all, err := vision.Answers(p.output, m.meaning.Output, k, m.meaning.Labels)
		if err != nil {
			return &failure{http.StatusBadRequest, err}
		}
		s.json(w, http.StatusOK, classification{m.name, m.versionText(), all[0], p.took()})
		return nil
	})
}

func (s *Server) segment(w http.ResponseWriter, r *http.Request) error {
	return s.withImage(w, r, func(m *model, p *pictured) error {
		threshold := 0.5
		if text := r.URL.Query().Get("threshold"); text != "" {
			var err error
			if threshold, err = strconv.ParseFloat(text, 64); err != nil ||
				!(threshold > 0 && threshold < 1) {
				return invalid("threshold is %q: a number between 0 and 1 is wanted", printable(text))
			}
		}
		masks, err := vision.Masks(p.output, m.meaning.Output.Scale, threshold)
		if err != nil {
			return &failure{http.StatusBadRequest, err}
		}
		b := p.image.Bounds()
		return s.sendMask(w, r, m, p, masks[0].Resized(b.Dx(), b.Dy()))
	})
}

// sendMask answers with a mask as ?as=mask or ?as=overlay says, in JSON without.
func (s *Server) sendMask(w http.ResponseWriter, r *http.Request, m *model, p *pictured,
	mask vision.Mask) error {
	var img image.Image
	as := r.URL.Query().Get("as")
	switch as {
	case "", "mask":
		img = mask.Image()
	case "overlay":
		img = vision.Overlay(p.image, mask)
	default:
		return invalid("as is %q: mask or overlay is wanted", printable(as))
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		return err
	}
	if as != "" {
		s.send(w, http.StatusOK, "image/png", file.Bytes())
		return nil
	}
	s.json(w, http.StatusOK, segmentation{m.name, m.versionText(), mask.W, mask.H,
		shares(mask, m.meaning.Labels),
		base64.StdEncoding.EncodeToString(file.Bytes()), p.took()})
	return nil
}

// shares lists the classes of a mask.
func shares(mask vision.Mask, labels []string) []classShare {
	counts := make([]int, 256)
	for _, c := range mask.Pixels {
		counts[c]++
	}
	out := []classShare{}
	for c, n := range counts {
		if n == 0 {
			continue
		}
		label := strconv.Itoa(c)
		if c < len(labels) {
			label = labels[c]
		}
		rgb := vision.Color(c)
		out = append(out, classShare{c, label, float64(n) / float64(len(mask.Pixels)),
			hexColor(rgb.R, rgb.G, rgb.B)})
	}
	return out
}

func hexColor(parts ...uint8) string {
	const digits = "0123456789abcdef"
	out := []byte{'#'}
	for _, p := range parts {
		out = append(out, digits[p>>4], digits[p&15])
	}
	return string(out)
}

// withImage decodes the image that a request brings, runs the model on it and lets use answer.
func (s *Server) withImage(w http.ResponseWriter, r *http.Request, use func(*model, *pictured) error) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	start := time.Now()
	ctx, end := s.traced(r.Context(), propagation.HeaderCarrier(r.Header), m, "image")
	err = s.pictured(w, r.WithContext(ctx), m, start, use)
	end(err)
	s.measured(ctx, m, "image", start, err)
	return err
}

func (s *Server) pictured(w http.ResponseWriter, r *http.Request, m *model, start time.Time,
	use func(*model, *pictured) error) error {
	if m.meaning == nil {
		return invalid("%s takes no images: %s", m.name, m.foreign)
	}
	arrived := m.queue.expect()
	defer arrived()
	data, done, err := s.body(w, r)
	if err != nil {
		return err
	}
	defer done()
	limits := vision.Limits{Pixels: maxPixels, Bytes: s.opt.MaxBody}
	width, height, err := vision.Size(bytes.NewReader(data), limits)
	if err != nil {
		return &failure{http.StatusBadRequest, err}
	}
	size := int64(width) * int64(height) * pixelBytes
	if err := s.memory.reserve(size); err != nil {
		return err
	}
	defer s.memory.release(size)
	p := &pictured{start: start}
	if p.image, err = vision.Decode(bytes.NewReader(data), limits); err != nil {
		return &failure{http.StatusBadRequest, err}
	}
	if p.output, err = m.see(r.Context(), p.image, arrived); err != nil {
		return err
	}
	return use(m, p)
}

// see runs one image through the model's own transform.
func (m *model) see(ctx context.Context, img image.Image, arrived func()) (*onnxio.Tensor, error) {
	run := func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		out, err := m.inferAs(ctx, &request{inputs: map[string]*onnxio.Tensor{m.session.Inputs()[0].Name: x}},
			arrived)
		if err != nil {
			return nil, err
		}
		return out[m.session.Outputs()[0].Name], nil
	}
	y, err := vision.Adapt(m.meaning.Input, run)(ctx, vision.Input(img, m.meaning.Input))
	if err != nil {
		return nil, err
	}
	if len(y.Dims) == 0 || y.Dims[0] != 1 {
		return nil, invalid("the output is %v for one image", y.Dims)
	}
	return y, nil
}
