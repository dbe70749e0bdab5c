package ops

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// GradDomain is the private domain of the operators that only gradients use (ReluGrad, ConvGradInput, ...).
// Its nodes exist inside the compiler and are never written to a file.
const GradDomain = "cnnkit.grad"

// Def is everything the toolkit knows of one operator.
type Def struct {
	Name   string
	Domain string // "" is ai.onnx
	// Versions are the opset versions at which the definition changed, ascending: Conv 1, 11, 22.
	Versions []int64
	// Inputs and Outputs are those of all versions; InputsAt and OutputsAt pick one version's.
	Inputs  []Param
	Outputs []Param
	Attrs   []AttrDef
	// Types maps a type variable of Inputs and Outputs ("T") to the types it admits.
	Types map[string]TypeSet
	// Check validates attributes against each other where AttrDef cannot say it; may be nil.
	Check func(n *Node) error
	// Infer derives types and shapes of the outputs, with symbolic dims where the inputs have them.
	Infer func(c *Infer) error
	// Eval is the reference kernel, generic over the element types. It is nil for control flow, which the
	// engine runs, and for operators of sequences and optionals.
	Eval func(c *Eval) error
	// EvalValues is the reference kernel of an operator of sequences and optionals.
	EvalValues func(c *EvalValues) error
	// Grad emits the gradient; nil when the operator has none.
	Grad func(g *Grad) error
	// Tol is how far another implementation may be from Eval in float32.
	Tol Tolerance
	// Random operators give other numbers each time, so that they must not become constants.
	Random bool
	// Weights are the inputs at which trained weights stand.
	Weights []int
	// Learned are the inputs at which a learned tensor may stand as well as a constant of the
	// formula: a scale, a bias that is added, a table of embeddings. The last one stands for all
	// further inputs of a variadic operator.
	Learned []int
	// Arithmetic is the operation of two elements, with broadcasting, that the operator is; 0 for all others.
	Arithmetic Arithmetic
	// Map is the kernel of float32 of a function of one element, or of the gradient of one: dy*f'(v). ok is
	// false where the attributes of n are not those of the kernel. nil: there is none.
	Map func(n *Node) (m kernels.Map, ok bool)
	// Running are the inputs that are running statistics: mean and variance, behind scale and bias.
	Running []int
	// Rearranges says that the output has the first input's elements, in another shape or order at most.
	Rearranges bool
	// Quantizes says that the output stands for the first input's elements, rounded. Training differentiates
	// the two operators that do so as one.
	Quantizes bool
	// Repeats says that the output has the first input's elements, each at least once unless there is none.
	Repeats bool

	signatures []signature // one per version; register fills it in
}

// Param is a formal input or output. Since and Until bound the definition versions
// that have it (0: unbounded).
type Param struct {
	Name     string
	Type     string // a variable of Def.Types
	Optional bool
	Variadic bool // the last one only
	Since    int64
	Until    int64 // last version that has it
	Internal bool  // an output for gradients alone, which no file names
	Flat     bool  // an input whose numbers the outputs do not depend on: its gradient is zero
}

// signature is what one version takes and gives.
type signature struct{ inputs, outputs []Param }

// InputsAt are the formal inputs of a version of the definition, in order.
func (d *Def) InputsAt(version int64) []Param { return d.at(version).inputs }

// OutputsAt are the formal outputs of a version of the definition, in order.
func (d *Def) OutputsAt(version int64) []Param { return d.at(version).outputs }

// at is the signature of a version.
func (d *Def) at(version int64) signature {
	for i, v := range d.Versions {
		if v == version && i < len(d.signatures) {
			return d.signatures[i]
		}
	}
	return signature{inForce(d.Inputs, version), inForce(d.Outputs, version)}
}

// inForce are the params that a version has: all itself where that is every one.
func inForce(all []Param, version int64) []Param {
	missing := func(p Param) bool { return version < p.Since || p.Until != 0 && p.Until < version }
	if !slices.ContainsFunc(all, missing) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), missing)
}

// AttrDef declares an attribute. Since and Until bound the definition versions that have it (0: unbounded).
type AttrDef struct {
	Name     string
	Type     onnxio.AttrType
	Required bool
	Since    int64
	Until    int64 // last version that has it
}

// Arithmetic is one of the four operations of two numbers.
type Arithmetic uint8

const (
	Sum Arithmetic = iota + 1
	Difference
	Product
	Quotient
)

// Commutes reports whether the operands may change places.
func (a Arithmetic) Commutes() bool { return a == Sum || a == Product }

// Tolerance is |a-b| <= Abs + Rel*|b|.
type Tolerance struct{ Abs, Rel float64 }

// TypeSet is a set of element types.
type TypeSet uint64

// Set makes a TypeSet.
func Set(types ...onnxio.DataType) TypeSet {
	var s TypeSet
	for _, t := range types {
		s |= 1 << uint(t)
	}
	return s
}

// Has reports membership.
func (s TypeSet) Has(t onnxio.DataType) bool { return s&(1<<uint(t)) != 0 }

// The sets most schemas use.
var (
	Floats   = Set(onnxio.Float, onnxio.Double, onnxio.Float16, onnxio.BFloat16)
	Signed   = Set(onnxio.Int8, onnxio.Int16, onnxio.Int32, onnxio.Int64)
	Unsigned = Set(onnxio.Uint8, onnxio.Uint16, onnxio.Uint32, onnxio.Uint64)
	Integers = Signed | Unsigned
	Numbers  = Floats | Integers
	Indices  = Set(onnxio.Int32, onnxio.Int64)
	Bools    = Set(onnxio.Bool)
	All      = TypeSet(1<<29-1) &^ 1
)

// Node is a node bound to the definition that its model's opset selects.
type Node struct {
	*onnxio.Node
	Def *Def
	// Since is the version of the definition in force: for Conv in opset 17, 11.
	Since int64
}

// InParams are the formal inputs of the version in force.
func (n *Node) InParams() []Param { return n.Def.InputsAt(n.Since) }

// OutParams are the formal outputs of the version in force.
func (n *Node) OutParams() []Param { return n.Def.OutputsAt(n.Since) }

// String names the node for errors: Conv "layer1.0/conv1".
func (n *Node) String() string {
	name := n.Name
	if name == "" && len(n.Outputs) > 0 {
		name = n.Outputs[0]
	}
	return fmt.Sprintf("%s %q", n.OpType, name)
}

// Errorf is an error that names the node.
func (n *Node) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", n, fmt.Errorf(format, args...))
}

type key struct{ domain, name string }

var registry = map[key]*Def{}

// register adds definitions; each family's file calls it from init.
func register(defs ...*Def) {
	for _, d := range defs {
		k := key{d.Domain, d.Name}
		if registry[k] != nil {
			panic("ops: registered twice: " + d.Name)
		}
		d.signatures = make([]signature, 0, len(d.Versions))
		for _, v := range d.Versions {
			d.signatures = append(d.signatures, signature{inForce(d.Inputs, v), inForce(d.Outputs, v)})
		}
		registry[k] = d
	}
}

// Lookup is the definition of an operator, nil for an unknown one.
func Lookup(domain, op string) *Def { return registry[key{onnxio.CanonicalDomain(domain), op}] }

// Bind finds the definition of n in a model that imports the given opset of n's domain.
func Bind(n *onnxio.Node, opset int64) (*Node, error) {
	domain := onnxio.CanonicalDomain(n.Domain)
	d := registry[key{domain, n.OpType}]
	name := n.OpType
	if domain != "" {
		name = domain + "." + name
	}
	if d == nil {
		return nil, &onnxio.UnsupportedError{Op: name, Opset: opset, Node: n.Name,
			Reason: "no such operator here"}
	}
	if domain == GradDomain {
		return &Node{n, d, 1}, nil
	}
	i := sort.Search(len(d.Versions), func(i int) bool { return d.Versions[i] > opset })
	if i == 0 {
		return nil, &onnxio.UnsupportedError{Op: name, Opset: opset, Node: n.Name,
			Reason: fmt.Sprintf("it exists since opset %d", d.Versions[0])}
	}
	return &Node{n, d, d.Versions[i-1]}, nil
}

// Defs lists every definition, sorted by domain and name.
func Defs() []*Def {
	out := slices.Collect(maps.Values(registry))
	slices.SortFunc(out, func(a, b *Def) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Name, b.Name))
	})
	return out
}
