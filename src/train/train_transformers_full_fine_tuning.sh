#!/usr/bin/env bash
# Full fine-tuning of one model with the published KoCulture values: this.sh MODEL [OPTION …]
#
# The optimizer is the one published, AdamW with 8-bit states, as it suits the precision (--optim).
set -euo pipefail
. "$(dirname "$0")/../help.sh"
. "$(dirname "$0")/launch.sh"

MODEL=${1:-Qwen/Qwen3-8B}

"${LAUNCHER[@]}" src/train/train_transformers_full_fine_tuning.py \
  --model_name "$MODEL" \
  --data_path "${DATA:-data/train.jsonl}" \
  --max_seq_length 512 \
  --num_epochs 3 \
  --batch_size 1 \
  --gradient_accumulation_steps 64 \
  --learning_rate 6e-5 \
  --warmup_ratio 0.05 \
  --weight_decay 0.01 \
  --seed 3407 \
  "${@:2}"
