package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The program serves until it is told to end, and ends with 0.
func TestServe(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("ends the program by a signal: run on Unix")
	}
	cmd := exec.Command(os.Args[0], "serve", "digits=../../models/lenet5-mnist/model.onnx", "--http-port",
		"0", "--grpc-port", "0", "--log-level", "debug")
	cmd.Env = append(os.Environ(), "CNNKIT_TEST_AS_PROGRAM=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var log bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(stderr, &log))
	wait := func(what string) string {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v\n%s", what, err, log.String())
			}
			if strings.Contains(line, what) {
				return line
			}
		}
	}
	// The two ports are announced in any order, before the server is ready.
	wait("msg=ready")
	port := regexp.MustCompile(`protocol=http address=(\S+)`).FindStringSubmatch(log.String())
	if port == nil {
		t.Fatalf("no port: %s", log.String())
	}
	resp, err := http.Get("http://" + port[1] + "/v2/models/digits/ready")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("ready: %v %v", resp, err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, lines)
	if err := cmd.Wait(); err != nil || time.Since(start) > 15*time.Second {
		t.Errorf("after SIGTERM: %v in %v\n%s", err, time.Since(start), log.String())
	}
}

// Wrong usage and bad files have their exit codes.
func TestServeRefusals(t *testing.T) {
	dir := t.TempDir()
	garbage, empty := filepath.Join(dir, "garbage.onnx"), filepath.Join(dir, "tokens")
	for _, f := range []string{garbage, empty} {
		if err := os.WriteFile(f, []byte("\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	model := "../../models/lenet5-mnist/model.onnx"
	ports := " --http-port 0 --grpc-port -1"
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"serve", 2, "takes a folder or a MODEL"},
		{"serve " + model + " --max-batch 0", 2, "--max-batch"},
		{"serve " + model + " --http-port 99999", 2, "--http-port"},
		{"serve " + model + " --http-port -1 --grpc-port -1", 2, "nobody could ask"},
		{"serve " + model + " --log-format xml", 2, "--log-format"},
		{"serve " + model + " --log-level loud", 2, "--log-level"},
		{"serve " + model + " --tls-cert a.pem", 2, "go together"},
		{"serve " + model + " --tls-cert a.pem --tls-key b.pem", 3, "a.pem"},
		{"serve " + model + " --token-file " + empty, 3, "no token"},
		{"serve nowhere.onnx" + ports, 3, "nowhere.onnx"},
		{"serve " + garbage + ports, 3, "garbage.onnx"},
		{"serve a=" + model + " a=" + model + ports, 3, "two models"},
	} {
		r := cnnkit(t, strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) {
			t.Errorf("%s: exit code %d, not %d with %q: %s", tt.args, r.code, tt.code, tt.says, r.err)
		}
	}
}
