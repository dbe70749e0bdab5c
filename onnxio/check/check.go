package check

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The versions this package knows: ONNX 1.23.
const (
	maxIR        = 14
	maxOpset     = 28
	maxMLOpset   = 5
	maxTraining  = 1
	maxProblems  = 100     // reported; the rest is counted
	maxInlined   = 1 << 20 // nodes after inlining every function
	maxGraphs    = 30      // nesting of subgraphs, as Encode writes it
	functionsIR  = 8       // the IR version that brought functions
	opsetsIR     = 3       // the IR version from which a model must import its operator sets
	freeInitsIR  = 4       // the IR version from which initializers need not be inputs
	typedAttrsIR = 2       // the IR version from which attributes say their type
)

// Model checks m and gives every problem found, joined by errors.Join: *onnxio.FormatError for what is wrong,
// *onnxio.UnsupportedError for operators, opsets and domains that are not known here, *onnxio.LimitError for sizes.
// It changes nothing and reads no files: external data is checked as a reference.
//
// Model.Training is not looked into.
func Model(m *onnxio.Model) error {
	r := &report{}
	if m == nil {
		r.bad("", "no model")
		return r.err()
	}
	c := &checker{report: r, m: m, functions: map[functionKey]*onnxio.Function{}}
	c.model()
	return r.err()
}

// report collects problems.
type report struct {
	problems []error
	more     int
}

func (r *report) add(err error) {
	if err == nil {
		return
	}
	if len(r.problems) == maxProblems {
		r.more++
		return
	}
	r.problems = append(r.problems, err)
}

// bad adds a FormatError.
func (r *report) bad(where, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.more++
		return
	}
	r.add(&onnxio.FormatError{Format: "onnx", Where: where, Msg: fmt.Sprintf(format, args...)})
}

func (r *report) err() error {
	if r.more > 0 {
		n := int64(len(r.problems) + r.more)
		r.problems = append(r.problems, &onnxio.LimitError{What: "number of problems, the rest left out", Got: n, Limit: maxProblems})
	}
	return errors.Join(r.problems...)
}

// checker is the walk over one model.
type checker struct {
	*report
	m         *onnxio.Model
	functions map[functionKey]*onnxio.Function
}

func (c *checker) model() {
	m := c.m
	if m.IRVersion < 1 || m.IRVersion > maxIR {
		c.bad("", "ir_version %d; versions 1 to %d are known", m.IRVersion, maxIR)
	}
	if len(m.Opsets) == 0 && m.IRVersion >= opsetsIR {
		c.bad("", "no opset_import")
	}
	if len(m.Opsets) > 0 && m.IRVersion > 0 && m.IRVersion < opsetsIR {
		c.bad("", "opset_import in IR version %d, which has none", m.IRVersion)
	}
	c.uniqueKeys("metadata_props", m.Metadata)
	opsets := c.opsets("model", m.Opsets)
	if len(m.Opsets) == 0 {
		opsets[""] = 1 // before IR version 3 there was only this one
	}
	c.declareFunctions()
	if m.Graph == nil {
		c.bad("", "no graph")
	} else {
		c.mainGraph(m.Graph, opsets)
	}
	for _, f := range m.Functions {
		if f != nil {
			c.function(f)
		}
	}
	c.inlining()
}

// opsets checks a list of opset imports and gives the version of each domain.
func (c *checker) opsets(where string, list []onnxio.Opset) map[string]int64 {
	out := map[string]int64{}
	for _, o := range list {
		domain := canonical(o.Domain)
		if _, twice := out[domain]; twice {
			c.bad(where, "imports the domain %q twice", o.Domain)
			continue
		}
		out[domain] = o.Version
		last, known := knownDomains[domain]
		if o.Version < 1 || known && o.Version > last {
			limit := "from 1 on"
			if known {
				limit = fmt.Sprintf("1 to %d", last)
			}
			c.add(&onnxio.UnsupportedError{Op: "opset of domain " + quoteDomain(domain), Opset: o.Version, Reason: "known are versions " + limit})
		}
	}
	return out
}

// knownDomains are ONNX's own, with their newest version.
var knownDomains = map[string]int64{"": maxOpset, "ai.onnx.ml": maxMLOpset, "ai.onnx.preview.training": maxTraining}

// canonical maps the two names of ONNX's own domain to one.
func canonical(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

func quoteDomain(domain string) string {
	if domain == "" {
		domain = "ai.onnx"
	}
	return fmt.Sprintf("%q", domain)
}

func (c *checker) uniqueKeys(where string, props []onnxio.Property) {
	seen := map[string]bool{}
	for _, p := range props {
		if seen[p.Key] {
			c.bad(where, "the key %q is there twice", p.Key)
		}
		seen[p.Key] = true
	}
}

// name checks that a name is valid UTF-8, as protobuf asks of strings.
func (c *checker) name(where, what, s string) {
	if !utf8.ValidString(s) {
		c.bad(where, "%s %q is not valid UTF-8", what, s)
	}
}
