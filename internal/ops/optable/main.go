// Command optable writes the tables of the operators of ai.onnx and com.microsoft that
// package ops knows, OPERATORS.md.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

func main() {
	out := flag.String("o", "OPERATORS.md", "the file to write")
	flag.Parse()
	if err := os.WriteFile(*out, table(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// table is one line for each operator: the opsets that changed it, the element types of its first input, and
// whether it has a gradient.
func table() []byte {
	own, forward, backward := rows("")
	contrib, more, _ := rows(ops.ContribDomain)
	return fmt.Appendf(nil, `<!-- Written by go generate from the registry; DO NOT EDIT. -->

# Operators

Of ONNX's own operators %d run and %d of them have a gradient. Where a shape follows from data that is known only while a
model runs, the native engine runs that part node by node, on the kernels of this package.

| operator | changed at opset | element types | gradient |
|---|---|---|---|
%s
Of %s, the domain of what ONNX Runtime's quantizer and optimizer write, %d run.

| operator | version | element types | gradient |
|---|---|---|---|
%s`, forward, backward, own, ops.ContribDomain, more, contrib)
}

// rows are the lines of a domain, and how many operators it has, with a gradient too.
func rows(domain string) (lines []byte, forward, backward int) {
	for _, d := range ops.Defs() {
		if d.Domain != domain {
			continue
		}
		trains := ""
		if forward++; d.Grad != nil {
			backward++
			trains = "yes"
		}
		var versions []string
		for _, v := range d.Versions {
			versions = append(versions, fmt.Sprint(v))
		}
		lines = fmt.Appendf(lines, "| %s | %s | %s | %s |\n", d.Name, strings.Join(versions, ", "),
			types(d), trains)
	}
	return lines, forward, backward
}

// types names the element types that the first input admits.
func types(d *ops.Def) string {
	if len(d.Inputs) == 0 {
		return ""
	}
	set := d.Types[d.Inputs[0].Type]
	if set == ops.All {
		return "all"
	}
	var names []string
	for _, g := range []struct {
		set  ops.TypeSet
		name string
	}{{ops.Floats, "floats"}, {ops.Integers, "integers"}, {ops.Signed, "signed integers"},
		{ops.Bools, "bool"}} {
		if set&g.set == g.set {
			names = append(names, g.name)
			set &^= g.set
		}
	}
	for t := onnxio.Float; t.Valid(); t++ {
		if set.Has(t) {
			names = append(names, t.String())
		}
	}
	return strings.Join(names, ", ")
}
