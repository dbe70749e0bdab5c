// Package recover finds a network's state dict in a graph that an exporter wrote.
//
// Exporters lose names (onnx::Conv_497), fold BatchNormalizations into the convolutions before them, and turn
// a Linear's weights around. Weights compares the layers of such a graph with those of the network that it
// was: a layer is a node with weights, with the BatchNormalization that alone reads a convolution. Layers are
// told apart by their operator, shapes and attributes, and by the layers before and behind them, as far as
// these tell them apart; among equals by their order.
//
// Weights compares no outputs: a caller runs both models, since equal layers can be taken for each other.
package recover
