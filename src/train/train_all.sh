#!/usr/bin/env bash
# Train the rows of models.json, one after the other: train_all.sh [NAME …]
#
#   bash src/train/train_all.sh                        # all rows that fit this machine
#   bash src/train/train_all.sh Qwen3-8B-malmat-full
#   bash src/train/train_all.sh --dry_run              # the commands, nothing is run
#
# A run that was cut off goes on from its last whole checkpoint, a finished one is passed over, and
# a model that fails does not stop the others; at the end there is a table, and exit code 1 if one
# failed. DATA: the rows (default: data/train.jsonl, made from merged_final.json, with the terms held
# out in data/heldout.jsonl for the loss during training; a warning says that merged_final.json has
# changed since, and how to split anew). ARGS: more options for every row, as
# ARGS="--max_steps 2". LAUNCH: a launcher, as
# LAUNCH="accelerate launch --config_file src/train/accelerate/ddp.yaml".
set -euo pipefail
. "$(dirname "$0")/../help.sh"
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
DATA=${DATA:-data/train.jsonl}

if [ "$DATA" = data/train.jsonl ] && [ ! -f "$DATA" ]; then
  "$PYTHON" src/data/split.py --output_dir data
fi

exec "$PYTHON" src/train/rows.py "$@" --data_path "$DATA" --args="${ARGS:-}" --launch="${LAUNCH:-}"
