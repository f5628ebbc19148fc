#!/usr/bin/env bash
# Full fine-tuning of one model with the published KoCulture values: this.sh MODEL [OPTION …]
set -euo pipefail
. "$(dirname "$0")/../help.sh"
. "$(dirname "$0")/launch.sh"

MODEL=${1:-LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct}

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
  --optim adamw_8bit \
  --seed 3407 \
  "${@:2}"
