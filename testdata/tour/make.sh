#!/usr/bin/env bash
# Makes history.png, the picture in the README.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
go run ./cmd/cnnkit train lenet5 --data mnist --epochs 5 --seed 0 --out "$out"
cp "$out/history.png" testdata/tour/history.png
