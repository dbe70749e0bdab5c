package serve

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// codec is gRPC's own, but for requests of very many parts: an empty input takes two bytes of a message, and
// sixty times that once it is decoded.
type codec struct{ encoding.CodecV2 }

// maxParts bounds the parts of a request: inputs, outputs, raw contents, and what an input or output consists of.
const maxParts = 4 * maxObjects

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*oip.ModelInferRequest); !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if n := parts(whole.ReadOnlyData(), true); n > maxParts {
		return invalid("the request has %d parts: %d at most", n, maxParts)
	}
	return c.CodecV2.Unmarshal(mem.BufferSlice{whole}, v)
}

// parts counts the fields of a message that are messages, strings or bytes, and of a request those of its
// inputs and outputs. It stops where the message is malformed, as decoding it does.
func parts(message []byte, request bool) (count int) {
	const inputs, outputs = 5, 6
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return count
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return count
		}
		if kind == protowire.BytesType {
			count++
			if request && (number == inputs || number == outputs) {
				inner, _ := protowire.ConsumeBytes(message)
				count += parts(inner, false)
			}
		}
		message = message[n:]
	}
	return count
}
