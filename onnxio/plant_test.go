package onnxio

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// plantedField is a field number that no message has.
const plantedField = 5000

// plant adds an unknown field, numbered from *n on, to m and every message in it.
func plant(m protoreflect.Message, n *int) {
	eachMessage(m, func(m protoreflect.Message) {
		b := protowire.AppendTag(append([]byte(nil), m.GetUnknown()...), plantedField, protowire.VarintType)
		m.SetUnknown(protowire.AppendVarint(b, uint64(*n)))
		*n++
	})
}

// seek collects the planted fields it finds.
func seek(m protoreflect.Message, found map[uint64]bool) {
	eachMessage(m, func(m protoreflect.Message) {
		for b := m.GetUnknown(); len(b) > 0; {
			num, typ, n := protowire.ConsumeField(b)
			if num == plantedField && typ == protowire.VarintType {
				_, _, tag := protowire.ConsumeTag(b)
				v, _ := protowire.ConsumeVarint(b[tag:])
				found[v] = true
			}
			b = b[n:]
		}
	})
}

func eachMessage(m protoreflect.Message, f func(protoreflect.Message)) {
	f(m)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), f)
			}
		default:
			eachMessage(v.Message(), f)
		}
		return true
	})
}
