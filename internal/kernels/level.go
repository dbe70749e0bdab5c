package kernels

import (
	"fmt"
	"os"
)

// level is an instruction set, ascending.
type level int

const (
	levelGo level = iota
	levelAVX2
	levelAVX512
)

var levelNames = []string{"go", "avx2", "avx512"}

var (
	current  level // in use
	levelErr error
)

func init() { current, levelErr = choose(os.Getenv("CNNKIT_CPU"), available()) }

// choose is the level that the environment variable asks for, at most what there is.
func choose(want string, best level) (level, error) {
	if want == "" {
		return best, nil
	}
	for l, name := range levelNames {
		if name != want {
			continue
		}
		if level(l) > best {
			return best, fmt.Errorf("CNNKIT_CPU=%s: this machine or build has only %s", want, levelNames[best])
		}
		return level(l), nil
	}
	return best, fmt.Errorf("CNNKIT_CPU=%q is unknown: avx512, avx2 or go", want)
}

// Level is the instruction set in use: "avx512", "avx2" or "go".
func Level() string { return levelNames[current] }

// LevelError says why CNNKIT_CPU was not obeyed; nil when it was, or is not set.
func LevelError() error { return levelErr }
