package pickle

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// run loads a pickle for which "known name" alone means something.
func run(t *testing.T, p string, opaque bool) (any, error) {
	t.Helper()
	rules := Rules{Format: "test", Holds: "a test", Max: 1 << 16, Opaque: opaque,
		Allowed: func(g Global) bool { return g == Global{"known", "name"} },
		Reduce:  func(g Global, args []any) (any, error) { return int64(len(args)), nil },
		Build:   func(target, state any) (any, error) { return target, nil }}
	return New(bytes.NewReader([]byte(p)), 0, int64(len(p)), rules).Load()
}

// Objects are opaque: they keep their name, arguments, state and items, and keep their identity.
func TestOpaque(t *testing.T) {
	for name, c := range map[string]struct {
		pickle, class string
		args          int
		check         func(o *Opaque) bool
	}{
		"name": {"\x80\x02cos\nsystem\n.", "os.system", 0, nil},
		"reduce": {"\x80\x02cos\nsystem\nU\x02ls\x85R.", "os.system", 1,
			func(o *Opaque) bool { return o.Args[0] == "ls" }},
		"result": {"\x80\x02ca\nb\n)RK\x01\x85R.", "a.b", 1, nil},
		"stack":  {"\x80\x04\x8c\x01a\x8c\x03b.c\x93.", "a.b.c", 0, nil},
		"newobj": {"\x80\x02ca\nb\nK\x01\x85\x81}U\x01xK\x02sb.", "a.b", 1,
			func(o *Opaque) bool { return o.State.(*Dict).Get("x") == int64(2) }},
		"newobj ex": {"\x80\x04ca\nb\nK\x01\x85}\x92.", "a.b", 1, nil},
		"items": {"\x80\x02ca\nb\n)RU\x01xK\x02s(U\x01yK\x03u.", "a.b", 0,
			func(o *Opaque) bool { return o.Items.Get("y") == int64(3) }},
		"appended": {"\x80\x02ca\nb\n)RK\x02a(K\x03e.", "a.b", 0, nil},
		"set": {"\x80\x04\x8f(K\x01K\x02\x90.", "builtins.set", 1,
			func(o *Opaque) bool { return len(o.Elements().Items) == 2 }},
		"old set": {"\x80\x02c__builtin__\nset\n]K\x01a\x85R.", "__builtin__.set", 1,
			func(o *Opaque) bool { return len(o.Elements().Items) == 1 }},
		"frozenset": {"\x80\x04(K\x01\x91.", "builtins.frozenset", 1,
			func(o *Opaque) bool { return o.Elements().Items[0] == int64(1) }},
		"no set": {"\x80\x02ca\nb\n]\x85R.", "a.b", 1, func(o *Opaque) bool {
			return o.Elements() == nil
		}},
		"holds it": {"\x80\x02ca\nb\n)\x81q\x00}U\x01xh\x00sb.", "a.b", 0,
			func(o *Opaque) bool { return o.State.(*Dict).Get("x") == any(o) }},
		"state twice": {"\x80\x02ca\nb\n)\x81K\x01bK\x02b.", "a.b", 0, func(o *Opaque) bool {
			return o.State == int64(2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := run(t, c.pickle, true)
			o, ok := v.(*Opaque)
			if err != nil || !ok || o.Name != c.class || len(o.Args) != c.args || c.check != nil &&
				!c.check(o) {
				t.Errorf("%#v, %v", v, err)
			}
			var f *onnxio.FormatError
			if _, err := run(t, c.pickle, false); !errors.As(err, &f) {
				t.Errorf("without Opaque: %v", err)
			}
		})
	}
	if v, err := run(t, "\x80\x02cknown\nname\nK\x01\x85R.", true); v != any(int64(1)) || err != nil {
		t.Errorf("a known name: %v, %v", v, err)
	}
}

// Everything else stays refused: extension codes, buffers out of band, protocol 0, and objects of no class.
func TestRefusedOpcodes(t *testing.T) {
	for name, p := range map[string]string{
		"ext1": "\x80\x02\x82\x01.", "ext2": "\x80\x02\x83\x01\x00.", "ext4": "\x80\x02\x84\x01\x00\x00\x00.",
		"next buffer": "\x80\x05\x97.", "read-only": "\x80\x05N\x98.", "inst": "\x80\x02(ios\nsystem\n.",
		"obj":    "\x80\x02(ca\nb\no.",
		"persid": "\x80\x02Pa\n.", "int": "\x80\x02I1\n.", "get": "\x80\x02Ng0\n.", "dict": "\x80\x02(d.",
		"newobj of a known name": "\x80\x02cknown\nname\n)\x81.", "newobj of nothing": "\x80\x02)\x81.",
		"newobj ex cut": "\x80\x04ca\nb\n)\x92.",
		"reduce a dict": "\x80\x02})R.", "reduce no tuple": "\x80\x02ca\nb\n}R.",
		"build a list": "\x80\x02(ca\nb\nb.",
		"odd items":    "\x80\x02ca\nb\n(Nu.", "add to a dict": "\x80\x04}(N\x90.",
		"add to no set": "\x80\x04ca\nb\n(N\x90.", "add to nothing": "\x80\x04\x8fN\x90.",
	} {
		var f *onnxio.FormatError
		if _, err := run(t, p, true); !errors.As(err, &f) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Objects count as values, so that a loop of calls ends at the limit.
func TestOpaquesAreCounted(t *testing.T) {
	p := slices.Concat([]byte("\x80\x02ca\nb\nq\x00"), bytes.Repeat([]byte(")R"), 1<<16), []byte("."))
	var l *onnxio.LimitError
	if _, err := run(t, string(p), true); !errors.As(err, &l) {
		t.Errorf("error %v", err)
	}
}

// FuzzMachine runs any pickle: a typed error or a value, the same kind each time.
func FuzzMachine(f *testing.F) {
	f.Add([]byte("\x80\x02ca\nb\nK\x01\x85\x81}U\x01xK\x02sb."))
	f.Add([]byte("\x80\x04\x8f(K\x01K\x02\x90h\x00\x85\x94."))
	f.Add([]byte("\x80\x04ca\nb\nK\x01\x85}\x92(U\x01yK\x03u."))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, opaque := range []bool{false, true} {
			_, err := run(t, string(p), opaque)
			_, again := run(t, string(p), opaque)
			var fe *onnxio.FormatError
			var le *onnxio.LimitError
			if err != nil && !errors.As(err, &fe) && !errors.As(err, &le) || (err == nil) != (again == nil) {
				t.Fatalf("%v, then %v", err, again)
			}
		}
	})
}
