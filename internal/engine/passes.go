package engine

import (
	"fmt"
	"os"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A pass rewrites a graph. What it leaves computes the same outputs.
type pass struct {
	name string
	run  func(g *graph) error
}

// The passes, in the order in which a compilation runs them; training differentiates where inference
// recognizes. Import comes before them, lowering and allocation behind.
var (
	simplifyPass = pass{"simplify", func(g *graph) error { return simplify(g, false) }}
	patternPass  = pass{"recognize", func(g *graph) error { recognize(g); return nil }}
	integerPass  = pass{"integers", func(g *graph) error { return toIntegers(g) }}
	fusePass     = pass{"fuse", func(g *graph) error { fuse(g); return nil }}
	layoutPass   = pass{"layout", func(g *graph) error { chooseLayouts(g); return nil }}
)

// shapeless are the passes of inference that need no shapes.
func (opt Options) shapeless() []pass {
	if opt.Reference || opt.Keep {
		return []pass{simplifyPass}
	}
	return []pass{simplifyPass, patternPass}
}

// Passes names what Dump can print the graph after.
func Passes() []string {
	return []string{"import", simplifyPass.name, patternPass.name, integerPass.name, fusePass.name,
		layoutPass.name}
}

// verifying says that the invariants of the graph are checked after each pass: CNNKIT_VERIFY=1, and in tests.
var verifying = os.Getenv("CNNKIT_VERIFY") == "1"

// apply runs passes.
func (g *graph) apply(list ...pass) error {
	for _, p := range list {
		if err := p.run(g); err != nil {
			return err
		}
		if err := g.after(p.name); err != nil {
			return err
		}
	}
	return nil
}

// after is called when a pass has run.
func (g *graph) after(name string) error {
	if g.watch != nil {
		g.watch(name, g)
	}
	if !verifying {
		return nil
	}
	if err := g.verify(); err != nil {
		return fmt.Errorf("after %s: %w", name, err)
	}
	return nil
}

// Dump is the graph of m after one of Passes, an op a line: operator and name, inputs and outputs with their
// shapes, what was folded into it.
func Dump(m *onnxio.Model, opt Options, after string) (string, error) {
	text, found := "", false
	opt.watch = func(name string, g *graph) {
		if name == after {
			text, found = g.String(), true
		}
	}
	if _, err := Compile(m, opt); err != nil {
		return "", err
	}
	if !found {
		return "", fmt.Errorf("no pass %q: known are %s", after, strings.Join(Passes(), ", "))
	}
	return text, nil
}

// String prints the graph, one op a line.
func (g *graph) String() string {
	var b strings.Builder
	for _, o := range g.ops {
		fmt.Fprintf(&b, "%s <-", o)
		for _, v := range o.in {
			b.WriteString(" " + v.text())
		}
		b.WriteString(" ->")
		for _, v := range o.out {
			b.WriteString(" " + v.text())
		}
		if o.relu {
			b.WriteString(" +relu")
		}
		if o.high != 0 {
			fmt.Fprintf(&b, " +clip %g", o.high)
		}
		if o.then != nil {
			fmt.Fprintf(&b, " +function %d", o.then.Function)
		}
		if o.within != nil {
			fmt.Fprintf(&b, " +clip %d to %d", o.within[0], o.within[1])
		}
		if o.residual != nil {
			b.WriteString(" +residual " + o.residual.name)
		}
		if o.mask != nil {
			b.WriteString(" +mask " + o.mask.name)
		}
		if o.maskBias != nil {
			b.WriteString(" +mask by " + o.maskBias.name)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// text is a value with its shape and layout: conv1[1,16,28,28] c16h1.
func (v *value) text() string {
	if v == nil {
		return "-"
	}
	s := v.name
	if v.info != nil && v.info.HasShape {
		s += shapeText(v.info.Shape)
	}
	if v.kind == constant {
		s += "="
	}
	if v.layout != nil {
		s += fmt.Sprintf("/c%dh%d", v.layout.Lanes, v.layout.Halo)
	}
	if v.lines != nil {
		s += fmt.Sprintf("/%sc%dh%d", v.typeName(), v.lines.Lanes, v.lines.Halo)
	}
	return s
}
