//go:build unix

package train

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// roomFor lets no file grow beyond n bytes while f runs, which to a writer is the same as a full disk.
func roomFor(t *testing.T, n uint64, f func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Skip(err)
	}
	small := old
	small.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Skip(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// Where the disk is full while a model or a checkpoint is written, the run ends with an error, what was saved
// before stays whole, and the run goes on from there to the same bits.
//
// It is a process of its own that has no room: the limit would strike the log that `go
// test` keeps of this one, too.
func TestFullDiskLosesNothing(t *testing.T) {
	if os.Getenv("CNNKIT_TEST_FULL_DISK") == "" {
		inChild(t)
		return
	}
	cfg := resumable("adam")
	// which depends on the run's length, and a first run of one epoch is to have the same
	cfg.Schedule = Schedule{}
	want := stopped(t, lenet, cfg, t.TempDir())
	for _, room := range []uint64{1, 20_000, 200_000, 300_000, 700_000} {
		dir, short := t.TempDir(), cfg
		short.Epochs = 1
		if _, err := Run(t.Context(), lenet(t), small(t, 200, 50), short, dir, Observer{}); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
		if err != nil {
			t.Fatal(err)
		}
		c, err := LoadCheckpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		roomFor(t, room, func() {
			_, err = Recipe{Config: cfg}.Resume(t.Context(), c, small(t, 200, 50), dir, Observer{})
		})
		if err == nil {
			t.Fatalf("files of %d bytes are enough", room)
		}
		t.Log(err)
		if after, err := os.ReadFile(filepath.Join(dir, CheckpointFile)); err != nil ||
			string(after) != string(before) {
			t.Errorf("%d bytes of room: the checkpoint is not what it was: %v", room, err)
		}
		for _, name := range []string{LastFile, BestFile} {
			if _, err := onnxio.Load(filepath.Join(dir, name)); err != nil {
				t.Errorf("%d bytes of room: %v", room, err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("%d bytes of room: %v are left behind", room, left)
		}
		if c, err = LoadCheckpoint(dir); err != nil {
			t.Fatal(err)
		}
		res, err := Recipe{Config: cfg}.Resume(t.Context(), c, small(t, 200, 50), dir, Observer{})
		if err != nil {
			t.Fatal(err)
		}
		if encoded(t, res.Model) != want {
			t.Errorf("%d bytes of room: the run ends in other weights", room)
		}
	}
}

// inChild runs the test in a process of its own.
func inChild(t *testing.T) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), "CNNKIT_TEST_FULL_DISK=1")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Skipf("%s", out)
	}
}

// The history, and what else is smaller than a usual model, is whole too where it cannot be written:
// of a network smaller than its history each of these files in turn is the first that has no room,
// and keeps what was in it.
func TestFullDiskKeepsTheHistory(t *testing.T) {
	if os.Getenv("CNNKIT_TEST_FULL_DISK") == "" {
		inChild(t)
		return
	}
	dir := t.TempDir()
	cfg := Config{Epochs: 30, Batch: 12, Optimizer: "adam", LR: 1e-3, Metrics: []string{"precision", "recall",
		"f1", "iou", "dice", "auc"}}
	if _, err := Run(t.Context(), tinyNet(t), tinySplits(t), cfg, dir, Observer{}); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Epochs++
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	checkpoint := read(CheckpointFile)
	for _, name := range []string{RecipeFile, LastFile, HistoryFile, PlotFile} {
		before := read(name)
		roomFor(t, uint64(len(before))*9/10, func() {
			_, err = Recipe{Config: cfg}.Resume(t.Context(), c, tinySplits(t), dir, Observer{})
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with too little room for %s: %v", name, err)
		}
		if read(name) != before || read(CheckpointFile) != checkpoint {
			t.Errorf("%s, or the checkpoint, is not what it was", name)
		}
	}
}
