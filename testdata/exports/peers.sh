#!/usr/bin/env bash
# Called by testdata/peers.sh: networks of torchvision, timm and segmentation_models_pytorch, exported by torch.onnx, run
# natively with PyTorch's answers. The exports take 9 GB; EXPORTS names a folder where they stay. It takes two hours, most of
# them for weights of the detection networks that give steady boxes. RESULTS.md is the table of a run (RESULTS=FILE writes one).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${EXPORTS:-}
if [ -z "$out" ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$here/export.py" "$out"
CNNKIT_EXPORTS=$(cd "$out" && pwd) CNNKIT_EXPORTS_TABLE=${RESULTS:+$(realpath "$RESULTS")} go test -count=1 -timeout 2h -v -run ExportsForPeers "$here/../../runtime"
