#!/usr/bin/env bash
# Fuzzes every target in turn: testdata/fuzz.sh [TIME a target, default 10m]. What is found lands in the package's
# testdata/fuzz folder, from where 'go test' runs it for ever after. Inputs are hardly made smaller: with several threads the
# coverage of one differs from run to run, and FuzzPlan would do nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10m}
grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
  grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
    echo "=== $(dirname "$file") $target"
    go test "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x </dev/null
  done
done
