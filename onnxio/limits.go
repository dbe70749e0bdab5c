package onnxio

// Limits bounds what a reader takes from its input. A field that is zero stands for its default.
type Limits struct {
	// FileBytes is the largest .onnx file; by default 2 GiB less a byte, which is protobuf's own limit.
	FileBytes int64
	// ExternalBytes is the most that Load reads from external data files, all tensors
	// together; by default 64 GiB.
	ExternalBytes int64
	// Depth is how deeply messages may nest; by default 100, what the C++ and Python readers allow.
	Depth int
	// Overhead is the memory that reading may take beyond twice the size of the file; by default 128 MiB. A
	// file of tens of thousands of nodes and few weights needs more.
	Overhead int64
}

// DefaultLimits is what Load uses.
func DefaultLimits() Limits { return Limits{}.orDefault() }

func (l Limits) orDefault() Limits {
	if l.FileBytes == 0 {
		l.FileBytes = maxMessage
	}
	if l.ExternalBytes == 0 {
		l.ExternalBytes = 64 << 30
	}
	if l.Depth == 0 {
		l.Depth = 100
	}
	if l.Overhead == 0 {
		l.Overhead = 128 << 20
	}
	return l
}

// maxMessage is the largest protobuf message that the common implementations read.
const maxMessage = 1<<31 - 1
