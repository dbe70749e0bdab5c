package parallel

import (
	"testing"
	"time"
)

func TestAccount(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	var a account
	at := now()
	good := func() { a.add(80*us, 3*us, 10*us, at, 1) }
	late := func() { a.add(80*us, 3*ms, 10*us, at, 1) }

	for range 100 {
		good()
	}
	if a.until != 0 {
		t.Fatal("suspended without a late worker")
	}
	// Each suspension is twice as long as the one before, up to the longest.
	for i := range maxLevel + 3 {
		late()
		if want := at + ms<<min(i, maxLevel); a.until != want {
			t.Fatalf("suspension %d: %v, want %v", i, a.until-at, want-at)
		}
		a.until = at // over
		if a.suspended() {
			t.Fatal("a suspension does not end")
		}
	}
	late()
	a.until = now() + time.Hour
	if !a.suspended() {
		t.Fatal("not suspended")
	}
	// Useful workers are trusted again.
	a.until = 0
	for range (maxLevel + 1) * int(goodRun/(80*us)+1) {
		good()
	}
	if a.level != 0 {
		t.Fatalf("level %d after good runs", a.level)
	}
	// Many workers may have one late among them.
	a = account{}
	for range 100 {
		a.add(600*us, 3*us, 10*us, at, 15)
	}
	if a.add(600*us, 3*ms, 10*us, at, 15); a.until != 0 {
		t.Fatal("15 workers suspended for one")
	}
}
