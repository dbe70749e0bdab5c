//go:build linux

package kernels

import (
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// stressVar is how long TestStressAMX runs, as time.ParseDuration reads it: a second without.
const stressVar = "CNNKIT_STRESS"

// TestStressAMX multiplies on tiles in many goroutines, some locked to their threads, under
// garbage collections, signals and more threads than processors: every result must have the bits
// of the first, or the twin's.
func TestStressAMX(t *testing.T) {
	if !amx() {
		t.Skip("no AMX")
	}
	length := time.Second
	if v := os.Getenv(stressVar); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2 * runtime.NumCPU()))
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	var checks [12]func() bool
	for i := range checks {
		r, size := rand.New(rand.NewPCG(uint64(i), 1)), []int{5, 14, 28, 56}[i%4]
		if i < 8 {
			checks[i] = stressBF16(r, size, 33+20*i)
		} else {
			checks[i] = stressInt8(r, size, 33+20*i)
		}
	}
	var calls, bad atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(length)
	for i, check := range checks {
		all.Go(func() {
			if i%4 == 0 {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			for time.Now().Before(end) {
				calls.Add(1)
				if !check() {
					bad.Add(1)
				}
			}
		})
	}
	all.Go(func() { disturb(end) })
	all.Wait()
	t.Logf("%d calls in %v", calls.Load(), length)
	if bad.Load() > 0 || calls.Load() < 12 {
		t.Errorf("%d of %d results differ from the first", bad.Load(), calls.Load())
	}
}

// disturb collects garbage and sends signals to this process, whose threads take them in turn.
func disturb(end time.Time) {
	for i := 0; time.Now().Before(end); i++ {
		_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		if i%20 == 0 {
			runtime.GC()
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// stressBF16 computes a convolution and reports whether it has the bits of the first time, or of
// the twin where it is small.
func stressBF16(r *rand.Rand, size, channels int) (check func() bool) {
	l := LineLayout{1, channels, size, size, 1, BF16Lanes}
	k, err := NewConvBF16(ConvBF16Spec{l, l, Window{3, 3, 1, 1, 1, 1, 1, 1}})
	if err != nil {
		panic(err)
	}
	x, w := toLines(l, random(r, l.C*size*size)), AlignedBF16(k.WeightSize())
	k.Pack(w, random(r, l.C*l.C*9))
	return repeats(size, func() []uint16 {
		y, scratch := AlignedBF16(l.Size()), AlignedSlice(k.Scratch()) // garbage on purpose
		for chunk := range k.Chunks() {
			k.Run(chunk, scratch, y, x, w, EpilogueBF16{Residual: x, ReLU: true})
		}
		return y
	})
}

// stressInt8 is the same for bytes.
func stressInt8(r *rand.Rand, size, channels int) (check func() bool) {
	l := LineLayout{1, channels, size, size, 1, Int8Lanes}
	k, err := NewConvInt8(ConvInt8Spec{X: l, Y: l, Window: Window{3, 3, 1, 1, 1, 1, 1, 1}})
	if err != nil {
		panic(err)
	}
	x, w := AlignedBytes(l.Size()), AlignedBytes(k.WeightSize())
	copy(x, randomBytes(r, len(x)))
	e := drawRequantize(r, make([]int32, k.Outputs()), k.Outputs(), l.C*9)
	k.Pack(w, wideWeights(r, l.C*l.C*9, 1), 1)
	return repeats(size, func() []uint8 {
		y, scratch := AlignedBytes(l.Size()), AlignedSlice(k.Scratch())
		for chunk := range k.Chunks() {
			k.Run(chunk, scratch, y, x, w, e)
		}
		return y
	})
}

func repeats[T comparable](size int, run func() []T) (check func() bool) {
	var first []T
	if size <= 14 {
		onTwins(func() { first = run() })
	} else {
		first = run()
	}
	return func() bool { return slices.Equal(run(), first) }
}
