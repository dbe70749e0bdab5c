package parallel

import "time"

// account weighs what the workers save the caller against what it waits for late ones, and suspends them while they do
// not pay: first for a millisecond, then for twice as long each time, up to maxLevel doublings.
type account struct {
	balance time.Duration // saved less twice what was waited, of late
	earned  time.Duration // saved since the last change of level
	until   time.Duration // end of the suspension, 0 when there is none
	level   int
}

const (
	maxLevel   = 9
	maxBalance = 500 * time.Microsecond // for each worker
	goodRun    = 20 * time.Millisecond  // of savings without a late worker, to forget one suspension
)

var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

// suspended says whether the caller is better off alone.
func (a *account) suspended() bool {
	if a.until == 0 {
		return false
	}
	if now() < a.until {
		return true
	}
	a.until = 0
	return false
}

// add books a region that ended at the given time: what its workers saved, what the caller waited for them in the end,
// and how long a chunk takes. Waiting for a chunk or two is a matter of how a region is cut.
func (a *account) add(saved, waited, chunk, at time.Duration, workers int) {
	if waited > spinTime+2*chunk {
		a.balance -= 2 * waited
		a.earned = 0
	}
	a.balance = min(a.balance+saved, maxBalance*time.Duration(workers))
	if a.earned += saved; a.earned > goodRun {
		a.earned, a.level = 0, max(a.level-1, 0)
	}
	if a.balance < 0 {
		a.until = at + time.Millisecond<<a.level
		a.balance, a.earned, a.level = 0, 0, min(a.level+1, maxLevel)
	}
}
