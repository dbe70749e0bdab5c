package convert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

const (
	formatPT          = "pt"
	formatSafetensors = "safetensors"
)

func malformed(format, where, msg string, args ...any) error {
	return &onnxio.FormatError{Format: format, Where: where, Msg: fmt.Sprintf(msg, args...)}
}

// Load reads a state dict from a .pt, .pth or .safetensors file. The format is told from the content. Errors are
// *onnxio.FormatError, *onnxio.UnsupportedError, *onnxio.LimitError or the file system's, wrapped.
func Load(path string) (*StateDict, error) { return LoadKey(path, "") }

// LoadKey is Load for a checkpoint with several state dicts: key says which, dotted for one further down
// ("ema.state_dict"). An empty key leaves the choice to Load.
func LoadKey(path, key string) (*StateDict, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() { // opening a pipe would wait for a writer
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	sd, err := load(f, st.Size(), DefaultLimits(), key)
	if err != nil {
		var fe *onnxio.FormatError
		if errors.As(err, &fe) && fe.Path == "" {
			fe.Path = path
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return sd, nil
}

// LoadReader is Load for bytes that are not in a file of their own.
func LoadReader(r io.ReaderAt, size int64, lim Limits) (*StateDict, error) {
	return load(r, size, lim.filled(), "")
}

func load(r io.ReaderAt, size int64, lim Limits, key string) (*StateDict, error) {
	head := make([]byte, min(max(size, 0), 512))
	if err := readAt(r, head, 0, formatPT, ""); err != nil {
		return nil, err
	}
	// A safetensors file starts with a length, whose bytes may look like a pickle's (640 is 80 02) or a zip's start.
	if len(head) >= 9 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= maxHeader {
		return loadSafetensors(r, size, lim, key)
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return loadZip(r, size, lim, key)
	case len(head) >= 2 && head[0] == pickle.OpProto && head[1] >= 2 && head[1] <= 5:
		return loadLegacy(r, size, lim, key)
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return nil, &onnxio.UnsupportedError{Op: "tar checkpoint",
			Reason: "torch.save has not written tar files since version 0.1.10; load it in PyTorch and save it again"}
	case len(head) >= 9 && head[8] == '{':
		return loadSafetensors(r, size, lim, key)
	}
	return nil, malformed("state dict", "", "neither a torch.save file (zip or legacy) nor safetensors")
}

// Save writes a state dict by the extension of path: .pt and .pth as torch.save's zip, .safetensors. The file appears
// whole or not at all, and the same state dict gives the same bytes.
func Save(path string, sd *StateDict) error {
	var write func(io.Writer, *StateDict) error
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".pt", ".pth":
		write = WritePT
	case ".safetensors":
		write = WriteSafetensors
	default:
		return &onnxio.UnsupportedError{Op: "state dict file " + path, Reason: "the extension must be .pt, .pth or .safetensors"}
	}
	if err := sd.check(); err != nil {
		return err
	}
	return onnxio.WriteFile(path, func(w io.Writer) error { return write(w, sd) })
}

// readAt fills p from off; a short read is a malformed file.
func readAt(r io.ReaderAt, p []byte, off int64, format, where string) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return &onnxio.FormatError{Format: format, Where: where, Msg: "cannot read", Err: err}
	}
	return nil
}
