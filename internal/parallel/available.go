package parallel

import "runtime"

// available is how many threads the process may use.
func available() int {
	n := runtime.GOMAXPROCS(0)
	if m := affinity(); m > 0 {
		n = min(n, m)
	}
	if q := quota(); q > 0 {
		n = min(n, q)
	}
	return max(n, 1)
}
