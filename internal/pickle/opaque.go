package pickle

// The opcodes that only objects need. They are refused unless Rules.Opaque is set.
const (
	OpNewObj    = 0x81
	OpEmptySet  = 0x8f
	OpAddItems  = 0x90
	OpFrozenSet = 0x91
	OpNewObjEx  = 0x92
)

// Opaque stands for a name that the rules do not know, and for every object that the pickle makes of it. It
// remembers the name, and as data what the pickle gives the object. Nothing is imported, constructed or
// called. Two opcodes need no name: a set is an Opaque of "builtins.set" whose only argument is the list of
// its elements, and so is a frozenset.
type Opaque struct {
	Name  string // module and name: "argparse.Namespace"
	Args  []any  // of the call (REDUCE) or the construction (NEWOBJ)
	State any    // given by BUILD
	Items Dict   // given by SETITEM and SETITEMS, where the object is a kind of dict
}

// Elements is the list that a set was made of, nil if o is no set.
func (o *Opaque) Elements() *List {
	switch o.Name {
	case "builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset":
		if len(o.Args) == 1 {
			l, _ := o.Args[0].(*List)
			return l
		}
	}
	return nil
}

// fill takes what APPEND, APPENDS, SETITEM, SETITEMS and ADDITEMS give. Items of an object that is no dict
// and no set are forgotten.
func (o *Opaque) fill(op byte, items []any) bool {
	switch op {
	case OpSetItem, OpSetItems:
		if len(items)%2 != 0 {
			return false
		}
		for i := 0; i < len(items); i += 2 {
			o.Items.Set(items[i], items[i+1])
		}
	case OpAddItems:
		l := o.Elements()
		if l == nil {
			return false
		}
		l.Items = append(l.Items, items...)
	}
	return true
}

// opaque runs the opcodes that only objects need.
func (vm *Machine) opaque(op byte) error {
	if !vm.Opaque {
		_, err := vm.literal(op)
		return err
	}
	switch op {
	case OpEmptySet:
		return vm.push(&Opaque{Name: "builtins.set", Args: []any{&List{}}})
	case OpAddItems:
		return vm.fill(op)
	case OpFrozenSet:
		items, err := vm.toMark()
		if err != nil {
			return err
		}
		return vm.push(&Opaque{Name: "builtins.frozenset", Args: []any{&List{items}}})
	}
	return vm.newObject(op)
}

// newObject runs NEWOBJ and NEWOBJ_EX: the object of an opaque class is opaque.
func (vm *Machine) newObject(op byte) error {
	n := 2
	if op == OpNewObjEx {
		n = 3 // the arguments that have names come last, and are forgotten
	}
	if vm.available() < n {
		return vm.Malformed("the stack is empty")
	}
	from := len(vm.stack) - n
	class, ok1 := vm.stack[from].(*Opaque)
	args, ok2 := vm.stack[from+1].(*Tuple)
	if !ok1 || !ok2 {
		return vm.Malformed("NEWOBJ without a class and a tuple; nothing was executed")
	}
	vm.stack = vm.stack[:from]
	return vm.push(&Opaque{Name: class.Name, Args: args.Items})
}

// give runs BUILD and REDUCE on an opaque value: the one remembers a state, the other makes an object.
func (vm *Machine) give(o *Opaque, op byte, arg any) error {
	if op == OpBuild {
		o.State = arg
		return vm.push(o)
	}
	args, ok := arg.(*Tuple)
	if !ok {
		return vm.Malformed("REDUCE without a tuple; nothing was executed")
	}
	return vm.push(&Opaque{Name: o.Name, Args: args.Items})
}
