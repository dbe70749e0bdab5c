#!/usr/bin/env bash
# Lets real clients of the protocol judge cnnkit serve: tritonclient (HTTP and gRPC, JSON and binary), kserve's, the one that
# is generated from the protocol's OpenAPI schema, and a browser with axe-core the page; and Triton's own text format what
# 'export triton' writes. It needs a Python that has them:
#
#   python3 -m venv .serve && .serve/bin/pip install 'tritonclient[all]' kserve open-inference-openapi \
#     playwright axe-playwright-python   # the last two for the page, in a Chromium (CNNKIT_BROWSER, or on the path)
#   SERVE_PYTHON=.serve/bin/python testdata/serve/peers.sh
#
# mlserver answers the same requests where MLSERVER_PYTHON names a Python with mlserver and onnxruntime: another one, for the
# clients' packages let pip take an old mlserver only.
set -euo pipefail
cd "$(dirname "$0")/../.."
SERVE_PYTHON=${SERVE_PYTHON:-${PYTHON:-python3}}
# each in its own process: kserve and tritonclient register one protocol twice
for module in tritonclient.http tritonclient.grpc kserve open_inference playwright axe_playwright_python; do
  if ! "$SERVE_PYTHON" -c "import $module" 2>/dev/null; then
    echo "skipped: $SERVE_PYTHON lacks $module"
    exit 0
  fi
done
CNNKIT_SERVE_PYTHON=$SERVE_PYTHON CNNKIT_MLSERVER_PYTHON=${MLSERVER_PYTHON:-} go test ./runtime/serve -run ForPeers -v -count 1
