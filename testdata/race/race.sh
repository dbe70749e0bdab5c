#!/usr/bin/env bash
# Races cnnkit against the peers on this machine and prints a table a mode:
#
#   race.sh [train] [infer] [ort] [start] [mnist]       # default: train infer
#   race.sh --set families [train] [infer] [start]      # exports of torchvision instead of what cnnkit builds
#   PYTHON=.venv/bin/python CASES=lenet5-28,resnet-cifar THREADS=1,2 ROUNDS=5 SECONDS=3 race.sh train
#
#   train  training steps against PyTorch: eager in both memory layouts with its fused and foreach optimisers, the best of
#          them; COMPILE=1 adds torch.compile for the ResNets
#   infer  inference against ONNX Runtime and OpenVINO, on the files that `cnnkit build` writes; BATCH=1,32
#   ort    the same files in ONNX Runtime, called through cnnkit and through its Python package
#   start  from the file to the first answer, batch 1, against ONNX Runtime: a process that has done nothing else ("process"),
#          and the median of seven sessions, one after the other, in one process ("session")
#   mnist  the README's training, from the start of the process to the saved file, against a PyTorch script that has the
#          data in memory; a seed a round, EPOCHS=5
#
# PRECISION=bf16 races train and infer in bf16: PyTorch under autocast (or, to infer, as a network in bf16), OpenVINO with its
# hint. It needs a processor with AMX to mean anything. PRECISION=int8 races infer on files that ONNX Runtime's quantizer makes.
# cnnkit in float32 races along with both.
#
# families.py lists the families and exports them, into EXPORTS=FOLDER where they are to be kept. CASES picks some of them;
# those that it gives a batch are raced in training too.
#
# The sides take turns: in each of ROUNDS rounds every side is started, warmed up and measured for SECONDS (three windows,
# their median counts), cnnkit first. A ratio is of the medians over the rounds; beside it stands the range of the
# rounds' own ratios, which says how far to trust it. A variant that is hopeless in the first round sits out the others.
# Run it on a machine that does nothing else; the column "others" says how many processors other processes kept busy.
# CASES, THREADS, BATCH, ROUNDS, SECONDS (whole ones) and EPOCHS are flags of race.py, too: race.sh train --seconds 0.5.
#
# PyTorch is at its best: OMP_NUM_THREADS and torch.set_num_threads, no OPENBLAS_CORETYPE or other settings from outside,
# and tcmalloc or jemalloc preloaded into the peers (not OpenVINO, which crashes with it) where the system has one
# (ALLOCATOR=glibc or /path/to/lib.so overrules that); otherwise glibc's malloc keeps its heap. NO_WINOGRAD=1 turns cnnkit's Winograd convolutions off, JSON=FILE
# appends every measurement as a line. PYTHON needs torch, torchvision, onnxruntime, openvino and numpy:
#
#   python3 -m venv .venv && .venv/bin/pip install torch torchvision onnxruntime openvino
set -euo pipefail
each=$(printenv SECONDS || echo 3) # bash counts it up from what it is given
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/cnnkit" ./cmd/cnnkit
"$PYTHON" testdata/race/race.py --cnnkit "$work/cnnkit" --seconds "$each" "$@"
