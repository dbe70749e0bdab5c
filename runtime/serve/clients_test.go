package serve_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/runtime/serve"
)

// Real clients get what they sent, or an error that they understand.
func TestClientsForPeers(t *testing.T) {
	if os.Getenv("CNNKIT_SERVE_PYTHON") == "" {
		t.Skip("CNNKIT_SERVE_PYTHON is not set: see testdata/serve/peers.sh")
	}
	dir := t.TempDir()
	saveModels(t, dir)
	_, web, rpc, _ := serving(t, serve.Options{Models: []string{dir, "lenet=" + lenet}, Control: true,
		DrainGrace: time.Millisecond})
	fields := filepath.Join(t.TempDir(), "fields.pb")
	serve.Descriptors(t, fields)
	serve.Python(t, "clients.py", strings.TrimPrefix(web, "http://"), rpc, fields)
	serve.Python(t, "kserve_client.py", strings.TrimPrefix(web, "http://"), rpc)
	serve.Python(t, "openapi_client.py", strings.TrimPrefix(web, "http://"))
}

// mlserver gives the same requests the same answers.
func TestMLServerForPeers(t *testing.T) {
	_, web, rpc, _ := serving(t, serve.Options{Models: []string{"lenet=" + lenet}, DrainGrace: time.Millisecond})
	serve.PythonOf(t, "CNNKIT_MLSERVER_PYTHON", "mlserver_peer.py", strings.TrimPrefix(web, "http://"), rpc, lenet)
}

// A browser uses the page: an image is dropped, a digit is drawn, and axe-core finds nothing to say.
func TestPageForPeers(t *testing.T) {
	if os.Getenv("CNNKIT_SERVE_PYTHON") == "" {
		t.Skip("CNNKIT_SERVE_PYTHON is not set: see testdata/serve/peers.sh")
	}
	browser := os.Getenv("CNNKIT_BROWSER")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); browser == "" && err == nil {
			browser = path
		}
	}
	if browser == "" {
		t.Skip("no Chromium: CNNKIT_BROWSER names one")
	}
	_, web, _, _ := serving(t,
		serve.Options{Models: []string{"digits=" + lenet, "nuclei=../../models/unet-nuclei/model.onnx"},
			DrainGrace: time.Millisecond})
	args := []string{web, browser, "../../testdata/images/gradient.png"}
	if shots := os.Getenv("CNNKIT_SHOTS"); shots != "" {
		args = append(args, shots)
	}
	serve.Python(t, "page.py", args...)
}

// Triton's own text format reads what Export writes, and tritonclient asks the server that serves it.
func TestExportForPeers(t *testing.T) {
	if os.Getenv("CNNKIT_SERVE_PYTHON") == "" {
		t.Skip("CNNKIT_SERVE_PYTHON is not set: see testdata/serve/peers.sh")
	}
	repo := t.TempDir()
	exported(t, repo)
	_, web, rpc, _ := serving(t, serve.Options{Models: []string{repo}, DrainGrace: time.Millisecond})
	serve.Python(t, "repository.py", repo, strings.TrimPrefix(web, "http://"), rpc)
}
