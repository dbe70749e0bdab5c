package parallel

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// burnVar makes the test binary a process that keeps a core busy.
const burnVar = "CNNKIT_PARALLEL_BURN"

func TestMain(m *testing.M) {
	if os.Getenv(burnVar) != "" {
		for stop := time.Now().Add(time.Minute); time.Now().Before(stop); {
			burn(1 << 20)
		}
		return
	}
	os.Exit(m.Run())
}

var sink atomic.Uint64

// burn computes for a time proportional to n, whatever the clock says.
func burn(n int) {
	x := uint64(n)
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 0 {
		sink.Add(x)
	}
}

// burnFor is how much to burn in d on an idle core.
func burnFor(d time.Duration) int {
	const n = 1 << 16
	best := time.Hour
	for range 50 {
		start := time.Now()
		burn(n)
		best = min(best, time.Since(start))
	}
	return int(n * d / best)
}

// startBurners starts n busy processes; they end with the test.
func startBurners(tb testing.TB, n int) {
	for range n {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), burnVar+"=1", "GOMAXPROCS=1")
		if err := c.Start(); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
}

// BenchmarkBeside runs 40 regions of 16 chunks of 5 us, 3.2 ms of work, alone and beside busy processes.
// Compare 2 threads with 1 under the same load.
func BenchmarkBeside(b *testing.B) {
	n := burnFor(5 * time.Microsecond)
	f := func(int, int) { burn(n) }
	for busy := range 3 {
		for threads := 1; threads <= 2; threads++ {
			b.Run(fmt.Sprintf("busy=%d/threads=%d", busy, threads), func(b *testing.B) {
				startBurners(b, busy)
				p := New(threads)
				defer p.Close()
				for b.Loop() {
					p.Do(func(r Region) {
						for range 40 {
							r.Run(16, f)
						}
					})
				}
			})
		}
	}
}
