#!/bin/sh
# Holds what simplify and convert --opset write against the onnx checker and ONNX Runtime ($PYTHON, python3; $CNNKIT, go run).
set -e
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
if [ -z "$CNNKIT" ]; then
	CNNKIT=$work/cnnkit
	(cd ../.. && go build -o "$CNNKIT" ./cmd/cnnkit)
fi
"${PYTHON:-python3}" peers.py "$CNNKIT" "$work"
