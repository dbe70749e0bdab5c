package vision

import (
	"image"
	"image/color"

	"golang.org/x/image/draw"
)

// plain is a decoded image as one of four types that begin at (0,0): Gray, Gray16, Paletted, or RGBA without
// transparency, its colors those of PIL's convert("RGB").
func plain(img image.Image, format string) (image.Image, error) {
	switch src := img.(type) {
	case *image.Gray:
		if src.Rect.Min == (image.Point{}) {
			return src, nil
		}
	case *image.Gray16:
		if src.Rect.Min == (image.Point{}) {
			return src, nil
		}
	case *image.Paletted:
		if src.Rect.Min == (image.Point{}) {
			return &image.Paletted{Pix: src.Pix, Stride: src.Stride, Rect: src.Rect,
				Palette: opaque(src.Palette)}, nil
		}
	case *image.YCbCr:
		return fromYCbCr(src, format), nil
	case *image.NYCbCrA:
		return fromYCbCr(&src.YCbCr, format), nil
	case *image.CMYK:
		return fromCMYK(src), nil
	case *image.NRGBA:
		return fromNRGBA(src), nil
	case *image.NRGBA64:
		return fromNRGBA64(src), nil
	case *image.RGBA:
		if src.Opaque() && src.Rect.Min == (image.Point{}) {
			return src, nil
		}
	}
	b := img.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Rect, img, b.Min, draw.Src)
	return fromNRGBA(out), nil
}

// opaque is the palette without its alpha.
func opaque(p color.Palette) color.Palette {
	out := make(color.Palette, len(p))
	for i, c := range p {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		out[i] = color.RGBA{n.R, n.G, n.B, 255}
	}
	return out
}

func fromNRGBA(src *image.NRGBA) *image.RGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		in, out := src.Pix[y*src.Stride:][:4*w], dst.Pix[y*dst.Stride:][:4*w]
		copy(out, in)
		for x := 3; x < 4*w; x += 4 {
			out[x] = 255
		}
	}
	return dst
}

// fromNRGBA64 takes the high byte of every channel.
func fromNRGBA64(src *image.NRGBA64) *image.RGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		in, out := src.Pix[y*src.Stride:][:8*w], dst.Pix[y*dst.Stride:][:4*w]
		for x := range w {
			out[4*x], out[4*x+1], out[4*x+2], out[4*x+3] = in[8*x], in[8*x+2], in[8*x+4], 255
		}
	}
	return dst
}

// fromCMYK is PIL's conversion: each ink takes its share, rounded, of what black leaves.
func fromCMYK(src *image.CMYK) *image.RGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		in, out := src.Pix[y*src.Stride:][:4*w], dst.Pix[y*dst.Stride:][:4*w]
		for x := 0; x < 4*w; x += 4 {
			left := 255 - int(in[x+3])
			for c := range 3 {
				t := int(in[x+c])*left + 128
				out[x+c] = uint8(left - (t>>8+t)>>8)
			}
			out[x+3] = 255
		}
	}
	return dst
}

// fromYCbCr converts as the library that PIL decodes the format with.
func fromYCbCr(src *image.YCbCr, format string) *image.RGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	if w == 0 || h == 0 {
		return dst
	}
	cb, cr := make([]uint8, w+2), make([]uint8, w+2)
	row := chromaJPEG
	convert := jpegRGB
	if format == "webp" {
		row, convert = chromaWebP, webpRGB
	}
	for y := range h {
		row(cb, src.Cb, src, y)
		row(cr, src.Cr, src, y)
		luma, out := src.Y[y*src.YStride:][:w], dst.Pix[y*dst.Stride:][:4*w]
		for x, v := range luma {
			out[4*x], out[4*x+1], out[4*x+2] = convert(v, cb[x], cr[x])
			out[4*x+3] = 255
		}
	}
	return dst
}
