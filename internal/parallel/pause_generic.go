//go:build !amd64 || purego

package parallel

// pause tells the core that the thread is polling, where there is a way to.
func pause() {}
