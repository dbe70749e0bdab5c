package engine

import (
	"fmt"
	"slices"
)

// verify checks what every pass can count on:
//
//   - the values that ops read and give are those of the graph, each under one name;
//   - a value has one producer, which stands before its readers, or is an input, a constant or a param;
//   - a constant has its numbers;
//   - what an op captures stands behind its node's inputs, and belongs to one of its bodies;
//   - a value with a size has the shape that inference found;
//   - users and producers are those that index finds.
func (g *graph) verify() error {
	known := map[*value]bool{}
	for _, v := range g.values {
		if v.kind != computed {
			known[v] = true
		}
		if v.kind == constant && v.konst == nil {
			return fmt.Errorf("the constant %q has no numbers", v.name)
		}
	}
	for _, o := range g.ops {
		if err := g.verifyOp(o, known); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	for _, v := range g.outputs {
		if !known[v] {
			return fmt.Errorf("the output %q is not computed", v.name)
		}
	}
	return nil
}

func (g *graph) verifyOp(o *op, known map[*value]bool) error {
	captured := 0
	for _, b := range o.bodies {
		captured += b.captures
	}
	if o.inputs+captured != len(o.in) {
		return fmt.Errorf("%d inputs and %d captured values make %d", o.inputs, captured, len(o.in))
	}
	for _, v := range o.reads() {
		switch {
		case g.values[v.name] != v:
			return fmt.Errorf("reads %q, which is not in the graph", v.name)
		case !known[v]:
			return fmt.Errorf("reads %q before it is computed", v.name)
		case !slices.Contains(v.users, o):
			return fmt.Errorf("is not among the users of %q", v.name)
		}
	}
	for _, v := range o.out {
		switch {
		case v == nil:
			continue
		case g.values[v.name] != v:
			return fmt.Errorf("gives %q, which is not in the graph", v.name)
		case known[v] && v.kind == computed:
			return fmt.Errorf("gives %q, which another op gives", v.name)
		case v.producer != o:
			return fmt.Errorf("is not the producer of %q", v.name)
		case v.sized && v.info.HasShape && !equalDims(v.dims, sizes(v)):
			return fmt.Errorf("%q is %v where inference says %s", v.name, v.dims, shapeText(v.info.Shape))
		}
		known[v] = true
	}
	return nil
}

func sizes(v *value) []int64 {
	dims, _ := v.info.Dims()
	return dims
}
