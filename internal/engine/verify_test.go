package engine

// The invariants are checked after every pass of every compilation in this package's tests.
func init() { verifying = true }
