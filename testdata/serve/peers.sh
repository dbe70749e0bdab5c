#!/usr/bin/env bash
# Lets real clients of the protocol judge cnnkit serve: tritonclient, over HTTP and gRPC, in JSON and binary; kserve's; and
# Triton's own text format for what 'export triton' writes. It needs a Python that has them:
#
#   python3 -m venv .serve && .serve/bin/pip install 'tritonclient[all]' kserve
#   SERVE_PYTHON=.serve/bin/python testdata/serve/peers.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
SERVE_PYTHON=${SERVE_PYTHON:-${PYTHON:-python3}}
if ! "$SERVE_PYTHON" -c 'import tritonclient.http, tritonclient.grpc, kserve' 2>/dev/null; then
  echo "skipped: $SERVE_PYTHON has no tritonclient and kserve"
  exit 0
fi
CNNKIT_SERVE_PYTHON=$SERVE_PYTHON go test ./runtime/serve -run ForPeers -v -count 1
