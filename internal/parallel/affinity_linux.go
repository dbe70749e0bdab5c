package parallel

import (
	"golang.org/x/sys/unix"
)

// allowedCPUs lists the CPUs of the process's affinity mask.
func allowedCPUs() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var out []int
	for i := 0; len(out) < set.Count(); i++ {
		if set.IsSet(i) {
			out = append(out, i)
		}
	}
	return out
}

// affinity remembers on which CPUs a thread could run before it was pinned.
type affinity struct {
	old, one unix.CPUSet
	pinned   bool
}

// pin binds the calling thread to one CPU. The caller holds the thread.
func (a *affinity) pin(cpu int) {
	if a.pinned = false; unix.SchedGetaffinity(0, &a.old) != nil {
		return
	}
	a.one.Zero()
	a.one.Set(cpu)
	a.pinned = unix.SchedSetaffinity(0, &a.one) == nil
}

// restore undoes pin.
func (a *affinity) restore() {
	if a.pinned {
		_ = unix.SchedSetaffinity(0, &a.old)
	}
}
