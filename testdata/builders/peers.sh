#!/usr/bin/env bash
# Called by testdata/peers.sh: what build and train write passes the onnx package's checker and opens in ONNX Runtime, and
# PyTorch computes the same with the weights.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for opset in 13 17 21; do
  for network in lenet5 minivgg resnet resnet20; do
    "$CNNKIT" build "$network" --opset "$opset" --out "$out/$network-$opset.onnx"
  done
  for network in resnet9 resnet18 vgg16; do
    "$CNNKIT" build "$network" --opset "$opset" --width 8 --out "$out/$network-$opset.onnx"
  done
  "$CNNKIT" build unet --opset "$opset" --width 8 --out "$out/unet-$opset.onnx"
  "$CNNKIT" train "$out/lenet5-$opset.onnx" --data mnist --epochs 1 --out "$out/trained-$opset" >/dev/null
  cp "$out/trained-$opset/model.onnx" "$out/lenet5-$opset-trained.onnx"
done
"$PYTHON" "$here/check_models.py" "$out"/*.onnx
PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$here/check_peers.py"
PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$here/check_families.py"
