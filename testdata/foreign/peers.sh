#!/bin/sh
# Makes the foreign graphs anew with the PyTorch of the day ($PYTHON, python3) and trains them natively beside it. Keras' graph is
# made anew where tensorflow and tf2onnx are there; else the one that is committed is used.
set -e
cd "$(dirname "$0")"
python=${PYTHON:-python3}
here=$PWD
kept=$(mktemp -d)
cp ./*.onnx losses.json "$kept"
trap 'cp "$kept"/*.onnx "$kept"/losses.json "$here" && rm -r "$kept"' EXIT
"$python" foreign.py
if "$python" -c 'import tensorflow, tf2onnx' 2> /dev/null; then
	"$python" keras_cnn.py
else
	echo "no tensorflow or tf2onnx: Keras' graph is the committed one"
	"$python" - "$kept/losses.json" <<'P'
import json, sys
now, was = json.load(open("losses.json")), json.load(open(sys.argv[1]))
now["keras-tf2onnx"] = was["keras-tf2onnx"]
json.dump(now, open("losses.json", "w"), indent=1)
P
fi
cd ../..
go test ./train -count 1 -run 'TestForeign(Graphs|Weights)' -v
networks=$kept/networks
mkdir "$networks"
PYTHONDONTWRITEBYTECODE=1 "$python" testdata/foreign/networks.py "$networks"
CNNKIT_FOREIGN=$networks go test ./train -count 1 -run 'Test(Foreign|Unfolded)Networks' -v
PYTHONDONTWRITEBYTECODE=1 "$python" testdata/foreign/networks.py "$networks" "${CNNKIT:-cnnkit}"
