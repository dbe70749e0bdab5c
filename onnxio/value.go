package onnxio

// Value is what flows along an edge of a graph: a *Tensor, a *Sequence, a *Map or an *Optional.
type Value interface{ isValue() }

// Sequence is an ordered list of values of one type.
type Sequence struct {
	Elem  *Type // of the items; nil where nobody has said
	Items []Value
}

// Map gives values to keys, which are integers or strings. Both are as long as each other.
type Map struct {
	Keys   *Tensor // [n]
	Values Value   // a tensor [n] of what the keys stand for
}

// Optional is a value or nothing.
type Optional struct {
	Elem  *Type // of the value; nil where nobody has said
	Value Value // nil: nothing
}

func (*Tensor) isValue()   {}
func (*Sequence) isValue() {}
func (*Map) isValue()      {}
func (*Optional) isValue() {}
