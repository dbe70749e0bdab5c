package serve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/cnnkit/cnnkit/onnxio"
)

// infer answers POST /v2/models/MODEL/infer.
func (s *Server) infer(w http.ResponseWriter, r *http.Request) error {
	m, done, err := s.find(r)
	if err != nil {
		return err
	}
	defer done()
	start := time.Now()
	ctx, end := s.traced(r.Context(), propagation.HeaderCarrier(r.Header), m, "http")
	a, err := s.inferred(w, r.WithContext(ctx), m)
	end(err)
	s.measured(ctx, m, "http", start, err)
	if err != nil {
		return err
	}
	defer a.done()
	if a.header >= 0 {
		w.Header().Set(headerLength, strconv.Itoa(a.header))
	}
	s.send(w, http.StatusOK, a.kind, a.data)
	return nil
}

// answer is the body of a response; header is the length of its JSON where binary data follow, else negative.
// Its bytes count until done.
type answer struct {
	kind   string
	header int
	data   []byte
	done   func()
}

func (s *Server) inferred(w http.ResponseWriter, r *http.Request, m *model) (*answer, error) {
	arrived := m.queue.expect()
	defer arrived()
	header := int64(-1)
	if text := r.Header.Get(headerLength); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, invalid("%s is %q, no length", headerLength, printable(text))
		}
		header = n
	}
	data, done, err := s.body(w, r)
	if err != nil {
		return nil, err
	}
	defer done()
	text := data
	if header >= 0 {
		text = data[:min(header, int64(len(data)))]
	}
	size, err := jsonMemory(text)
	if err != nil {
		return nil, err
	}
	if err := s.memory.reserve(size); err != nil {
		return nil, err
	}
	defer s.memory.release(size)
	ask, err := decodeRequest(data, header)
	if err != nil {
		return nil, err
	}
	out, err := m.inferAs(r.Context(), ask, arrived)
	if err != nil {
		return nil, err
	}
	list, err := m.respond(ask, out)
	if err != nil {
		return nil, err
	}
	size = answerSize(ask, list)
	if err := s.memory.reserve(size); err != nil {
		return nil, err
	}
	a, err := m.encode(ask, list)
	if err != nil {
		s.memory.release(size)
		return nil, err
	}
	s.memory.release(size - int64(cap(a.data)))
	a.done = func() { s.memory.release(int64(cap(a.data))) }
	return a, nil
}

// answerSize is what an answer takes at most while it is written: the tensors, and twice its text, which
// grows by doubling, or twice the elements in binary.
func answerSize(ask *request, list []*onnxio.Tensor) int64 {
	size := int64(1 << 10)
	for i, t := range list {
		held := int64(len(t.Raw))
		for _, s := range t.Strings {
			held += int64(len(s)) + 24
		}
		if ask.wantsBinary(i) {
			size += 3 * held
		} else {
			size += held + 2*textSize(t)
		}
	}
	return size
}

// textSize is how many bytes of JSON a tensor's elements take at most.
func textSize(t *onnxio.Tensor) int64 {
	if t.Type == onnxio.String {
		size := int64(0)
		for _, s := range t.Strings {
			size += 6*int64(len(s)) + 3 // every byte may be \u0001
		}
		return size
	}
	return 25 * t.Size() // -2.2250738585072014e-308,
}

// wantsBinary says whether output i goes behind the JSON.
func (r *request) wantsBinary(i int) bool {
	if i < len(r.outputs) && r.outputs[i].binary != nil {
		return *r.outputs[i].binary
	}
	return r.binary
}

// respond picks a request's outputs, in its order, and turns those that it wants as classes into words.
func (m *model) respond(ask *request, out map[string]*onnxio.Tensor) ([]*onnxio.Tensor, error) {
	var list []*onnxio.Tensor
	if len(ask.outputs) == 0 {
		for _, v := range m.session.Outputs() {
			list = append(list, named(out[v.Name], v.Name))
		}
		return list, nil
	}
	for _, o := range ask.outputs {
		t := named(out[o.name], o.name)
		if o.classes != 0 {
			var err error
			if t, err = m.classified(t, o.classes); err != nil {
				return nil, err
			}
		}
		list = append(list, t)
	}
	return list, nil
}

func named(t *onnxio.Tensor, name string) *onnxio.Tensor {
	c := *t
	c.Name = name
	return &c
}

// classified is Triton's classification extension: the k largest numbers of each row as
// strings "VALUE:CLASS:LABEL".
func (m *model) classified(t *onnxio.Tensor, k int) (*onnxio.Tensor, error) {
	if k < 0 || t.Type != onnxio.Float || len(t.Dims) == 0 {
		return nil, invalid("output %q is %s %v: classes of it cannot be told", t.Name,
			datatypeOf(t.Type), t.Dims)
	}
	rows := int64(1)
	if m.queue.most > 0 && len(t.Dims) > 1 {
		rows = t.Dims[0]
	}
	classes := t.Size() / max(rows, 1)
	n := min(int64(k), classes)
	out := &onnxio.Tensor{Name: t.Name, Type: onnxio.String, Dims: []int64{rows, n},
		Strings: make([][]byte, 0, rows*n)}
	if m.queue.most == 0 {
		out.Dims = []int64{n}
	}
	order := make([]int, classes)
	for row := range rows {
		v := t.Float32s()[row*classes : (row+1)*classes]
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v[b], v[a]) })
		for _, c := range order[:n] {
			text := fmt.Sprintf("%f:%d", v[c], c)
			if m.meaning != nil && c < len(m.meaning.Labels) {
				text += ":" + m.meaning.Labels[c]
			}
			out.Strings = append(out.Strings, []byte(text))
		}
	}
	return out, nil
}

// encode writes a response: JSON, and behind it the outputs that are wanted in binary.
func (m *model) encode(ask *request, list []*onnxio.Tensor) (*answer, error) {
	var rest [][]byte
	var err error
	text := m.opening(ask)
	for i, t := range list {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendHead(text, t)
		if ask.wantsBinary(i) {
			data := raw(t)
			rest = append(rest, data)
			text = append(text, `,"parameters":{"binary_data_size":`...)
			text = append(strconv.AppendInt(text, int64(len(data)), 10), '}', '}')
			continue
		}
		text = append(text, `,"data":`...)
		if text, err = appendJSON(text, t); err != nil {
			return nil, err
		}
		text = append(text, '}')
	}
	text = append(text, "]}"...)
	if rest == nil {
		return &answer{kind: "application/json", header: -1, data: text}, nil
	}
	data := slices.Concat(append([][]byte{text}, rest...)...)
	return &answer{kind: "application/octet-stream", header: len(text), data: data}, nil
}

// opening is a response up to its first output.
func (m *model) opening(ask *request) []byte {
	b := append([]byte(`{"model_name":`), quoted(m.name)...)
	b = append(append(b, `,"model_version":`...), quoted(m.versionText())...)
	if ask.id != "" {
		b = append(append(b, `,"id":`...), quoted(ask.id)...)
	}
	return append(b, `,"outputs":[`...)
}

// appendHead begins an output: its name, type and shape.
func appendHead(b []byte, t *onnxio.Tensor) []byte {
	b = append(append(b, `{"name":`...), quoted(t.Name)...)
	b = append(append(b, `,"datatype":`...), quoted(datatypeOf(t.Type))...)
	b = append(b, `,"shape":`...)
	return appendArray(b, t.Dims, func(b []byte, d int64) []byte { return strconv.AppendInt(b, d, 10) })
}

func quoted(s string) []byte {
	text, _ := json.Marshal(s) // a string always marshals
	return text
}
