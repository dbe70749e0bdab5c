package engine

import "golang.org/x/sys/unix"

// machineBytes is the memory of the machine.
func machineBytes() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return unknownMachine
	}
	return int64(info.Totalram) * int64(info.Unit)
}
