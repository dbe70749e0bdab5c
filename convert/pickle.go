package convert

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The opcodes that torch.save's pickles use, protocols 2 to 5 (Python's Lib/pickletools.py). Any other is refused.
const (
	opMark           = '('
	opStop           = '.'
	opPop            = '0'
	opPopMark        = '1'
	opDup            = '2'
	opBinFloat       = 'G'
	opBinInt         = 'J'
	opBinInt1        = 'K'
	opBinInt2        = 'M'
	opNone           = 'N'
	opBinPersID      = 'Q'
	opReduce         = 'R'
	opBinString      = 'T'
	opShortBinString = 'U'
	opBinUnicode     = 'X'
	opAppend         = 'a'
	opBuild          = 'b'
	opGlobal         = 'c'
	opAppends        = 'e'
	opBinGet         = 'h'
	opLongBinGet     = 'j'
	opBinPut         = 'q'
	opLongBinPut     = 'r'
	opSetItem        = 's'
	opTuple          = 't'
	opSetItems       = 'u'
	opEmptyDict      = '}'
	opEmptyList      = ']'
	opEmptyTuple     = ')'
	opBinBytes       = 'B'
	opShortBinBytes  = 'C'
	opProto          = 0x80
	opTuple1         = 0x85
	opTuple2         = 0x86
	opTuple3         = 0x87
	opNewTrue        = 0x88
	opNewFalse       = 0x89
	opLong1          = 0x8a
	opLong4          = 0x8b
	opShortUnicode   = 0x8c
	opBinUnicode8    = 0x8d
	opBinBytes8      = 0x8e
	opStackGlobal    = 0x93
	opMemoize        = 0x94
	opFrame          = 0x95
)

// What a pickle's values become. None is nil; bool, int64, float64 and string stand for themselves. Every one is
// comparable, so that it can be a key.
type (
	pyLong   string // an integer beyond 64 bits: its little-endian two's complement
	pyBytes  string
	pyGlobal struct{ module, name string }
	pyTuple  struct{ items []any }
	pyList   struct{ items []any }
	pyDict   struct {
		keys, values []any
		index        map[any]int
	}
)

func (d *pyDict) set(k, v any) {
	if i, ok := d.index[k]; ok {
		d.values[i] = v
		return
	}
	if d.index == nil {
		d.index = map[any]int{}
	}
	d.index[k] = len(d.keys)
	d.keys = append(d.keys, k)
	d.values = append(d.values, v)
}

func (d *pyDict) get(k string) any {
	if i, ok := d.index[k]; ok {
		return d.values[i]
	}
	return nil
}

// pickleVM runs a pickle without ever constructing or calling anything: a GLOBAL must be on the allowlist and stays a
// name, REDUCE knows the few names it may meet. Every opcode takes at least a byte and makes at most one value, so
// stack and memo are bounded by the input and by objects.
type pickleVM struct {
	r       *bufio.Reader
	left    int64 // bytes of input not yet consumed
	used    int64
	objects int64
	max     int64
	stack   []any
	marks   []int
	memo    map[uint32]any
	// persistent resolves BINPERSID; nil where there must be none.
	persistent func(id any) (any, error)
}

func newPickleVM(r io.ReaderAt, off, size int64, lim Limits) *pickleVM {
	return &pickleVM{r: bufio.NewReader(io.NewSectionReader(r, off, size)), left: size, max: lim.MaxObjects}
}

func (vm *pickleVM) fail(msg string, args ...any) error {
	return malformed(formatPT, "pickle", msg, args...)
}

// load runs one pickle up to its STOP and gives its value.
func (vm *pickleVM) load() (any, error) {
	vm.stack, vm.marks, vm.memo = nil, nil, map[uint32]any{}
	for first := true; ; first = false {
		op, err := vm.byte()
		if err != nil {
			return nil, err
		}
		if first && op != opProto {
			return nil, vm.fail("does not start with PROTO")
		}
		if op == opStop {
			if len(vm.stack) != 1 || len(vm.marks) != 0 {
				return nil, vm.fail("STOP with %d values and %d marks on the stack", len(vm.stack), len(vm.marks))
			}
			return vm.stack[0], nil
		}
		if err := vm.step(op); err != nil {
			return nil, err
		}
	}
}

func (vm *pickleVM) step(op byte) error {
	switch op {
	case opProto:
		v, err := vm.byte()
		if err == nil && (v < 2 || v > 5) {
			err = vm.fail("protocol %d, where torch.save writes 2 to 5", v)
		}
		return err
	case opFrame:
		n, err := vm.uint(8)
		if err == nil && n > uint64(vm.left) {
			err = vm.fail("FRAME of %d bytes where %d remain", n, vm.left)
		}
		return err
	case opMark:
		if int64(len(vm.marks)) >= vm.max {
			return &onnxio.LimitError{What: "marks of a pickle", Got: vm.max + 1, Limit: vm.max}
		}
		vm.marks = append(vm.marks, len(vm.stack))
		return nil
	case opPop, opPopMark, opDup:
		return vm.shuffle(op)
	case opBinGet, opLongBinGet, opBinPut, opLongBinPut, opMemoize:
		return vm.memory(op)
	case opTuple, opTuple1, opTuple2, opTuple3:
		return vm.tuple(op)
	case opAppend, opAppends, opSetItem, opSetItems:
		return vm.fill(op)
	case opGlobal, opStackGlobal:
		return vm.global(op)
	case opReduce, opBuild, opBinPersID:
		return vm.object(op)
	}
	v, err := vm.literal(op)
	if err != nil {
		return err
	}
	return vm.push(v)
}

// literal reads the value that op carries.
func (vm *pickleVM) literal(op byte) (any, error) {
	switch op {
	case opNone:
		return nil, nil
	case opNewTrue, opNewFalse:
		return op == opNewTrue, nil
	case opEmptyDict:
		return &pyDict{}, nil
	case opEmptyList:
		return &pyList{}, nil
	case opEmptyTuple:
		return &pyTuple{}, nil
	case opBinInt:
		n, err := vm.uint(4)
		return int64(int32(n)), err
	case opBinInt1:
		n, err := vm.uint(1)
		return int64(n), err
	case opBinInt2:
		n, err := vm.uint(2)
		return int64(n), err
	case opBinFloat:
		b, err := vm.bytes(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case opLong1, opLong4:
		return vm.long(map[byte]int{opLong1: 1, opLong4: 4}[op])
	case opShortBinString, opShortUnicode, opShortBinBytes:
		return vm.text(op, 1)
	case opBinString, opBinUnicode, opBinBytes:
		return vm.text(op, 4)
	case opBinUnicode8, opBinBytes8:
		return vm.text(op, 8)
	}
	return nil, vm.fail("opcode 0x%02x is not one that a state dict needs; nothing was executed", op)
}

func (vm *pickleVM) text(op byte, width int) (any, error) {
	n, err := vm.uint(width)
	if err != nil {
		return nil, err
	}
	b, err := vm.bytes(n)
	if err != nil {
		return nil, err
	}
	switch op {
	case opShortBinBytes, opBinBytes, opBinBytes8:
		return pyBytes(b), nil
	}
	if !utf8.Valid(b) {
		return nil, vm.fail("a string is not UTF-8")
	}
	return string(b), nil
}

func (vm *pickleVM) long(width int) (any, error) {
	n, err := vm.uint(width)
	if err != nil {
		return nil, err
	}
	b, err := vm.bytes(n)
	if err != nil {
		return nil, err
	}
	if len(b) > 8 {
		return pyLong(b), nil
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

func (vm *pickleVM) shuffle(op byte) error {
	switch op {
	case opPopMark:
		_, err := vm.toMark()
		return err
	case opPop:
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

func (vm *pickleVM) memory(op byte) error {
	var n uint64
	var err error
	switch op {
	case opBinGet, opBinPut:
		n, err = vm.uint(1)
	case opLongBinGet, opLongBinPut:
		n, err = vm.uint(4)
	case opMemoize:
		n = uint64(len(vm.memo))
	}
	if err != nil {
		return err
	}
	if op == opBinGet || op == opLongBinGet {
		v, ok := vm.memo[uint32(n)]
		if !ok {
			return vm.fail("nothing is memoized under %d", n)
		}
		return vm.push(v)
	}
	v, err := vm.pop()
	if err != nil {
		return err
	}
	vm.stack = append(vm.stack, v)
	if int64(len(vm.memo)) >= vm.max {
		return &onnxio.LimitError{What: "memo of a pickle", Got: vm.max + 1, Limit: vm.max}
	}
	vm.memo[uint32(n)] = v
	return nil
}

func (vm *pickleVM) tuple(op byte) error {
	var items []any
	if op == opTuple {
		var err error
		if items, err = vm.toMark(); err != nil {
			return err
		}
	} else {
		n := int(op-opTuple1) + 1
		if vm.available() < n {
			return vm.fail("the stack is empty")
		}
		items = append(items, vm.stack[len(vm.stack)-n:]...)
		vm.stack = vm.stack[:len(vm.stack)-n]
	}
	return vm.push(&pyTuple{items})
}

func (vm *pickleVM) fill(op byte) error {
	var items []any
	n := map[byte]int{opAppend: 1, opSetItem: 2}[op]
	if n == 0 {
		var err error
		if items, err = vm.toMark(); err != nil {
			return err
		}
	} else {
		if vm.available() < n+1 {
			return vm.fail("the stack is empty")
		}
		items = append(items, vm.stack[len(vm.stack)-n:]...)
		vm.stack = vm.stack[:len(vm.stack)-n]
	}
	if vm.available() < 1 {
		return vm.fail("the stack is empty")
	}
	switch c := vm.stack[len(vm.stack)-1].(type) {
	case *pyList:
		if op == opAppend || op == opAppends {
			c.items = append(c.items, items...)
			return nil
		}
	case *pyDict:
		if (op == opSetItem || op == opSetItems) && len(items)%2 == 0 {
			for i := 0; i < len(items); i += 2 {
				c.set(items[i], items[i+1])
			}
			return nil
		}
	}
	return vm.fail("opcode %q on a value that cannot take it", op)
}

func (vm *pickleVM) global(op byte) error {
	var g pyGlobal
	if op == opGlobal {
		var err error
		if g.module, err = vm.line(); err != nil {
			return err
		}
		if g.name, err = vm.line(); err != nil {
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
		g.module, ok1 = module.(string)
		g.name, ok2 = name.(string)
		if !ok1 || !ok2 {
			return vm.fail("STACK_GLOBAL without two strings")
		}
	}
	if !allowedGlobal(g) {
		return vm.fail("names %.80q, which a state dict does not need; nothing was executed", g.module+"."+g.name)
	}
	return vm.push(g)
}

// object runs REDUCE, BUILD and BINPERSID. BUILD's state (an OrderedDict's _metadata) is dropped.
func (vm *pickleVM) object(op byte) error {
	arg, err := vm.pop()
	if err != nil {
		return err
	}
	if op == opBinPersID {
		if vm.persistent == nil {
			return vm.fail("a persistent id where there must be none")
		}
		v, err := vm.persistent(arg)
		if err != nil {
			return err
		}
		return vm.push(v)
	}
	target, err := vm.pop()
	if err != nil {
		return err
	}
	if op == opBuild {
		switch target.(type) {
		case *pyDict, *pyTensor:
			return vm.push(target)
		}
		return vm.fail("BUILD on a value that is neither a dict nor a tensor; nothing was executed")
	}
	g, ok1 := target.(pyGlobal)
	args, ok2 := arg.(*pyTuple)
	if !ok1 || !ok2 {
		return vm.fail("REDUCE without a name and a tuple; nothing was executed")
	}
	v, err := rebuild(g, args.items)
	if err != nil {
		return err
	}
	return vm.push(v)
}

func (vm *pickleVM) push(v any) error {
	if vm.objects++; vm.objects > vm.max {
		return &onnxio.LimitError{What: "values of a pickle", Got: vm.objects, Limit: vm.max}
	}
	vm.stack = append(vm.stack, v)
	return nil
}

// available counts the values above the last mark.
func (vm *pickleVM) available() int {
	if n := len(vm.marks); n > 0 {
		return len(vm.stack) - vm.marks[n-1]
	}
	return len(vm.stack)
}

func (vm *pickleVM) pop() (any, error) {
	if vm.available() < 1 {
		return nil, vm.fail("the stack is empty")
	}
	v := vm.stack[len(vm.stack)-1]
	vm.stack = vm.stack[:len(vm.stack)-1]
	return v, nil
}

func (vm *pickleVM) toMark() ([]any, error) {
	if len(vm.marks) == 0 {
		return nil, vm.fail("no mark on the stack")
	}
	at := vm.marks[len(vm.marks)-1]
	vm.marks = vm.marks[:len(vm.marks)-1]
	items := append([]any(nil), vm.stack[at:]...)
	vm.stack = vm.stack[:at]
	return items, nil
}

func (vm *pickleVM) byte() (byte, error) {
	n, err := vm.uint(1)
	return byte(n), err
}

// uint reads a little-endian number.
func (vm *pickleVM) uint(width int) (uint64, error) {
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

func (vm *pickleVM) bytes(n uint64) ([]byte, error) {
	if n > uint64(vm.left) {
		return nil, vm.fail("truncated: %d bytes wanted, %d remain", n, vm.left)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(vm.r, b); err != nil {
		return nil, &onnxio.FormatError{Format: formatPT, Where: "pickle", Msg: "cannot read", Err: err}
	}
	vm.left -= int64(n)
	vm.used += int64(n)
	return b, nil
}

func (vm *pickleVM) line() (string, error) {
	var b []byte
	for {
		c, err := vm.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(b), nil
		}
		if b = append(b, c); len(b) > 256 {
			return "", vm.fail("a name of more than 256 bytes")
		}
	}
}
