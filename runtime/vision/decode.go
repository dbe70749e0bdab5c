package vision

import (
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Limits bounds what Decode takes.
type Limits struct {
	Pixels int64 // width times height; 0: 100 million
	Bytes  int64 // size of the file; 0: 1 GiB
}

var extensions = []string{".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}

// Files lists the images that the arguments name: a file stands for itself, a folder for the images right inside it, in
// order of their names.
func Files(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		before := len(out)
		for _, e := range entries {
			if !e.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(e.Name()))) {
				out = append(out, filepath.Join(arg, e.Name()))
			}
		}
		if len(out) == before {
			return nil, &onnxio.FormatError{Format: "image", Path: arg, Msg: "the folder has no images (" + strings.Join(extensions, ", ") + ")"}
		}
	}
	return out, nil
}

// Load reads an image file: PNG, JPEG, GIF (the first frame), BMP, TIFF or WebP, whatever its name.
func Load(path string, lim Limits) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &onnxio.FormatError{Format: "image", Path: path, Msg: "not a regular file"}
	}
	if lim.Bytes == 0 {
		lim.Bytes = 1 << 30
	}
	if info.Size() > lim.Bytes {
		return nil, fmt.Errorf("%s: %w", path, &onnxio.LimitError{What: "bytes of an image file", Got: info.Size(), Limit: lim.Bytes})
	}
	img, err := Decode(f, lim)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// Decode reads an image. Its dimensions are checked before its pixels are decoded.
func Decode(r io.ReadSeeker, lim Limits) (img image.Image, err error) {
	defer func() { // the formats' decoders are others' code, and the file is hostile
		if p := recover(); p != nil {
			img, err = nil, &onnxio.FormatError{Format: "image", Msg: fmt.Sprint(p)}
		}
	}()
	if lim.Pixels == 0 {
		lim.Pixels = 100_000_000
	}
	cfg, format, err := image.DecodeConfig(r)
	if err != nil {
		if err == image.ErrFormat {
			return nil, &onnxio.FormatError{Format: "image", Msg: "neither PNG, JPEG, GIF, BMP, TIFF nor WebP"}
		}
		return nil, &onnxio.FormatError{Format: "image", Err: err}
	}
	if cfg.Width <= 0 || cfg.Height <= 0 {
		return nil, &onnxio.FormatError{Format: format, Msg: fmt.Sprintf("%dx%d pixels", cfg.Width, cfg.Height)}
	}
	if n := int64(cfg.Width) * int64(cfg.Height); n > lim.Pixels {
		return nil, &onnxio.LimitError{What: "pixels of an image", Got: n, Limit: lim.Pixels}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, _, err = image.Decode(r)
	if err != nil {
		return nil, &onnxio.FormatError{Format: format, Err: err}
	}
	return img, nil
}
