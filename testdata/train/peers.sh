#!/usr/bin/env bash
# Trains three tasks from the command line and in the PyTorch of the day, and compares the losses. The fixtures are restored.
set -euo pipefail
cd "$(dirname "$0")"
kept=$(mktemp -d)
trap 'cp "$kept"/tasks.json . && cp "$kept"/tasks/* tasks/ && rm -rf "$kept"' EXIT
cp -r tasks tasks.json "$kept"
"$PYTHON" tasks.py "$CNNKIT"
