package serve

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// incoming is a request as it has come, or what is wrong with it: gRPC would call a malformed
// message a fault of the server's.
type incoming struct {
	oip.ModelInferRequest
	err error
}

// codec is gRPC's own, but for requests of very many parts, since an empty input takes two
// bytes of a message, and sixty times that once it is decoded; and it takes the memory of
// answers from a pool that counts it.
type codec struct {
	encoding.CodecV2
	pool mem.BufferPool
}

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	size := 0
	if ok {
		size = proto.Size(m)
	}
	if size <= minCounted {
		return c.CodecV2.Marshal(v)
	}
	buffer := c.pool.Get(size)
	text, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buffer)[:0], m)
	if err != nil {
		c.pool.Put(buffer)
		return nil, err
	}
	*buffer = text
	return mem.BufferSlice{mem.NewBuffer(buffer, c.pool)}, nil
}

// maxParts bounds the parts of a request: inputs, outputs, raw contents, and what an
// input or output consists of.
const maxParts = 4 * maxObjects

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(c.pool)
	defer whole.Free()
	if n := parts(whole.ReadOnlyData(), true); n > maxParts {
		r.err = invalid("the request has %d parts: %d at most", n, maxParts)
	} else if err := c.CodecV2.Unmarshal(mem.BufferSlice{whole}, &r.ModelInferRequest); err != nil {
		r.err = invalid("the request is no message of the protocol: %w", err)
	}
	return nil
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
