#!/usr/bin/env bash
# Unsloth fine-tuning of one model with the published KoCulture values: this.sh MODEL [OPTION …]
set -euo pipefail
. "$(dirname "$0")/../help.sh"
. "$(dirname "$0")/launch.sh"

MODEL=${1:-unsloth/Qwen3-32B-bnb-4bit}

"${LAUNCHER[@]}" src/train/train_unsloth_fine_tuning.py \
  --model_name "$MODEL" \
  --data_path "${DATA:-data/train.jsonl}" \
  --option_4bit \
  --max_seq_length 1024 \
  --num_epochs 3 \
  --batch_size 2 \
  --gradient_accumulation_steps 32 \
  --learning_rate 2e-4 \
  --seed 3407 \
  "${@:2}"
