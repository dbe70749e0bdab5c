package serve_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/runtime/serve"
)

// Real clients get what they sent, or an error that they understand.
func TestClientsForPeers(t *testing.T) {
	if os.Getenv("CNNKIT_SERVE_PYTHON") == "" {
		t.Skip("CNNKIT_SERVE_PYTHON is not set")
	}
	dir := t.TempDir()
	saveModels(t, dir)
	_, web, rpc, _ := serving(t, serve.Options{Models: []string{dir, "lenet=" + lenet}, Control: true, DrainGrace: time.Millisecond})
	fields := filepath.Join(t.TempDir(), "fields.pb")
	serve.Descriptors(t, fields)
	serve.Python(t, "clients.py", strings.TrimPrefix(web, "http://"), rpc, fields)
	serve.Python(t, "kserve_client.py", strings.TrimPrefix(web, "http://"), rpc)
}
