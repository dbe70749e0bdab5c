#!/usr/bin/env bash
# Writes first/: models, checkpoints and recipes of commit 238fb55, which cmd/cnnkit/first_test.go loads and resumes.
#
#   first.sh CNNKIT    CNNKIT is the program built of that commit
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
net="resnet18 --input 1x28x28 --width 2 --blocks 1,1,1,1 --classes 10 --seed 3"
images="--data mnist --subset 64 --validation 0.002 --batch 16 --threads 1 --no-report"
"$1" train $net $images --epochs 1 --optimizer adamw --lr 0.003 --weight-decay 0.05 --no-decay bias,norm --ema 0.9 --clip-norm 1 --accumulate 2 \
  --schedule step --set schedule.step_size=1 --augment RandomHorizontalFlip --stochastic-depth 0.2 --metrics f1 --out "$work/steps"
"$1" train $net $images --epochs 1 --optimizer sgd --lr 0.05 --momentum 0.9 --schedule cosine --label-smoothing 0.1 --out "$work/cosine"
for run in steps cosine; do
  mkdir -p "first/$run"
  cp "$work/$run"/{model.onnx,checkpoint.safetensors,recipe.json} "first/$run/"
done
"$1" train --resume "$work/steps" --epochs 2 --no-report | grep '^epoch 2' > first/steps/next.txt
"$1" eval first/steps/model.onnx --data mnist --json | tr -d '\n' | sed 's/, *"seconds"[^}]*//' > first/steps/eval.json
