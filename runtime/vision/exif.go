package vision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"
)

// maxEXIF bounds what is read of an EXIF block: the orientation stands near its beginning.
const maxEXIF = 1 << 16

// scan looks for the EXIF orientation (1 where there is none) of a JPEG, PNG, WebP or TIFF, and whether a
// JPEG has four components and no APP14 marker. It decodes nothing; of a damaged file it tells what it has
// found so far, and the decoder tells the rest.
func scan(r io.ReadSeeker) (orientation int, bareCMYK bool, err error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 1, false, err
	}
	head := make([]byte, 12)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return 1, false, err
	}
	head = head[:n]
	var exif []byte
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xd8")):
		exif, bareCMYK = scanJPEG(r)
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		exif = scanChunks(r, 8, "eXIf", binary.BigEndian)
	case n == 12 && string(head[:4]) == "RIFF" && string(head[8:]) == "WEBP":
		exif = bytes.TrimPrefix(scanChunks(r, 12, "EXIF", binary.LittleEndian), []byte("Exif\x00\x00"))
	case bytes.HasPrefix(head, []byte("II*\x00")), bytes.HasPrefix(head, []byte("MM\x00*")):
		return orientationOf(r), false, nil
	}
	return orientationOf(bytes.NewReader(exif)), bareCMYK, nil
}

// scanJPEG walks the markers up to the first scan (ITU-T T.81, annex B).
func scanJPEG(r io.ReadSeeker) (exif []byte, bareCMYK bool) {
	at, adobe, components := int64(2), false, byte(0)
	var m [10]byte
	for {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			break
		}
		n, _ := io.ReadFull(r, m[:])
		if n < 4 || m[0] != 0xff {
			break
		}
		kind, length := m[1], int64(binary.BigEndian.Uint16(m[2:]))
		switch {
		case kind == 0xff: // fill
			at++
			continue
		case kind == 0xda || kind == 0xd9 || length < 2:
			return exif, components == 4 && !adobe
		case kind >= 0xc0 && kind <= 0xc2 && n == len(m):
			components = m[9]
		case kind == 0xee && n >= 9 && string(m[4:9]) == "Adobe":
			adobe = true
		case kind == 0xe1 && exif == nil && n == len(m) && string(m[4:10]) == "Exif\x00\x00":
			exif = make([]byte, max(0, length-8))
			k, _ := io.ReadFull(r, exif)
			exif = exif[:k]
		}
		at += 2 + length
	}
	return exif, components == 4 && !adobe
}

// scanChunks finds a chunk of a PNG (its length first, a checksum last) or of a RIFF file (its name
// first, padded to even length).
func scanChunks(r io.ReadSeeker, at int64, name string, order binary.ByteOrder) []byte {
	var head [8]byte
	for range 1 << 16 {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return nil
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil
		}
		kind, length, next := string(head[:4]), int64(order.Uint32(head[4:])), int64(0)
		if order == binary.BigEndian {
			kind, length = string(head[4:]), int64(order.Uint32(head[:4]))
			next = at + 12 + length
		} else {
			next = at + 8 + length + length&1
		}
		if kind == name {
			out := make([]byte, min(length, maxEXIF))
			n, _ := io.ReadFull(r, out)
			return out[:n]
		}
		at = next
	}
	return nil
}

// orientationOf reads tag 274 of the first directory of a TIFF structure, which is what EXIF is; 1 where it
// is not to be found, or is no number from 1 to 8.
func orientationOf(r io.ReadSeeker) int {
	const upright, tag, short, long = 1, 274, 3, 4
	var head [12]byte
	read := func(at int64, n int) bool {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return false
		}
		_, err := io.ReadFull(r, head[:n])
		return err == nil
	}
	if !read(0, 8) {
		return upright
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'M' {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(head[4:]))
	if !read(at, 2) {
		return upright
	}
	for i := range int64(order.Uint16(head[:])) {
		if !read(at+2+12*i, 12) {
			return upright
		}
		if order.Uint16(head[:]) != tag {
			continue
		}
		v := 0
		switch order.Uint16(head[2:]) {
		case short:
			v = int(order.Uint16(head[8:]))
		case long:
			v = int(min(order.Uint32(head[8:]), 9))
		}
		if v >= 1 && v <= 8 {
			return v
		}
		return upright
	}
	return upright
}

// turned is an image that plain gave, upright: as PIL's ImageOps.exif_transpose turns and mirrors it.
func turned(img image.Image, orientation int) image.Image {
	if orientation <= 1 {
		return img
	}
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	r := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		r = image.Rect(0, 0, h, w)
	}
	switch src := img.(type) {
	case *image.Gray:
		dst := image.NewGray(r)
		turn(dst.Pix, src.Pix, src.Stride, w, h, 1, orientation)
		return dst
	case *image.Gray16:
		dst := image.NewGray16(r)
		turn(dst.Pix, src.Pix, src.Stride, w, h, 2, orientation)
		return dst
	case *image.Paletted:
		dst := image.NewPaletted(r, src.Palette)
		turn(dst.Pix, src.Pix, src.Stride, w, h, 1, orientation)
		return dst
	case *image.RGBA:
		dst := image.NewRGBA(r)
		turn(dst.Pix, src.Pix, src.Stride, w, h, 4, orientation)
		return dst
	}
	return img
}

// turn moves the pixels, size bytes each, of an image of w x h.
func turn(dst, src []uint8, stride, w, h, size, orientation int) {
	across, down := w, h // of dst
	if orientation >= 5 {
		across, down = h, w
	}
	for y := range down {
		for x := range across {
			var u, v int
			switch orientation {
			case 2:
				u, v = w-1-x, y
			case 3:
				u, v = w-1-x, h-1-y
			case 4:
				u, v = x, h-1-y
			case 5:
				u, v = y, x
			case 6:
				u, v = y, h-1-x
			case 7:
				u, v = w-1-y, h-1-x
			case 8:
				u, v = w-1-y, x
			}
			copy(dst[(y*across+x)*size:][:size], src[v*stride+u*size:])
		}
	}
}
