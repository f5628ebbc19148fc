#!/usr/bin/env bash
# DPO on a model or a tuned adapter with the published culture QA values: this.sh MODEL [OPTION …]
set -euo pipefail
. "$(dirname "$0")/../help.sh"
. "$(dirname "$0")/launch.sh"

MODEL=${1:?usage: train_dpo.sh MODEL_OR_ADAPTER [OPTION …]; DATA=rows with prompt, chosen, rejected}

"${LAUNCHER[@]}" src/train/train_dpo.py \
  --model_name "$MODEL" \
  --data_path "${DATA:?the preference rows}" \
  --max_seq_length 2048 \
  --num_epochs 3 \
  --batch_size 1 \
  --gradient_accumulation_steps 16 \
  --learning_rate 5e-7 \
  --beta 0.1 \
  --seed 3407 \
  "${@:2}"
