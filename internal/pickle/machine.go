package pickle

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The opcodes that data is pickled with, protocols 2 to 5 (Python's
// Lib/pickletools.py). Any other is refused.
const (
	OpMark           = '('
	OpStop           = '.'
	OpPop            = '0'
	OpPopMark        = '1'
	OpDup            = '2'
	OpBinFloat       = 'G'
	OpBinInt         = 'J'
	OpBinInt1        = 'K'
	OpBinInt2        = 'M'
	OpNone           = 'N'
	OpBinPersID      = 'Q'
	OpReduce         = 'R'
	OpBinString      = 'T'
	OpShortBinString = 'U'
	OpBinUnicode     = 'X'
	OpAppend         = 'a'
	OpBuild          = 'b'
	OpGlobal         = 'c'
	OpAppends        = 'e'
	OpBinGet         = 'h'
	OpLongBinGet     = 'j'
	OpBinPut         = 'q'
	OpLongBinPut     = 'r'
	OpSetItem        = 's'
	OpTuple          = 't'
	OpSetItems       = 'u'
	OpEmptyDict      = '}'
	OpEmptyList      = ']'
	OpEmptyTuple     = ')'
	OpBinBytes       = 'B'
	OpShortBinBytes  = 'C'
	OpProto          = 0x80
	OpTuple1         = 0x85
	OpTuple2         = 0x86
	OpTuple3         = 0x87
	OpNewTrue        = 0x88
	OpNewFalse       = 0x89
	OpLong1          = 0x8a
	OpLong4          = 0x8b
	OpShortUnicode   = 0x8c
	OpBinUnicode8    = 0x8d
	OpBinBytes8      = 0x8e
	OpStackGlobal    = 0x93
	OpMemoize        = 0x94
	OpFrame          = 0x95
	OpByteArray8     = 0x96
)

// What a pickle's values become. None is nil; bool, int64, float64 and string stand for themselves. Every one
// is comparable, so that it can be a key.
type (
	Long   string // an integer beyond 64 bits: its little-endian two's complement
	Bytes  string // bytes, a bytearray, or a str of Python 2 that is not UTF-8
	Global struct{ Module, Name string }
	Tuple  struct{ Items []any }
	List   struct{ Items []any }
	Dict   struct {
		Keys, Values []any
		index        map[any]int
	}
)

// Set gives a key its value.
func (d *Dict) Set(k, v any) {
	if i, ok := d.index[k]; ok {
		d.Values[i] = v
		return
	}
	if d.index == nil {
		d.index = map[any]int{}
	}
	d.index[k] = len(d.Keys)
	d.Keys = append(d.Keys, k)
	d.Values = append(d.Values, v)
}

// Get is the value of a key, nil if there is none.
func (d *Dict) Get(k any) any {
	if i, ok := d.index[k]; ok {
		return d.Values[i]
	}
	return nil
}

// Rules say what a pickle may hold.
type Rules struct {
	Format string // as errors name it
	Holds  string // what the pickle is of, for errors: "a state dict"
	Max    int64  // values that it may make
	// Allowed lists the names that GLOBAL may give.
	Allowed func(Global) bool
	// Reduce stands for the call of a name that REDUCE asks for.
	Reduce func(g Global, args []any) (any, error)
	// Build stands for BUILD, which gives a value its state.
	Build func(target, state any) (any, error)
	// Persistent resolves BINPERSID; nil where there must be none.
	Persistent func(id any) (any, error)
	// Python2 takes a str that is not UTF-8 for Bytes.
	Python2 bool
	// Opaque makes an *Opaque of a name that is not Allowed, which is an error otherwise.
	Opaque bool
}

// Malformed is a *onnxio.FormatError about the pickle.
func (r *Rules) Malformed(msg string, args ...any) error {
	return &onnxio.FormatError{Format: r.Format, Where: "pickle", Msg: fmt.Sprintf(msg, args...)}
}

// Machine runs pickles without ever constructing or calling anything: a GLOBAL must be allowed and stays a
// name, and the rules know the few names that REDUCE may meet. Every opcode takes at least a byte and makes
// at most one value, so stack and memo are bounded by the input and by Rules.Max.
type Machine struct {
	Rules
	// Left counts the bytes of input not yet consumed, and Used those that are.
	Left, Used int64

	r       *bufio.Reader
	objects int64
	stack   []any
	marks   []int
	memo    map[uint32]any
}

// New makes a machine for size bytes of r from off on.
func New(r io.ReaderAt, off, size int64, rules Rules) *Machine {
	return &Machine{r: bufio.NewReader(io.NewSectionReader(r, off, size)), Left: size, Rules: rules}
}

// Load runs one pickle up to its STOP and gives its value.
func (vm *Machine) Load() (any, error) {
	vm.stack, vm.marks, vm.memo = nil, nil, map[uint32]any{}
	for first := true; ; first = false {
		op, err := vm.byte()
		if err != nil {
			return nil, err
		}
		if first && op != OpProto {
			return nil, vm.Malformed("does not start with PROTO")
		}
		if op == OpStop {
			if len(vm.stack) != 1 || len(vm.marks) != 0 {
				return nil, vm.Malformed("STOP with %d values and %d marks on the stack", len(vm.stack),
					len(vm.marks))
			}
			return vm.stack[0], nil
		}
		if err := vm.step(op); err != nil {
			return nil, err
		}
	}
}

func (vm *Machine) step(op byte) error {
	switch op {
	case OpProto:
		v, err := vm.byte()
		if err == nil && (v < 2 || v > 5) {
			err = vm.Malformed("protocol %d, where 2 to 5 are known", v)
		}
		return err
	case OpFrame:
		n, err := vm.uint(8)
		if err == nil && n > uint64(vm.Left) {
			err = vm.Malformed("FRAME of %d bytes where %d remain", n, vm.Left)
		}
		return err
	case OpMark:
		if int64(len(vm.marks)) >= vm.Max {
			return &onnxio.LimitError{What: "marks of a pickle", Got: vm.Max + 1, Limit: vm.Max}
		}
		vm.marks = append(vm.marks, len(vm.stack))
		return nil
	case OpPop, OpPopMark, OpDup:
		return vm.shuffle(op)
	case OpBinGet, OpLongBinGet, OpBinPut, OpLongBinPut, OpMemoize:
		return vm.memory(op)
	case OpTuple, OpTuple1, OpTuple2, OpTuple3:
		return vm.tuple(op)
	case OpAppend, OpAppends, OpSetItem, OpSetItems:
		return vm.fill(op)
	case OpGlobal, OpStackGlobal:
		return vm.global(op)
	case OpReduce, OpBuild, OpBinPersID:
		return vm.object(op)
	case OpNewObj, OpNewObjEx, OpEmptySet, OpAddItems, OpFrozenSet:
		return vm.opaque(op)
	}
	v, err := vm.literal(op)
	if err != nil {
		return err
	}
	return vm.push(v)
}

// literal reads the value that op carries.
func (vm *Machine) literal(op byte) (any, error) {
	switch op {
	case OpNone:
		return nil, nil
	case OpNewTrue, OpNewFalse:
		return op == OpNewTrue, nil
	case OpEmptyDict:
		return &Dict{}, nil
	case OpEmptyList:
		return &List{}, nil
	case OpEmptyTuple:
		return &Tuple{}, nil
	case OpBinInt:
		n, err := vm.uint(4)
		return int64(int32(n)), err
	case OpBinInt1:
		n, err := vm.uint(1)
		return int64(n), err
	case OpBinInt2:
		n, err := vm.uint(2)
		return int64(n), err
	case OpBinFloat:
		b, err := vm.bytes(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case OpLong1, OpLong4:
		return vm.long(map[byte]int{OpLong1: 1, OpLong4: 4}[op])
	case OpShortBinString, OpShortUnicode, OpShortBinBytes:
		return vm.text(op, 1)
	case OpBinString, OpBinUnicode, OpBinBytes:
		return vm.text(op, 4)
	case OpBinUnicode8, OpBinBytes8, OpByteArray8:
		return vm.text(op, 8)
	}
	return nil, vm.Malformed("opcode 0x%02x is not one that %s needs; nothing was executed", op, vm.Holds)
}

func (vm *Machine) text(op byte, width int) (any, error) {
	n, err := vm.uint(width)
	if err != nil {
		return nil, err
	}
	t, err := vm.string(n)
	if err != nil {
		return nil, err
	}
	switch op {
	case OpShortBinBytes, OpBinBytes, OpBinBytes8, OpByteArray8:
		return Bytes(t), nil
	}
	if !utf8.ValidString(t) {
		if vm.Python2 && (op == OpBinString || op == OpShortBinString) {
			return Bytes(t), nil
		}
		return nil, vm.Malformed("a string is not UTF-8")
	}
	return t, nil
}

func (vm *Machine) long(width int) (any, error) {
	n, err := vm.uint(width)
	if err != nil {
		return nil, err
	}
	b, err := vm.bytes(n)
	if err != nil {
		return nil, err
	}
	if len(b) > 8 {
		return Long(b), nil
	}
	v := int64(0)
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	if s := 64 - 8*len(b); len(b) > 0 {
		v = v << s >> s
	}
	return v, nil
}

func (vm *Machine) shuffle(op byte) error {
	switch op {
	case OpPopMark:
		_, err := vm.toMark()
		return err
	case OpPop:
		_, err := vm.pop()
		return err
	}
	v, err := vm.pop()
	if err != nil {
		return err
	}
	vm.stack = append(vm.stack, v)
	return vm.push(v)
}

func (vm *Machine) memory(op byte) error {
	var n uint64
	var err error
	switch op {
	case OpBinGet, OpBinPut:
		n, err = vm.uint(1)
	case OpLongBinGet, OpLongBinPut:
		n, err = vm.uint(4)
	case OpMemoize:
		n = uint64(len(vm.memo))
	}
	if err != nil {
		return err
	}
	if op == OpBinGet || op == OpLongBinGet {
		v, ok := vm.memo[uint32(n)]
		if !ok {
			return vm.Malformed("nothing is memoized under %d", n)
		}
		return vm.push(v)
	}
	v, err := vm.pop()
	if err != nil {
		return err
	}
	vm.stack = append(vm.stack, v)
	if int64(len(vm.memo)) >= vm.Max {
		return &onnxio.LimitError{What: "memo of a pickle", Got: vm.Max + 1, Limit: vm.Max}
	}
	vm.memo[uint32(n)] = v
	return nil
}

func (vm *Machine) tuple(op byte) error {
	var items []any
	if op == OpTuple {
		var err error
		if items, err = vm.toMark(); err != nil {
			return err
		}
	} else {
		n := int(op-OpTuple1) + 1
		if vm.available() < n {
			return vm.Malformed("the stack is empty")
		}
		items = append(items, vm.stack[len(vm.stack)-n:]...)
		vm.stack = vm.stack[:len(vm.stack)-n]
	}
	return vm.push(&Tuple{items})
}

func (vm *Machine) fill(op byte) error {
	var items []any
	n := map[byte]int{OpAppend: 1, OpSetItem: 2}[op]
	if n == 0 {
		var err error
		if items, err = vm.toMark(); err != nil {
			return err
		}
	} else {
		if vm.available() < n+1 {
			return vm.Malformed("the stack is empty")
		}
		items = append(items, vm.stack[len(vm.stack)-n:]...)
		vm.stack = vm.stack[:len(vm.stack)-n]
	}
	if vm.available() < 1 {
		return vm.Malformed("the stack is empty")
	}
	switch c := vm.stack[len(vm.stack)-1].(type) {
	case *List:
		if op == OpAppend || op == OpAppends {
			c.Items = append(c.Items, items...)
			return nil
		}
	case *Dict:
		if (op == OpSetItem || op == OpSetItems) && len(items)%2 == 0 {
			for i := 0; i < len(items); i += 2 {
				c.Set(items[i], items[i+1])
			}
			return nil
		}
	case *Opaque:
		if c.fill(op, items) {
			return nil
		}
	}
	return vm.Malformed("opcode %q on a value that cannot take it", op)
}

func (vm *Machine) global(op byte) error {
	var g Global
	if op == OpGlobal {
		var err error
		if g.Module, err = vm.line(); err != nil {
			return err
		}
		if g.Name, err = vm.line(); err != nil {
			return err
		}
	} else {
		name, err := vm.pop()
		if err != nil {
			return err
		}
		module, err := vm.pop()
		if err != nil {
			return err
		}
		var ok1, ok2 bool
		g.Module, ok1 = module.(string)
		g.Name, ok2 = name.(string)
		if !ok1 || !ok2 {
			return vm.Malformed("STACK_GLOBAL without two strings")
		}
	}
	switch {
	case vm.Allowed(g):
		return vm.push(g)
	case vm.Opaque && len(g.Module)+len(g.Name) > 2*maxName:
		return vm.Malformed("a name of more than %d bytes", 2*maxName)
	case vm.Opaque:
		return vm.push(&Opaque{Name: g.Module + "." + g.Name})
	}
	return vm.Malformed("names %.80q, which %s does not need; nothing was executed", g.Module+"."+g.Name,
		vm.Holds)
}

// object runs REDUCE, BUILD and BINPERSID.
func (vm *Machine) object(op byte) error {
	arg, err := vm.pop()
	if err != nil {
		return err
	}
	if op == OpBinPersID {
		if vm.Persistent == nil {
			return vm.Malformed("a persistent id where there must be none")
		}
		v, err := vm.Persistent(arg)
		if err != nil {
			return err
		}
		return vm.push(v)
	}
	target, err := vm.pop()
	if err != nil {
		return err
	}
	if o, ok := target.(*Opaque); ok && vm.Opaque {
		return vm.give(o, op, arg)
	}
	if op == OpBuild {
		v, err := vm.Build(target, arg)
		if err != nil {
			return err
		}
		return vm.push(v)
	}
	g, ok1 := target.(Global)
	args, ok2 := arg.(*Tuple)
	if !ok1 || !ok2 {
		return vm.Malformed("REDUCE without a name and a tuple; nothing was executed")
	}
	v, err := vm.Reduce(g, args.Items)
	if err != nil {
		return err
	}
	return vm.push(v)
}

func (vm *Machine) push(v any) error {
	if vm.objects++; vm.objects > vm.Max {
		return &onnxio.LimitError{What: "values of a pickle", Got: vm.objects, Limit: vm.Max}
	}
	vm.stack = append(vm.stack, v)
	return nil
}

// available counts the values above the last mark.
func (vm *Machine) available() int {
	if n := len(vm.marks); n > 0 {
		return len(vm.stack) - vm.marks[n-1]
	}
	return len(vm.stack)
}

func (vm *Machine) pop() (any, error) {
	if vm.available() < 1 {
		return nil, vm.Malformed("the stack is empty")
	}
	v := vm.stack[len(vm.stack)-1]
	vm.stack = vm.stack[:len(vm.stack)-1]
	return v, nil
}

func (vm *Machine) toMark() ([]any, error) {
	if len(vm.marks) == 0 {
		return nil, vm.Malformed("no mark on the stack")
	}
	at := vm.marks[len(vm.marks)-1]
	vm.marks = vm.marks[:len(vm.marks)-1]
	items := append([]any(nil), vm.stack[at:]...)
	vm.stack = vm.stack[:at]
	return items, nil
}

func (vm *Machine) byte() (byte, error) {
	n, err := vm.uint(1)
	return byte(n), err
}

// uint reads a little-endian number.
func (vm *Machine) uint(width int) (uint64, error) {
	b, err := vm.bytes(uint64(width))
	if err != nil {
		return 0, err
	}
	v := uint64(0)
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, nil
}

func (vm *Machine) bytes(n uint64) ([]byte, error) {
	if n > uint64(vm.Left) {
		return nil, vm.Malformed("truncated: %d bytes wanted, %d remain", n, vm.Left)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(vm.r, b); err != nil {
		return nil, vm.unreadable(err)
	}
	vm.Left -= int64(n)
	vm.Used += int64(n)
	return b, nil
}

// string is bytes for what may be most of the file: it is not copied once more.
func (vm *Machine) string(n uint64) (string, error) {
	if n > uint64(vm.Left) {
		return "", vm.Malformed("truncated: %d bytes wanted, %d remain", n, vm.Left)
	}
	var b strings.Builder
	b.Grow(int(n))
	if _, err := io.CopyN(&b, vm.r, int64(n)); err != nil {
		return "", vm.unreadable(err)
	}
	vm.Left -= int64(n)
	vm.Used += int64(n)
	return b.String(), nil
}

func (vm *Machine) unreadable(err error) error {
	return &onnxio.FormatError{Format: vm.Format, Where: "pickle", Msg: "cannot read", Err: err}
}

// maxName caps a module's or class's name: an Opaque copies it.
const maxName = 256

func (vm *Machine) line() (string, error) {
	var b []byte
	for {
		c, err := vm.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(b), nil
		}
		if b = append(b, c); len(b) > maxName {
			return "", vm.Malformed("a name of more than %d bytes", maxName)
		}
	}
}
