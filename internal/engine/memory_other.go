//go:build !linux

package engine

// machineBytes is the memory of the machine, which other systems are not asked for.
func machineBytes() int64 { return unknownMachine }
