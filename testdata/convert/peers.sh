#!/usr/bin/env bash
# Called by testdata/peers.sh: PyTorch and safetensors read what cnnkit writes, and read again what the fixtures hold; timm's and
# transformers' files answer through cnnkit as they do there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CNNKIT_PEER_OUT=$(mktemp -d)
trap 'rm -rf "$CNNKIT_PEER_OUT"' EXIT
go test -count=1 -run ForPeers "$here/../../convert"
for python in "$PYTHON" ${OLD_PYTHON:-}; do
  "$python" "$here/peers.py" "$CNNKIT_PEER_OUT"
  "$python" "$here/peers_nets.py" "$CNNKIT_PEER_OUT" "$NETWORKS"
done
PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$here/check_schemes.py" "$CNNKIT"
