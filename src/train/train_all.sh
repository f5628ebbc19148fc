#!/usr/bin/env bash
# Train the rows of models.json, one after the other: train_all.sh [NAME …]
#
#   bash src/train/train_all.sh                        # all rows that fit this machine
#   bash src/train/train_all.sh Qwen3-8B-malmat-full
#
# A run that was cut off goes on from its last whole checkpoint, a finished one is passed over, and
# a model that fails does not stop the others. DATA: the pairs (default: data/train.jsonl, made
# from merged_final.json). ARGS: more options for every row, as ARGS="--max_steps 2". LAUNCH: a launcher, as LAUNCH="accelerate launch --num_processes 4".
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
DATA=${DATA:-data/train.jsonl}
read -ra LAUNCHER <<<"${LAUNCH:-$PYTHON}"
read -ra EXTRA <<<"${ARGS:-}"

if [ "$DATA" = data/train.jsonl ] && [ ! -f "$DATA" ]; then
  "$PYTHON" src/data/split.py --output_dir data
fi

gpu=()
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then gpu=(--gpu); fi
rows=$("$PYTHON" src/train/rows.py ${gpu[@]+"${gpu[@]}"} "$@")

done_rows=() failed=()
while IFS=$'\t' read -r name command; do
  echo "=== $name"
  eval "words=($command)"
  if "${LAUNCHER[@]}" "src/train/${words[0]}" "${words[@]:1}" --data_path "$DATA" \
    ${EXTRA[@]+"${EXTRA[@]}"}; then
    done_rows+=("$name")
  else
    failed+=("$name")
  fi
done <<<"$rows"

echo "=== result"
for name in ${done_rows[@]+"${done_rows[@]}"}; do printf 'trained  %s → checkpoints/%s\n' "$name" "$name"; done
for name in ${failed[@]+"${failed[@]}"}; do printf 'failed   %s\n' "$name"; done
[ ${#failed[@]} -eq 0 ]
