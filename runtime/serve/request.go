package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// request asks a model once.
type request struct {
	id       string
	inputs   map[string]*onnxio.Tensor
	outputs  []wanted // none: all of the model's
	binary   bool     // outputs that do not say otherwise
	timeout  time.Duration
	priority uint64 // 0: the model's default
}

// wanted is an output that a request asks for.
type wanted struct {
	name    string
	binary  *bool
	classes int // above 0: the likeliest classes, in words
}

// The JSON of a request. Parameters that are not here are those of extensions that change nothing.
type (
	jsonRequest struct {
		ID         string        `json:"id"`
		Parameters parameters    `json:"parameters"`
		Inputs     []*jsonInput  `json:"inputs"`
		Outputs    []*jsonOutput `json:"outputs"`
	}
	jsonInput struct {
		Name       string          `json:"name"`
		Shape      []int64         `json:"shape"`
		Datatype   string          `json:"datatype"`
		Parameters parameters      `json:"parameters"`
		Data       json.RawMessage `json:"data"`
	}
	jsonOutput struct {
		Name       string     `json:"name"`
		Parameters parameters `json:"parameters"`
	}
	parameters struct {
		BinaryDataSize   *int64          `json:"binary_data_size"`
		BinaryData       *bool           `json:"binary_data"`
		BinaryDataOutput bool            `json:"binary_data_output"`
		Classification   int             `json:"classification"`
		Timeout          uint64          `json:"timeout"` // microseconds
		Priority         uint64          `json:"priority"`
		Sequence         json.RawMessage `json:"sequence_id"`
		SharedMemory     string          `json:"shared_memory_region"`
	}
)

// maxObjects bounds the objects in a request's JSON: "{}," takes three bytes of text, and 168 as an input.
const maxObjects = 4096

// jsonMemory is what decoding a JSON text takes at most besides the text: a copy of it, 8 bytes a number, a
// slice a string.
func jsonMemory(text []byte) (int64, error) {
	objects, commas, quotes := 0, 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quotes++
		case c == '\\':
			i++
		case quotes%2 == 1:
		case c == '{':
			objects++
		case c == ',':
			commas++
		}
	}
	if objects > maxObjects {
		return 0, invalid("the request has %d JSON objects: %d at most", objects, maxObjects)
	}
	return int64(len(text)) + 8*int64(commas) + 16*int64(quotes), nil
}

// maxTimeout is the longest timeout that a request can ask for.
const maxTimeout = 24 * time.Hour

// decodeRequest reads a request: header bytes of JSON, and behind them the elements of inputs in binary;
// header is negative where all is JSON.
func decodeRequest(body []byte, header int64) (*request, error) {
	if header > int64(len(body)) {
		return nil, invalid("Inference-Header-Content-Length is %d, but the body has %d bytes",
			header, len(body))
	}
	text, rest := body, []byte(nil)
	if header >= 0 {
		text, rest = body[:header], body[header:]
	}
	var j jsonRequest
	err := json.Unmarshal(text, &j) // a json.Decoder would copy the text
	switch {
	case err != nil && strings.HasSuffix(err.Error(), "after top-level value"):
		return nil, invalid("something follows the JSON of the request: binary data need the header %s",
			headerLength)
	case err != nil:
		return nil, invalid("the request is no JSON of the protocol: %w", err)
	}
	return j.request(rest)
}

func (j *jsonRequest) request(rest []byte) (*request, error) {
	r := &request{id: j.ID, inputs: make(map[string]*onnxio.Tensor, len(j.Inputs)),
		binary: j.Parameters.BinaryDataOutput}
	if err := r.scheduled(j.Parameters.Timeout, j.Parameters.Priority,
		string(j.Parameters.Sequence)); err != nil {
		return nil, err
	}
	for _, in := range j.Inputs {
		if in == nil {
			return nil, invalid("an input is null")
		}
		t, left, err := in.tensor(rest)
		if err != nil {
			return nil, invalid("input %q: %w", in.Name, err)
		}
		if err := r.add(in.Name, t); err != nil {
			return nil, err
		}
		rest = left
	}
	if len(rest) > 0 {
		return nil, invalid("%d bytes of binary data belong to no input", len(rest))
	}
	for _, o := range j.Outputs {
		if o == nil {
			return nil, invalid("an output is null")
		}
		if o.Parameters.SharedMemory != "" {
			return nil, invalid("output %q: shared memory is not served", o.Name)
		}
		r.outputs = append(r.outputs, wanted{o.Name, o.Parameters.BinaryData, o.Parameters.Classification})
	}
	return r, nil
}

// scheduled takes what a request says of its turn.
func (r *request) scheduled(micros, priority uint64, sequence string) error {
	if sequence != "" && sequence != "0" && sequence != `""` && sequence != "null" {
		return invalid("sequences are not served: every request is for itself")
	}
	r.priority = priority
	r.timeout = maxTimeout
	if micros < uint64(maxTimeout/time.Microsecond) {
		r.timeout = time.Duration(micros) * time.Microsecond
	}
	return nil
}

func (r *request) add(name string, t *onnxio.Tensor) error {
	if r.inputs[name] != nil {
		return invalid("input %q is given twice", name)
	}
	t.Name = name
	r.inputs[name] = t
	return nil
}

// tensor reads the input's elements, from data or from the front of rest; left is what remains of that.
func (in *jsonInput) tensor(rest []byte) (t *onnxio.Tensor, left []byte, err error) {
	if in.Parameters.SharedMemory != "" {
		return nil, nil, fmt.Errorf("shared memory is not served")
	}
	typ, err := parseDatatype(in.Datatype)
	if err != nil {
		return nil, nil, err
	}
	if len(in.Shape) > maxRank {
		return nil, nil, fmt.Errorf("a shape of %d dimensions", len(in.Shape))
	}
	size := in.Parameters.BinaryDataSize
	switch {
	case size == nil && in.Data == nil:
		return nil, nil, fmt.Errorf("neither data nor binary_data_size")
	case size == nil:
		t, err = fromJSON(typ, in.Shape, in.Data)
		return t, rest, err
	case in.Data != nil:
		return nil, nil, fmt.Errorf("both data and binary_data_size")
	case *size < 0 || *size > int64(len(rest)):
		return nil, nil, fmt.Errorf("binary_data_size is %d, but %d bytes are left", *size, len(rest))
	}
	t, err = fromRaw(typ, in.Shape, rest[:*size:*size])
	return t, rest[*size:], err
}

// maxRank bounds a tensor's dimensions.
const maxRank = 32
