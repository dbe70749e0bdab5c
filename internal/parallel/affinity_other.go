//go:build !linux

package parallel

// Other systems place threads themselves.
func allowedCPUs() []int { return nil }

type affinity struct{}

func (affinity) pin(int)  {}
func (affinity) restore() {}
