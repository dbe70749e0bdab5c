// Command segmentation trains a small U-Net on images and masks of the same names and writes
// what it sees in one image:
//
//	go run ./examples/segmentation images masks photo.png mask.png
package main

import (
	"context"
	"image/png"
	"log"
	"os"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: segmentation IMAGES MASKS IMAGE OUT.png")
	}
	m, err := trained(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	mask, err := seen(m, os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Create(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, mask.Image()); err != nil {
		log.Fatal(err)
	}
	log.Printf("%.1f%% of the image is foreground", 100*mask.Share())
}

// trained is a U-Net after some epochs on the pairs of two folders.
func trained(images, masks string) (*onnxio.Model, error) {
	splits, err := data.OpenWith("masks:"+images+","+masks, data.Options{Size: [2]int{64, 64}})
	if err != nil {
		return nil, err
	}
	m, err := builders.Build("unet", builders.Config{Input: [3]int{3, 64, 64}, Width: 8, Depth: 2})
	if err != nil {
		return nil, err
	}
	cfg := train.Config{Epochs: 5, Batch: 4, Optimizer: "adam", LR: 1e-3, Loss: "bce-dice",
		Metrics: []string{"iou"}}
	result, err := train.Run(context.Background(), m, splits, cfg, "", train.Observer{})
	if err != nil {
		return nil, err
	}
	log.Printf("validation IoU %.3f", result.History[result.Best].Metrics["iou"])
	return m, nil
}

// seen is the mask of an image file, as large as that.
func seen(m *onnxio.Model, file string) (vision.Mask, error) {
	img, err := vision.Load(file, vision.Limits{})
	if err != nil {
		return vision.Mask{}, err
	}
	meaning, err := spec.Get(m)
	if err != nil {
		return vision.Mask{}, err
	}
	s, err := runtime.OpenModel(m)
	if err != nil {
		return vision.Mask{}, err
	}
	defer s.Close()
	out, err := s.Run(context.Background(),
		map[string]*onnxio.Tensor{"input": vision.Input(img, meaning.Input)})
	if err != nil {
		return vision.Mask{}, err
	}
	masks, err := vision.Masks(out["output"], meaning.Output.Scale, 0.5)
	if err != nil {
		return vision.Mask{}, err
	}
	return masks[0].Resized(img.Bounds().Dx(), img.Bounds().Dy()), nil
}
