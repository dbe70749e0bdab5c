//go:build unix

package mpi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/report"
)

// rankVariable tells TestRank that it is one.
const rankVariable = "CNNKIT_TEST_RANK"

// mpirun is a command on so many ranks, or a skip where the system has no MPI.
func mpirun(t *testing.T, ranks int, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("mpirun", slices.Concat([]string{"-n", strconv.Itoa(ranks)}, command)...)
	// Open MPI's; MPICH knows none of them and needs none.
	cmd.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
		"OMPI_MCA_rmaps_base_oversubscribe=1",
		"OMPI_MCA_btl_vader_single_copy_mechanism=none")
	return cmd
}

// needMPI skips where the system has no MPI to compile with and to run by.
func needMPI(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles with MPI and starts processes: run without -short")
	}
	for _, tool := range []string{"mpicc", "mpirun"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s: install Open MPI (apt-get install openmpi-bin libopenmpi-dev) or MPICH", tool)
		}
	}
}

// compiled compiles with MPI's compiler.
func compiled(args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CC=mpicc", "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
}

// The calls of Comm, between processes.
func TestMPI(t *testing.T) {
	needMPI(t)
	bin := filepath.Join(t.TempDir(), "mpi.test")
	if err := compiled("test", "-tags", "mpi", "-c", "-o", bin, "."); err != nil {
		t.Fatal(err)
	}
	for _, ranks := range []int{1, 2, 3, 4} {
		cmd := mpirun(t, ranks, bin, "-test.run", "^TestRank$", "-test.v")
		cmd.Env = append(cmd.Env, rankVariable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Count(out, []byte("--- PASS: TestRank")) != ranks {
			t.Errorf("%d ranks: %v\n%s", ranks, err, out)
		}
	}
}

var program struct {
	sync.Once
	dir string
	err error
}

// cnnkit compiles the program once.
func cnnkit(t *testing.T) string {
	t.Helper()
	needMPI(t)
	program.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "cnnkit-mpi"); program.err == nil {
			program.err = compiled("build", "-tags", "mpi", "-o", filepath.Join(program.dir, "cnnkit"),
				"github.com/cnnkit/cnnkit/cmd/cnnkit")
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "cnnkit")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// trained trains on so many ranks, 0 without mpirun, and gives the losses of the
// steps and the model's weights.
func trained(t *testing.T, ranks int, args ...string) (losses []float64, m *onnxio.Model) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	args = slices.Concat([]string{cnnkit(t), "train"}, args, []string{"--out", dir, "--log", "jsonl",
		"--no-report", "--threads", "1"})
	cmd := exec.Command(args[0], args[1:]...)
	if ranks > 0 {
		cmd = mpirun(t, ranks, append(args, "--distributed", "mpi")...)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	if n := bytes.Count(out, []byte("best: epoch")); n != 1 {
		t.Errorf("%d processes report:\n%s", n, out)
	}
	return stepLosses(t, dir), weightsIn(t, dir)
}

// stepLosses reads the losses of single steps.
func stepLosses(t *testing.T, dir string) (losses []float64) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, report.StepLinesFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var step map[string]any
		if err := json.Unmarshal(line, &step); err != nil {
			t.Fatal(err)
		}
		if v, ok := step["step_loss"].(float64); ok {
			losses = append(losses, v)
		}
	}
	return losses
}

func weightsIn(t *testing.T, dir string) *onnxio.Model {
	t.Helper()
	m, err := onnxio.Load(filepath.Join(dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// farthest is the largest |a-b| / (1+|b|) of two models' weights.
func farthest(a, b *onnxio.Model) float64 {
	worst := 0.0
	for i, w := range b.Graph.Initializers {
		if w.Type != onnxio.Float {
			continue
		}
		for j, v := range w.Float32s() {
			worst = max(worst, math.Abs(float64(a.Graph.Initializers[i].Float32s()[j]-v))/(1+
				math.Abs(float64(v))))
		}
	}
	return worst
}

// normNet is the file of a small residual network with BatchNormalization.
func normNet(t *testing.T) string {
	t.Helper()
	b := builders.New("norm", 0, 0, 1, 28, 28)
	x := b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", b.Input(), 8, 3, builders.Stride(2))))
	y := b.BatchNorm2d("bn2", b.Conv2d("conv2", x, 8, 3, builders.Pad(1)))
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", b.GlobalAvgPool2d("pool", b.Add("add", x, y))), 10))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "norm.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

// Two and four processes follow one with the joint batch over 54 steps, the last of an epoch on three images:
// losses within 1e-5, weights within 1e-5 of 1+|w| (SGD) or 1e-3 (Adam), with BatchNormalization
// synchronized; and two runs give the same bits.
func TestProcessesFollowOne(t *testing.T) {
	net := []string{normNet(t), "--data", "mnist", "--subset", "195", "--epochs", "6", "--seed", "3"}
	for name, c := range map[string]struct {
		args  []string
		limit float64
	}{
		"sgd":  {[]string{"--optimizer", "sgd", "--lr", "0.002", "--momentum", "0.5", "--sync-bn"}, 1e-5},
		"adam": {[]string{"--optimizer", "adam", "--lr", "2e-5", "--sync-bn"}, 1e-3},
	} {
		t.Run(name, func(t *testing.T) {
			args := slices.Concat(net, c.args)
			want, end := trained(t, 0, append(args, "--batch", "24")...)
			if len(want) < 50 {
				t.Fatalf("%d steps", len(want))
			}
			var first *onnxio.Model
			for i, ranks := range []int{2, 4, 4} {
				got, m := trained(t, ranks, append(args, "--deterministic", "--batch",
					strconv.Itoa(24/ranks))...)
				if len(got) != len(want) {
					t.Fatalf("%d ranks: %d losses, not %d", ranks, len(got), len(want))
				}
				worst := 0.0
				for i := range want {
					worst = max(worst, math.Abs(got[i]-want[i]))
				}
				off := farthest(m, end)
				t.Logf("%d ranks: losses within %.1e, weights within %.1e", ranks, worst, off)
				if !(worst <= 1e-5) || !(off <= c.limit) {
					t.Errorf("%d ranks leave one: losses by %v, weights by %v of %v", ranks, worst,
						off, c.limit)
				}
				if i == 2 && farthest(m, first) != 0 {
					t.Error("two runs of four ranks give other weights")
				}
				first = m
			}
		})
	}
}

// A process that is killed ends the run with an error that says which one and how to go on; resumed for two
// epochs more, it gives the weights of a run that was left alone.
func TestKilledProcess(t *testing.T) {
	common := []string{"lenet5", "--data", "mnist", "--subset", "6000", "--batch", "16", "--seed", "1"}
	for victim := range 2 {
		dir := filepath.Join(t.TempDir(), "out")
		cmd := mpirun(t, 2, slices.Concat([]string{cnnkit(t), "train"}, common,
			[]string{"--epochs", "4000", "--out", dir, "--no-report", "--distributed", "mpi"})...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 3000 {
			if _, err := os.Stat(filepath.Join(dir, "history.csv")); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		pid := rankOf(dir, victim)
		if pid == 0 {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			t.Skip("the launcher does not say in the environment which rank a process is")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("mpirun does not fail")
		}
		text := out.String()
		if victim == 1 && (!strings.Contains(text, "rank 1 does not answer") ||
			!strings.Contains(text, "mpirun -n 2 cnnkit train --resume "+dir)) {
			t.Errorf("rank 0 does not say what happened:\n%s", text)
		}
		history, err := os.ReadFile(filepath.Join(dir, "history.csv"))
		if err != nil {
			t.Fatal(err)
		}
		// its first line has the names; one may be finished and not yet kept
		epochs := strconv.Itoa(bytes.Count(history, []byte("\n")) + 2)
		again := mpirun(t, 2, cnnkit(t), "train", "--resume", dir, "--epochs", epochs, "--no-report")
		if more, err := again.CombinedOutput(); err != nil {
			t.Fatalf("rank %d killed: resume: %v\n%s", victim, err, more)
		}
		_, want := trained(t, 2, append(common, "--epochs", epochs)...)
		if farthest(weightsIn(t, dir), want) != 0 {
			t.Errorf("rank %d killed: the run resumed up to epoch %s has other weights than one left alone",
				victim, epochs)
		}
	}
}

// rankOf finds the process of a rank that writes into dir.
func rankOf(dir string, rank int) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		for _, name := range []string{"OMPI_COMM_WORLD_RANK=", "PMI_RANK="} {
			if bytes.Contains(line, []byte(dir)) && bytes.Contains(append([]byte{0}, env...),
				[]byte("\x00"+name+strconv.Itoa(rank)+"\x00")) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return pid
			}
		}
	}
	return 0
}
