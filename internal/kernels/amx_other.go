//go:build !linux || !amd64 || purego

package kernels

// grantAMX knows no other system.
func grantAMX() bool { return false }
