package vision

import (
	"bytes"
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

// Limits bounds what Decode takes, and says how it reads it.
type Limits struct {
	Pixels int64 `json:"pixels,omitempty"` // width times height; 0: 100 million
	Bytes  int64 `json:"bytes,omitempty"`  // size of the file; 0: 1 GiB
	// NoEXIF leaves pictures as the sensor saw them; without it they are turned upright as
	// their EXIF orientation says.
	NoEXIF bool `json:"no_exif,omitempty"`
}

var extensions = []string{".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}

// Hidden reports whether a name begins with a dot, as those of the files that systems leave beside one's own
// do (.git, .DS_Store, ._photo.jpg). Folders of images and data sets are read without them.
func Hidden(name string) bool { return strings.HasPrefix(filepath.Base(name), ".") }

// IsImage reports whether a file of a folder counts as an image: by its extension, and not when it is Hidden.
func IsImage(name string) bool {
	return !Hidden(name) && slices.Contains(extensions, strings.ToLower(filepath.Ext(name)))
}

// Extensions lists the extensions of image files.
func Extensions() []string { return slices.Clone(extensions) }

// Files lists the images that the arguments name: a file stands for itself, a folder for the images right
// inside it, in order of their names.
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
			if !e.IsDir() && IsImage(e.Name()) {
				out = append(out, filepath.Join(arg, e.Name()))
			}
		}
		if len(out) == before {
			return nil, &onnxio.FormatError{Format: "image", Path: arg, Msg: "the folder has no images (" +
				strings.Join(extensions, ", ") + ")"}
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
		return nil, fmt.Errorf("%s: %w", path, &onnxio.LimitError{What: "bytes of an image file",
			Got: info.Size(), Limit: lim.Bytes})
	}
	img, err := Decode(f, lim)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// Decode reads an image as PIL's Image.open, ImageOps.exif_transpose and convert("RGB") do: upright, without
// alpha (a transparent pixel has the color that the file gives it), the chroma of JPEG and WebP interpolated.
// Gray images stay gray and palettes stay palettes. Its dimensions are checked before its pixels are decoded.
func Decode(r io.ReadSeeker, lim Limits) (img image.Image, err error) {
	defer func() { // the formats' decoders are others' code, and the file is hostile
		if p := recover(); p != nil {
			img, err = nil, &onnxio.FormatError{Format: "image", Msg: fmt.Sprint(p)}
		}
	}()
	h, err := readHeader(r, lim)
	if err != nil {
		return nil, err
	}
	src, err := h.reader(r)
	if err != nil {
		return nil, err
	}
	img, _, err = image.Decode(src)
	if err != nil {
		return nil, &onnxio.FormatError{Format: h.format, Err: err}
	}
	if img, err = plain(img, h.format); err != nil {
		return nil, err
	}
	return turned(img, h.orientation), nil
}

// Size reads the width and the height of the image that Decode would give.
func Size(r io.ReadSeeker, lim Limits) (w, h int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &onnxio.FormatError{Format: "image", Msg: fmt.Sprint(p)}
		}
	}()
	head, err := readHeader(r, lim)
	if head.orientation >= 5 {
		return head.height, head.width, err
	}
	return head.width, head.height, err
}

// header is what is known of an image before its pixels are decoded.
type header struct {
	format        string
	width, height int
	orientation   int  // EXIF's, 1 to 8
	bareCMYK      bool // a JPEG of four components without the marker that image/jpeg wants
}

// readHeader reads the header from the beginning of r and checks the dimensions.
func readHeader(r io.ReadSeeker, lim Limits) (h header, err error) {
	h.orientation = 1
	o, bare, err := scan(r)
	if err != nil {
		return h, err
	}
	h.bareCMYK = bare
	if !lim.NoEXIF {
		h.orientation = o
	}
	src, err := h.reader(r)
	if err != nil {
		return h, err
	}
	cfg, format, err := image.DecodeConfig(src)
	if err != nil {
		if err == image.ErrFormat {
			return h, &onnxio.FormatError{Format: "image", Msg: "neither PNG, JPEG, GIF, BMP, TIFF nor WebP"}
		}
		return h, &onnxio.FormatError{Format: "image", Err: err}
	}
	h.format, h.width, h.height = format, cfg.Width, cfg.Height
	if h.width <= 0 || h.height <= 0 {
		return h, &onnxio.FormatError{Format: format, Msg: fmt.Sprintf("%dx%d pixels", h.width, h.height)}
	}
	if lim.Pixels == 0 {
		lim.Pixels = 100_000_000
	}
	if n := int64(h.width) * int64(h.height); n > lim.Pixels {
		return h, &onnxio.LimitError{What: "pixels of an image", Got: n, Limit: lim.Pixels}
	}
	return h, nil
}

// adobe begins a JPEG whose four components are CMYK, inverted, as PIL takes all of them.
var adobe = []byte("\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00")

// reader gives the file from its beginning, with the marker that a bare CMYK lacks.
func (h header) reader(r io.ReadSeeker) (io.Reader, error) {
	if h.bareCMYK {
		_, err := r.Seek(2, io.SeekStart)
		return io.MultiReader(bytes.NewReader(adobe), r), err
	}
	_, err := r.Seek(0, io.SeekStart)
	return r, err
}
