// Package builders makes convolutional networks as ONNX graphs.
//
// A network is written with a Builder, whose layers read like a PyTorch module: scopes and layer names become the names
// of the initializers, which are the keys of the PyTorch state dict (layer1.0.conv1.weight). Shapes are tracked while
// the graph grows, so that the input size of a fully connected layer is worked out, never typed.
//
// Values are written [N,C,H,W] (feature maps) and [N,F] (features). The batch dimension N is symbolic. Weights start as
// PyTorch's defaults do, from an explicit seed.
//
// Build makes the reference networks by name: lenet5, minivgg, resnet, resnet20, resnet9, unet, and torchvision's resnet18 and
// vgg16, whose weights start as torchvision's do.
//
// Dropout and StochasticDepth are the identity in the model that is built; package train puts them to work.
package builders
