//go:build !linux

package parallel

// Other systems place threads themselves.
func allowedCPUs() []int { return nil }

func pin(int) (restore func()) { return func() {} }
