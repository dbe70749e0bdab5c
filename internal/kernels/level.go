package kernels

import (
	"fmt"
	"os"
	"sync"
)

// level is an instruction set, ascending.
type level int

const (
	levelGo level = iota
	levelAVX2
	levelAVX512
	levelVNNI // of the kernels of int8; the others are levelAVX512's
	levelAMX  // of the kernels of bf16 and int8; those of float32 are levelAVX512's
)

var levelNames = []string{"go", "avx2", "avx512", "avx512vnni", "amx"}

var (
	current  level  // of the float32 kernels
	asked    string // by CNNKIT_CPU
	levelErr error  // of the levels up to AVX-512
)

func init() {
	asked = os.Getenv("CNNKIT_CPU")
	current, levelErr = choose(asked, available())
}

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
			return best, fmt.Errorf("CNNKIT_CPU=%s: this machine or build has only %s", want,
				levelNames[best])
		}
		return level(l), nil
	}
	return best, fmt.Errorf("CNNKIT_CPU=%q is unknown: amx, avx512vnni, avx512, avx2 or go", want)
}

// amx is whether AMX is in use. The system grants it to the whole process and for good, so nothing asks
// before a kernel or a question for the level needs it.
var amx = sync.OnceValue(func() bool { return beyond(levelAMX) && grantAMX() })

// vnni is whether AVX512-VNNI may be used, where AMX is not.
var vnni = sync.OnceValue(func() bool { return beyond(levelVNNI) && hasVNNI() })

// beyond reports whether CNNKIT_CPU leaves room for a level above levelAVX512.
func beyond(l level) bool {
	want, err := choose(asked, levelAMX)
	return current == levelAVX512 && (asked == "" || err != nil || want >= l)
}

// twinsOnly and tilesOff keep tests from assembly and from AMX.
var twinsOnly, tilesOff bool

func useAMX() bool { return amx() && !twinsOnly && !tilesOff }

func useVNNI() bool { return vnni() && !twinsOnly }

// Level is the instruction set of the float32 kernels: "avx512", "avx2" or "go".
func Level() string { return levelNames[current] }

// LevelBF16 is the instruction set of the kernels of bf16: "amx" or "go".
func LevelBF16() string {
	if amx() {
		return levelNames[levelAMX]
	}
	return levelNames[levelGo]
}

// LevelInt8 is the instruction set of the kernels of int8: "amx", "avx512vnni" or "go".
func LevelInt8() string {
	if !amx() && vnni() {
		return levelNames[levelVNNI]
	}
	return LevelBF16()
}

// LevelError says why CNNKIT_CPU was not obeyed; nil when it was, or is not set.
func LevelError() error {
	if asked == levelNames[levelAMX] && amx() || asked == levelNames[levelVNNI] && vnni() {
		return nil
	}
	return levelErr
}
