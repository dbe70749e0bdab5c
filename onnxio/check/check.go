package check

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/internal/ops"
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

// Structure says whether m is sound: names, types, scopes, functions, tensors and attributes as messages. It
// knows no operators, so that a model of domains and opsets that are not known here passes. It gives every
// problem found, joined by errors.Join: *onnxio.FormatError for what is wrong, *onnxio.LimitError for sizes.
// It changes nothing and reads no files: external data is checked as a reference. Nodes may stand in any
// order that has no cycle (Warnings).
//
// Model.Training is not looked into.
func Structure(m *onnxio.Model) error { return checked(m, false).err() }

// Model is Structure, and holds every node against the definition of its operator: *onnxio.UnsupportedError
// stands for operators, opsets and domains that are not known here.
func Model(m *onnxio.Model) error { return checked(m, true).err() }

// Warnings lists what engines here take but other readers may not: nodes out of topological order.
func Warnings(m *onnxio.Model) []string {
	r := checked(m, false)
	if r.moreWarnings > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("%d more of the kind", r.moreWarnings))
	}
	return r.warnings
}

func checked(m *onnxio.Model, schemas bool) *report {
	r := &report{}
	if m == nil {
		r.bad("", "no model")
		return r
	}
	c := &checker{report: r, m: m, functions: map[functionKey]*onnxio.Function{}, schemas: schemas}
	c.model()
	return r
}

// report collects problems.
type report struct {
	problems     []error
	more         int
	warnings     []string
	moreWarnings int
}

// warn adds a warning.
func (r *report) warn(where, format string, args ...any) {
	if len(r.warnings) == maxProblems {
		r.moreWarnings++
		return
	}
	r.warnings = append(r.warnings, where+": "+fmt.Sprintf(format, args...))
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
		r.problems = append(r.problems, &onnxio.LimitError{What: "number of problems, the rest left out",
			Got: n, Limit: maxProblems})
	}
	return errors.Join(r.problems...)
}

// checker is the walk over one model.
type checker struct {
	*report
	m         *onnxio.Model
	functions map[functionKey]*onnxio.Function
	schemas   bool // nodes are held against the definitions of their operators
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
		domain := onnxio.CanonicalDomain(o.Domain)
		if _, twice := out[domain]; twice {
			c.bad(where, "imports the domain %q twice", o.Domain)
			continue
		}
		out[domain] = o.Version
		last, known := knownDomains[domain]
		switch {
		case o.Version < 1:
			c.bad(where, "opset %d of domain %s: versions start at 1", o.Version, quoteDomain(domain))
		case known && o.Version > last && c.schemas:
			c.add(&onnxio.UnsupportedError{Op: "opset of domain " + quoteDomain(domain), Opset: o.Version,
				Reason: fmt.Sprintf("known are versions 1 to %d", last)})
		}
	}
	return out
}

// knownDomains are ONNX's own, with their newest version.
var knownDomains = map[string]int64{"": maxOpset, "ai.onnx.ml": maxMLOpset,
	"ai.onnx.preview.training": maxTraining}

// isKnown says that nodes of a domain are held against definitions: ONNX's own domains, and those of which
// package ops has operators.
func isKnown(domain string) bool {
	if _, own := knownDomains[domain]; own {
		return true
	}
	return !strings.HasPrefix(domain, "cnnkit.") && registered()[domain]
}

var registered = sync.OnceValue(func() map[string]bool {
	domains := map[string]bool{}
	for _, d := range ops.Defs() {
		domains[d.Domain] = true
	}
	return domains
})

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
