package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
	"github.com/cnnkit/cnnkit/runtime/native"
)

// Engine names what runs a model.
type Engine string

// The engines. Auto takes Native when it supports the model, else ORT; Session.Engine says
// which, Session.Reason why.
const (
	Auto   Engine = "auto"
	Native Engine = "native"
	ORT    Engine = "ort"
	OnnxGo Engine = "onnxgo"
)

// Engines lists the engines that ParseEngine knows.
func Engines() []string { return []string{"auto", "native", "ort", "onnxgo"} }

// ParseEngine is the engine of that name.
func ParseEngine(name string) (Engine, error) {
	for _, e := range Engines() {
		if e == name {
			return Engine(name), nil
		}
	}
	return "", fmt.Errorf("no engine %q: known are %s", name, strings.Join(Engines(), ", "))
}

// MissingError says that a component is not there: an engine's package, ONNX Runtime's library, or
// its CUDA execution provider.
type MissingError = engines.MissingError

// Session runs one model. It is safe for concurrent use; Close waits for the calls that are running.
type Session interface {
	// Run computes the outputs from the inputs, both by name. The tensors it gives are the caller's.
	Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error)
	// RunValues is Run for models that give sequences, maps (ONNX Runtime alone) or optionals too.
	RunValues(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]onnxio.Value, error)
	// RunInto is Run for outputs that have their memory already, by name: tensors of the type and shape that
	// the model gives for these inputs. Outputs that out does not name are left out.
	RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error
	// Prepare readies the session for inputs of these shapes, by name, so that their first Run takes no
	// longer than the next: it runs the model on zeros, and gives that run's error.
	Prepare(ctx context.Context, shapes map[string][]int64) error
	// Bind fixes the tensors that many Runs read and write, for engines that copy them to a device.
	Bind(in, out map[string]*onnxio.Tensor) (*Binding, error)
	// Inputs describes what Run takes, with symbolic dimensions.
	Inputs() []*onnxio.ValueInfo
	// Defaults describes the inputs that Run may be given as well: those with an initializer of the same
	// name, which stands in for them, in models of IR version 4 and newer.
	Defaults() []*onnxio.ValueInfo
	// Outputs describes what Run gives.
	Outputs() []*onnxio.ValueInfo
	// Metadata is the model's metadata_props.
	Metadata() map[string]string
	// Engine is what runs the model; never Auto.
	Engine() Engine
	// Reason says why Auto took that engine; it is empty where the caller named one.
	Reason() string
	// Close releases what the session holds.
	Close() error
}

// Option changes how a model is opened.
type Option func(*config)

type config struct {
	engine    Engine
	threads   int
	streams   int // of the native engine; 0: all threads take part in every Run
	cuda      int // device, -1: CPU
	profile   string
	ort       ORTOptions
	direct    bool // no convolutions by Winograd's method
	precision Precision
}

// WithEngine chooses the engine; the default is Auto.
func WithEngine(e Engine) Option { return func(c *config) { c.engine = e } }

// WithThreads bounds the threads of one Run; 0 is as many as the process may use.
func WithThreads(n int) Option { return func(c *config) { c.threads = n } }

// WithStreams lets n Runs of the native engine go on at once, of one thread each: the most images a second,
// where WithThreads gives the shortest Run. Further Runs wait.
func WithStreams(n int) Option { return func(c *config) { c.streams = n } }

// WithCUDA asks ONNX Runtime for its CUDA execution provider on a device. When it is not to be had, opening
// fails with ONNX Runtime's reason.
func WithCUDA(device int) Option { return func(c *config) { c.cuda = device } }

// ORTOptions are what ONNX Runtime alone can be told: another execution provider, its options,
// graph optimizations, memory.
type ORTOptions = engines.ORTOptions

// WithORT gives ONNX Runtime options of its own; Auto takes that engine then.
func WithORT(o ORTOptions) Option { return func(c *config) { c.ort = o } }

// WithoutWinograd keeps the native engine's convolutions direct, which round a little less.
func WithoutWinograd() Option { return func(c *config) { c.direct = true } }

// WithProfile lets ONNX Runtime write a profile, which it does at Close, to a file whose name starts so.
func WithProfile(prefix string) Option { return func(c *config) { c.profile = prefix } }

// Open loads, checks and opens a model file.
func Open(path string, opts ...Option) (Session, error) {
	m, err := onnxio.Load(path)
	if err != nil {
		return nil, err
	}
	s, err := OpenModel(m, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// backend is what the engines' packages give.
type backend = engines.Backend

// OpenModel checks and opens a model. The model must not be changed while the session is open. The native
// engine takes what check.Model passes; the others decide themselves about a model of sound structure.
func OpenModel(m *onnxio.Model, opts ...Option) (Session, error) {
	c := config{engine: Auto, cuda: -1}
	for _, o := range opts {
		o(&c)
	}
	if err := c.settlePrecision(); err != nil {
		return nil, err
	}
	reason := ""
	if c.engine == Auto && (c.cuda >= 0 || c.profile != "" || !c.ort.IsZero()) {
		c.engine, reason = ORT, "CUDA, profiles and options of ONNX Runtime need it"
	}
	if !c.ort.IsZero() && c.engine != ORT {
		return nil, fmt.Errorf("options of ONNX Runtime go with engine ort, not with %s", c.engine)
	}
	if c.cuda >= 0 && c.engine != ORT {
		return nil, fmt.Errorf("engine %s runs on the CPU: CUDA needs engine ort", c.engine)
	}
	if c.engine == Auto {
		return openAuto(m, c)
	}
	return openWith(m, c, reason)
}

// openAuto takes the native engine, or ONNX Runtime where that one refuses the model.
func openAuto(m *onnxio.Model, c config) (Session, error) {
	c.engine = Native
	s, refused := openWith(m, c, "the native engine runs the model")
	if refused == nil {
		return s, nil
	}
	if err := check.Structure(m); err != nil { // then it is no engine's, and operators do not matter
		return nil, err
	}
	if other, err := engines.Find(string(ORT)); err != nil || other.Available() != nil {
		return s, refused
	}
	c.engine = ORT
	reason, _, _ := strings.Cut(refused.Error(), "\n")
	s, err := openWith(m, c, "the native engine does not run the model: "+reason)
	if err != nil {
		return nil, fmt.Errorf("%w; and ONNX Runtime: %w", refused, err)
	}
	return s, nil
}

func openWith(m *onnxio.Model, c config, reason string) (Session, error) {
	sound := check.Structure
	if c.engine == Native {
		sound = check.Model
	}
	if err := sound(m); err != nil {
		return nil, err
	}
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	b, err := c.open(m)
	if err != nil {
		return nil, err
	}
	return newSession(m, c, b, reason), nil
}

// open opens a model that passed its engine's check.
func (c config) open(m *onnxio.Model) (backend, error) {
	switch c.engine {
	case Native:
		return native.Open(m, native.Options{Threads: c.threads, Streams: c.streams, NoWinograd: c.direct,
			BF16: c.precision == BF16})
	case ORT, OnnxGo:
		e, err := engines.Find(string(c.engine))
		if err != nil {
			return nil, err
		}
		return e.Open(m, engines.Options{Threads: c.threads, CUDA: c.cuda, Profile: c.profile, ORT: c.ort})
	}
	return nil, fmt.Errorf("no engine %q: known are %s", c.engine, strings.Join(Engines(), ", "))
}

type session struct {
	mu       sync.RWMutex // held to read by running calls
	closed   bool
	config   config
	reason   string
	inputs   []*onnxio.ValueInfo
	defaults defaults
	outputs  []*onnxio.ValueInfo
	metadata map[string]string
	bindings map[*Binding]bool // that hold something of the engine's
	backend
}

func newSession(m *onnxio.Model, c config, b backend, reason string) *session {
	s := &session{config: c, reason: reason, outputs: m.Graph.Outputs, metadata: map[string]string{},
		backend: b}
	s.defaults.model = m
	for _, v := range m.Graph.Inputs {
		switch {
		case m.Graph.Initializer(v.Name) == nil:
			s.inputs = append(s.inputs, v)
		case m.IRVersion >= 4:
			s.defaults.inputs = append(s.defaults.inputs, v)
		}
	}
	for _, p := range m.Metadata {
		s.metadata[p.Key] = p.Value
	}
	return s
}

func (s *session) Inputs() []*onnxio.ValueInfo   { return s.inputs }
func (s *session) Defaults() []*onnxio.ValueInfo { return s.defaults.inputs }
func (s *session) Outputs() []*onnxio.ValueInfo  { return s.outputs }
func (s *session) Metadata() map[string]string   { return s.metadata }
func (s *session) Engine() Engine                { return s.config.engine }
func (s *session) Reason() string                { return s.reason }

// Run checks the inputs, so that every engine complains in the same words.
func (s *session) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.takes(ctx, in); err != nil {
		return nil, err
	}
	if s.defaulted(in) {
		return s.defaults.run(ctx, s.config, in)
	}
	return s.backend.Run(ctx, in)
}

func (s *session) RunValues(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]onnxio.Value,
	error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.takes(ctx, in); err != nil {
		return nil, err
	}
	var tensors map[string]*onnxio.Tensor
	var err error
	if s.defaulted(in) {
		tensors, err = s.defaults.run(ctx, s.config, in)
	} else if b, ok := s.backend.(engines.Valuer); ok {
		return b.RunValues(ctx, in)
	} else {
		tensors, err = s.backend.Run(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]onnxio.Value, len(tensors))
	for name, t := range tensors {
		out[name] = t
	}
	return out, nil
}

// takes reports whether a Run may start.
func (s *session) takes(ctx context.Context, in map[string]*onnxio.Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed {
		return errors.New("the session is closed")
	}
	return CheckInputs(s, in)
}

func (s *session) RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.takes(ctx, in); err != nil {
		return err
	}
	if err := s.has(out); err != nil {
		return err
	}
	if s.defaulted(in) {
		got, err := s.defaults.run(ctx, s.config, in)
		if err != nil {
			return err
		}
		return engines.CopyInto(out, got)
	}
	return s.backend.RunInto(ctx, in, out)
}

// has reports whether all of these are outputs of the model.
func (s *session) has(out map[string]*onnxio.Tensor) error {
	for name := range out {
		if !slices.ContainsFunc(s.outputs, func(v *onnxio.ValueInfo) bool { return v.Name == name }) {
			return fmt.Errorf("the model has no output %q: it has %s", name, infoNames(s.outputs))
		}
	}
	return nil
}

// defaulted reports whether initializers are given that the engine holds for constants.
func (s *session) defaulted(in map[string]*onnxio.Tensor) bool {
	return len(in) > len(s.inputs) && s.config.engine != Native
}

func (s *session) Prepare(ctx context.Context, shapes map[string][]int64) error {
	in := make(map[string]*onnxio.Tensor, len(shapes))
	for _, v := range s.inputs {
		dims, ok := shapes[v.Name]
		if !ok {
			return fmt.Errorf("input %q has no shape: the model takes %s", v.Name, wanted(s))
		}
		if v.Type == nil {
			return fmt.Errorf("input %q has no declared type, so there are no zeros of it to run on", v.Name)
		}
		if _, err := onnxio.CheckedBytes(v.Type.Elem, dims); err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		in[v.Name] = onnxio.NewTensor(v.Type.Elem, dims...)
	}
	for name := range shapes {
		if in[name] == nil {
			return fmt.Errorf("the model takes %s, not %q", wanted(s), name)
		}
	}
	_, err := s.Run(ctx, in)
	return err
}

// CheckInputs reports whether a session takes the tensors: their names, types and shapes,
// as Run does before it runs.
func CheckInputs(s Session, in map[string]*onnxio.Tensor) error {
	var space [4]symbol
	symbols := symbols(space[:0])
	for _, want := range s.Inputs() {
		if in[want.Name] == nil {
			return fmt.Errorf("input %q is missing: the model takes %s", want.Name, wanted(s))
		}
		if err := accepts(want, in[want.Name], &symbols); err != nil {
			return err
		}
	}
	given := 0
	for _, may := range s.Defaults() {
		if in[may.Name] == nil {
			continue
		}
		given++
		if err := accepts(may, in[may.Name], &symbols); err != nil {
			return err
		}
	}
	if len(in) > len(s.Inputs())+given {
		return fmt.Errorf("the model takes %s, not %s", wanted(s), strings.Join(names(in), ", "))
	}
	return nil
}

// accepts checks a tensor against the input that it is for.
func accepts(want *onnxio.ValueInfo, t *onnxio.Tensor, symbols *symbols) error {
	if err := fits(want, t, symbols); err != nil {
		return err
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("input %q: %w", want.Name, err)
	}
	return nil
}

// Close may be called more than once.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var failures []error
	for b := range s.bindings {
		failures = append(failures, b.close())
	}
	return errors.Join(append(failures, s.backend.Close(), s.defaults.close())...)
}

func wanted(s Session) string {
	var out []string
	for _, v := range s.Inputs() {
		out = append(out, fmt.Sprintf("%q %s %s", v.Name, v.Type.Elem, shapeText(v.Type)))
	}
	return strings.Join(out, ", ")
}

// infoNames lists values by name.
func infoNames(list []*onnxio.ValueInfo) string {
	var out []string
	for _, v := range list {
		out = append(out, strconv.Quote(v.Name))
	}
	return strings.Join(out, ", ")
}

func names(in map[string]*onnxio.Tensor) []string {
	var out []string
	for name := range in {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// symbols are the symbolic dimensions met so far, which a list serves better than a
// map: most models have one.
type symbols []symbol

type symbol struct {
	name string
	n    int64
}

// agree reports whether a symbol is n wherever it stands.
func (s *symbols) agree(name string, n int64) bool {
	for _, x := range *s {
		if x.name == name {
			return x.n == n
		}
	}
	*s = append(*s, symbol{name, n})
	return true
}

// fits compares a tensor with the declared type; a symbolic dimension must be the same
// wherever its name stands.
func fits(want *onnxio.ValueInfo, t *onnxio.Tensor, symbols *symbols) error {
	typ := want.Type
	bad := typ != nil && t.Type != typ.Elem
	if typ != nil && typ.HasShape && !bad {
		bad = len(t.Dims) != len(typ.Shape)
		for i := 0; !bad && i < len(t.Dims); i++ {
			d := typ.Shape[i]
			switch {
			case d.Known():
				bad = d.Value != t.Dims[i]
			case d.Param == "?": // what Paddle writes for every dimension that it does not know
			case d.Param != "":
				bad = !symbols.agree(d.Param, t.Dims[i])
			}
		}
	}
	if !bad {
		return nil
	}
	return fmt.Errorf("input %q is %s %v: the model takes %s %s", want.Name, t.Type, t.Dims, typ.Elem,
		shapeText(typ))
}

func shapeText(t *onnxio.Type) string {
	if t == nil || !t.HasShape {
		return "of any shape"
	}
	parts := make([]string, len(t.Shape))
	for i, d := range t.Shape {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = fmt.Sprint(d.Value)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}
