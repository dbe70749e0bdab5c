//go:build !purego

package parallel

// pause tells the core that the thread is polling.
//
//go:noescape
func pause()
