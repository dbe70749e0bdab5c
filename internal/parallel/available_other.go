//go:build !linux

package parallel

func affinity() int { return 0 }

func quota() int { return 0 }
