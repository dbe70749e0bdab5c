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
	formatIndex       = "index.json"
)

func malformed(format, where, msg string, args ...any) error {
	return &onnxio.FormatError{Format: format, Where: where, Msg: fmt.Sprintf(msg, args...)}
}

// Format is a kind of file, as Detect tells it.
type Format string

// The kinds of file that hold state dicts. Detect gives Tar so that the refusal can name it.
const (
	Zip         Format = "torch.save zip"
	Legacy      Format = "torch.save legacy"
	Safetensors Format = "safetensors"
	Index       Format = "index of shards"
	Tar         Format = "tar"
	Unknown     Format = ""
)

// Detect tells the kind from a file's first bytes (512 are enough), whatever its name is. Unknown is what no
// state dict starts with; an ONNX model is one.
func Detect(head []byte) Format {
	// A safetensors file starts with a length, whose bytes may look like a pickle's (640 is 80 02) or a zip's
	// start.
	if len(head) >= 9 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= maxHeader {
		return Safetensors
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return Zip
	case len(head) >= 2 && head[0] == pickle.OpProto && head[1] >= 2 && head[1] <= 5:
		return Legacy
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return Tar
	case bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")):
		return Index
	case len(head) >= 9 && head[8] == '{':
		return Safetensors
	}
	return Unknown
}

// DetectFile is Detect for a file. What is no regular file is an error.
func DetectFile(path string) (Format, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return Unknown, err
	}
	defer f.Close()
	head, err := firstBytes(f, size)
	return Detect(head), err
}

func firstBytes(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, min(max(size, 0), 512))
	return head, readAt(r, head, 0, formatPT, "")
}

func openRegular(path string) (*os.File, int64, error) {
	// opening a pipe would wait for a writer
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Load reads a state dict from a file of torch.save (zip or legacy), from a safetensors file, or from
// the index.json of either in shards, which lie beside it. The content tells which, the name does not
// count. Where a config.json of transformers or timm lies beside it, Apply follows what it says of
// paddings and norms. Errors are *onnxio.FormatError, *onnxio.UnsupportedError, *onnxio.LimitError or
// the file system's, wrapped.
func Load(path string) (*StateDict, error) { return LoadKey(path, "") }

// LoadKey is Load for a checkpoint with several state dicts: key says which, dotted for one further down
// ("ema.state_dict"), "." the top itself. An empty key leaves the choice to Load, which refuses to guess
// between several.
func LoadKey(path, key string) (*StateDict, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head, err := firstBytes(f, size)
	var sd *StateDict
	switch {
	case err != nil:
	case Detect(head) == Index:
		sd, err = loadIndex(f, size, filepath.Dir(path), DefaultLimits(), key)
	default:
		sd, err = load(f, size, DefaultLimits(), key)
	}
	if err != nil {
		var fe *onnxio.FormatError
		if errors.As(err, &fe) && fe.Path == "" {
			fe.Path = path
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sd.origin = originOf(path)
	return sd, nil
}

// LoadReader is Load for bytes that are not in a file of their own. An index of shards has nothing beside it
// there, and is refused.
func LoadReader(r io.ReaderAt, size int64, lim Limits) (*StateDict, error) {
	return load(r, size, lim.filled(), "")
}

func load(r io.ReaderAt, size int64, lim Limits, key string) (*StateDict, error) {
	head, err := firstBytes(r, size)
	if err != nil {
		return nil, err
	}
	switch Detect(head) {
	case Zip:
		return loadZip(r, size, lim, key)
	case Legacy:
		return loadLegacy(r, size, lim, key)
	case Safetensors:
		return loadSafetensors(r, size, lim, key)
	case Tar:
		return nil, &onnxio.UnsupportedError{Op: "tar checkpoint",
			Reason: "torch.save has not written tar files since version 0.1.10; load it in PyTorch and save it again"}
	case Index:
		return nil, malformed(formatIndex, "",
			"an index of shards is read only from a file with its shards beside it")
	}
	return nil, malformed("state dict", "",
		"neither a torch.save file (zip or legacy) nor safetensors nor an index of shards")
}

// Save writes a state dict by the extension of path: .pt and .pth as torch.save's zip, .safetensors. The file
// appears whole or not at all, and the same state dict gives the same bytes.
func Save(path string, sd *StateDict) error {
	var write func(io.Writer, *StateDict) error
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".pt", ".pth":
		write = WritePT
	case ".safetensors":
		write = WriteSafetensors
	default:
		return &onnxio.UnsupportedError{Op: "state dict file " + path,
			Reason: "the extension must be .pt, .pth or .safetensors"}
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
