package engine

import "sync"

const (
	// unknownMachine stands for the memory of a machine that does not say.
	unknownMachine = 8 << 30
	// share of the machine's memory that the values of one run may take.
	share = 2
)

var defaultBytes = sync.OnceValue(func() int64 { return machineBytes() / share })

// DefaultBytes is the memory that the values of one run may take where nothing else is said.
func DefaultBytes() int64 { return defaultBytes() }

// maxBytes bounds the memory of a run's values.
func (opt Options) maxBytes() int64 {
	if opt.MaxBytes > 0 {
		return opt.MaxBytes
	}
	return defaultBytes()
}
