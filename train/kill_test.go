package train

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// killEnv names the folder in which the test binary, started again, trains until it is killed.
const killEnv = "CNNKIT_TEST_TRAIN_INTO"

// TestTrainUntilKilled is the other process of TestKilledRunLeavesAWholeModel.
func TestTrainUntilKilled(t *testing.T) {
	dir := os.Getenv(killEnv)
	if dir == "" {
		t.Skip("runs in the process that TestKilledRunLeavesAWholeModel starts")
	}
	cfg := Defaults("lenet5")
	cfg.Epochs, cfg.Threads = 1000, 1
	_, err := Run(context.Background(), lenet(t), small(t, 128, 16), cfg, dir, Observer{})
	t.Fatalf("not killed: %v", err)
}

// A run killed at a random moment leaves models that load and pass the check, and they are those of a
// finished epoch: the same run, left alone, has the same weights after one of its epochs.
func TestKilledRunLeavesAWholeModel(t *testing.T) {
	if testing.Short() {
		t.Skip("starts twenty processes: run without -short")
	}
	epochs := map[string]bool{} // the weights after each epoch of the run left alone
	m := lenet(t)
	cfg := Defaults("lenet5")
	cfg.Epochs, cfg.Threads = 150, 1
	if _, err := Run(context.Background(), m, small(t, 128, 16), cfg, "",
		Observer{Epoch: func(Epoch) { epochs[encoded(t, m)] = true }}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		dir := t.TempDir()
		killed(t, dir, time.Duration(random.IntN(250))*time.Millisecond)
		for _, name := range []string{LastFile, BestFile} {
			path := filepath.Join(dir, name)
			m, err := onnxio.Load(path)
			if err == nil {
				err = check.Model(m)
			}
			if err != nil {
				t.Errorf("kill %d: %s: %v", i, name, err)
			} else if !epochs[encoded(t, m)] {
				t.Errorf("kill %d: %s is from no finished epoch", i, name)
			}
		}
	}
}

func encoded(t *testing.T, m *onnxio.Model) string {
	b, err := onnxio.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// killed starts a training into dir and kills it a while after its first epoch.
func killed(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTrainUntilKilled$")
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if _, err := os.Stat(filepath.Join(dir, BestFile)); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed" is what was wanted
}
