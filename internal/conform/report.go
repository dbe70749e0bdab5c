package conform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Score counts the cases of one row of the acceptance table.
type Score struct{ Cases, Passed, Failed, Gaps, Declined int }

// Report is what an engine made of a suite.
type Report struct {
	Engine *Engine
	Rows   map[string]*Score
	// Faults say where the engine and its gaps part: a case that fails and is no gap, a gap that passes or is
	// no case.
	Faults []string
	// Now are the gaps as they are: those that still fail, with their reasons, and the new ones with a reason
	// from the error.
	Now Gaps
}

// Judge runs every case and holds the result against the engine's gaps.
func Judge(cases []*Case, e *Engine, gaps Gaps) *Report {
	r := &Report{Engine: e, Rows: map[string]*Score{}, Now: Gaps{}}
	for _, row := range Rows() {
		r.Rows[row] = &Score{}
	}
	met := map[string]bool{}
	for _, c := range cases {
		met[c.ID()] = true
		r.judge(c, gaps[c.ID()])
	}
	var unmet []string
	for id := range gaps {
		if !met[id] {
			unmet = append(unmet, id+" is a gap and no case of the suite")
		}
	}
	slices.Sort(unmet)
	r.Faults = append(r.Faults, unmet...)
	return r
}

func (r *Report) judge(c *Case, reason string) {
	row := r.Rows[c.Row()]
	row.Cases++
	err := r.Engine.Run(c)
	var panicked *PanicError
	var fault *engine.FaultError
	switch {
	case errors.As(err, &panicked):
		row.Failed++
		r.Faults = append(r.Faults, fmt.Sprintf("%s: %v\n%s", c.ID(), err, panicked.Stack))
		return
	case errors.As(err, &fault): // is no gap, whatever the list says
		row.Failed++
		r.Faults = append(r.Faults, fmt.Sprintf("%s: %v\n%s", c.ID(), err, fault.Stack))
		return
	case err == nil && reason == "":
		row.Passed++
		return
	case err == nil:
		row.Failed++
		r.Faults = append(r.Faults, fmt.Sprintf("%s passes and is a gap (%s): take it from the list",
			c.ID(), reason))
		return
	case r.Engine.Declines != nil && r.Engine.Declines(err):
		row.Declined++
		return
	case reason != "":
		row.Gaps++
		if r.Now[c.ID()] = reason; strings.HasSuffix(reason, missing) {
			r.Now[c.ID()] = reasonFor(err) // it may be there by now, and the case fail for another reason
		}
		return
	}
	row.Failed++
	r.Now[c.ID()] = reasonFor(err)
	r.Faults = append(r.Faults, fmt.Sprintf("%s: %v", c.ID(), err))
}

// Table is the acceptance table.
func (r *Report) Table() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\n%s\tcases\tpassed\tfailed\tknown gaps\tdeclined\t\n", r.Engine.Name)
	for _, name := range Rows() {
		row := r.Rows[name]
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t\n", name, row.Cases, row.Passed, row.Failed, row.Gaps,
			row.Declined)
	}
	t.Flush()
	return b.String()
}

// missing is how the reason of an operator that is not there ends.
const missing = ": no such operator here"

// noise is what an error says beside the reason: names of values and nodes, the data set, the bindings'
// prefix.
var noise = regexp.MustCompile(
	` "[^"]*"|test_data_set_\d+: |Error creating C session: | with name '[^']*'|/\S+/onnxruntime/`)

// reasonFor is the first form of a reason, which a reader replaces where the error does not say enough.
func reasonFor(err error) string {
	var u *onnxio.UnsupportedError
	if errors.As(err, &u) {
		return strings.TrimSpace(noise.ReplaceAllString(u.Op+": "+u.Reason, ""))
	}
	text, _, _ := strings.Cut(noise.ReplaceAllString(err.Error(), ""), "\n")
	if len(text) > 120 {
		text = text[:120] + "..."
	}
	return text
}
