// Package builders makes convolutional networks as ONNX graphs.
//
// A network is written with a Builder, whose layers read like a PyTorch module: scopes and layer names
// become the names of the initializers, which are the keys of the PyTorch state dict
// (layer1.0.conv1.weight). Shapes are tracked while the graph grows, so that the input size of a fully
// connected layer is worked out, never typed.
//
// Values are written [N,C,H,W] (feature maps) and [N,F] (features). The batch dimension N is symbolic.
// Weights start as PyTorch's defaults do, from an explicit seed.
//
// Build makes networks by name: the reference networks (lenet5, minivgg, resnet, resnet20, resnet9, unet),
// those of torchvision under its names, EfficientNet-Lite, and those of segmentation_models_pytorch as
// smp-DECODER-ENCODER. Names lists them. Keys and initial weights are the packages'. Detectors are for
// inference: from one image to boxes, scores and labels.
//
// Dropout and StochasticDepth are the identity in the model that is built; package train puts them to work.
package builders
