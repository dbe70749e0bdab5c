#!/usr/bin/env bash
# Compares live with the peers, where the tests compare with fixtures: PyTorch, torchvision's kind of networks, the onnx
# package's checker and ONNX Runtime. It needs a Python that has them:
#
#   python3 -m venv .venv && .venv/bin/pip install torch torchvision timm segmentation_models_pytorch \
#     efficientnet-lite-pytorch onnx onnxruntime onnxscript safetensors scikit-learn transformers
#   PYTHON=.venv/bin/python make peers
#
# NETWORKS names a folder with networks.py, the reference networks in PyTorch (default: ../shared/anchors).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
NETWORKS=${NETWORKS:-../shared/anchors}
"$PYTHON" -c 'import torch, onnx, onnxruntime, safetensors, sklearn, transformers; print("torch", torch.__version__, "onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/cnnkit" ./cmd/cnnkit
[ -n "${CNNKIT_ORT_LIB:-}" ] || "$work/cnnkit" runtime install
export CNNKIT_PYTHON=$PYTHON CNNKIT=$work/cnnkit PYTHON NETWORKS
status=0
for script in testdata/*/peers.sh; do
  [ -e "$script" ] || continue
  echo "=== $script"
  bash "$script" || status=1
done
exit $status
