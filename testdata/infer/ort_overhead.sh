#!/bin/sh
# What runtime/ort adds to ONNX Runtime: the same models in its Python package and through runtime, in turns.
#
#   PYTHON=python3 testdata/infer/ort_overhead.sh [ROUNDS]
#
# PYTHON needs onnxruntime and numpy. When its package holds a shared library, that is the one that cnnkit loads too, so
# that both sides run the same version; otherwise it is cnnkit's own, and the versions may differ.
set -eu
export ORT_DISABLE_TELEMETRY=1
python=${PYTHON:-python3}
rounds=${1:-60}
cd "$(dirname "$0")/../.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go build -o "$tmp/cnnkit" ./cmd/cnnkit
go build -o "$tmp/ort_overhead" ./testdata/infer/ort_overhead
lib=$("$python" -c 'import glob, os, onnxruntime
print(*sorted(glob.glob(os.path.join(os.path.dirname(onnxruntime.__file__), "capi", "libonnxruntime.so*")))[-1:])')
if [ -n "$lib" ]; then export CNNKIT_ORT_LIB="$lib"; fi
for network in minivgg resnet; do
	"$tmp/cnnkit" build "$network" -o "$tmp/$network.onnx" >"$tmp/log"
done
for threads in 1 2; do
	for case in minivgg:1 resnet:1 resnet:32; do
		"$python" testdata/infer/ort_overhead.py "$tmp/ort_overhead" "$tmp/${case%:*}.onnx" "${case#*:}" "$threads" "$rounds"
	done
done
