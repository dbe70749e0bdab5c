#!/usr/bin/env bash
# Compares every transform with the torchvision of the day. SHEETS names a folder for pictures: one for each transform,
# with the input, our result, torchvision's and their difference side by side.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import torchvision' 2>/dev/null; then
  echo "without torchvision: transforms are not compared live"
  exit 0
fi
live=$(mktemp -d)
trap 'rm -rf "$live"' EXIT
"$PYTHON" testdata/transforms/make.py "$live"
CNNKIT_TRANSFORMS=$live go test ./train/data/transforms -count=1 -run 'TestTorchvision|TestStrengths' -v
if [ -n "${SHEETS:-}" ]; then
  mkdir -p "$SHEETS"
  SHEETS=$(cd "$SHEETS" && pwd)
  CNNKIT_TRANSFORMS=$live CNNKIT_SHEETS=$SHEETS go test ./train/data/transforms -count=1 -run TestSheets
fi
