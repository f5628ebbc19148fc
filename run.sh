#!/usr/bin/env bash
# The whole chain in one command: slang terms in, a tuned model and a judged comparison out.
#
#   ./run.sh                              # the embedded model, ten to twenty minutes on 2 CPU cores
#   STEPS=300 CHOICES=120 LIMIT=100 ./run.sh   # more of everything
#   GEMINI_API_KEY=… ./run.sh             # Gemini writes and judges
#   MODEL=Qwen/Qwen3-1.7B JUDGE=gpt-4.1 ./run.sh
#
# Everything lands in runs/<model>/. A second ./run.sh redoes nothing that is done; after a crash or
# Ctrl-C it goes on where it was.
set -euo pipefail
. "$(dirname "$0")/src/help.sh"
cd "$(dirname "$0")"
if [ $# -gt 0 ]; then
  echo "error: run.sh takes no arguments, its settings are variables: ./run.sh --help" >&2
  exit 2
fi

MODEL=${MODEL:-embedded}           # hub id, folder, or embedded (Gemma 3 270M)
AUGMENT_TERMS=${AUGMENT_TERMS:-3}  # terms to write new pairs for
PAIRS=${PAIRS:-3}                  # pairs a term
STEPS=${STEPS:-80}                 # training steps
BATCH=${BATCH:-8}                  # examples a step
RATE=${RATE:-1e-3}                 # learning rate
CHOICES=${CHOICES:-80}             # questions a task with choices
LIMIT=${LIMIT:-40}                 # questions a task that is answered in text
TOKENS=${TOKENS:-64}               # longest answer, in tokens
SEED=${SEED:-42}
JUDGE=${JUDGE:-}                   # empty: an LLM where a key is set, else the offline judges
RUN=${RUN:-runs/$(basename "$MODEL")}

started=$SECONDS
stage_started=$SECONDS
title="set-up"
stage() { # close the stage before, open the next
  printf -- '--- %s: %d s\n' "$title" $((SECONDS - stage_started))
  title=$1 stage_started=$SECONDS
  printf '\n=== %s\n' "$title"
}
trap 'echo "stopped in stage: $title (run ./run.sh again to go on)" >&2' ERR

# ---- set-up: a virtual environment, unless one is active or PYTHON is given
. ./setup.sh

stage "augment: new dialogue pairs for $AUGMENT_TERMS terms"
if "$PYTHON" -c 'from malmat.answer.provider import api_key; api_key("gemini")' 2>/dev/null; then
  writer=(--provider gemini)
else # small answers from a small model
  writer=(--provider local --model embedded --max_tokens 320 --rounds 1 --batch_size 4)
fi
"$PYTHON" generate_augmented_pairs_gemini.py "${writer[@]}" --limit "$AUGMENT_TERMS" \
  --pairs_per_term "$PAIRS" --output_dir "$RUN/augmented_jsons"

stage "merge with merged_final.json, split by term"
"$PYTHON" src/data/merge.py merged_final.json "$RUN/augmented_jsons" --output "$RUN/merged.json" --overwrite
"$PYTHON" src/data/split.py --input "$RUN/merged.json" src/data/turns.jsonl --output_dir "$RUN/data"

stage "train: LoRA, $STEPS steps of $BATCH"
TUNED=$RUN/$(basename "$MODEL")-lora
"$PYTHON" src/train/train_lora_fine_tuning.py --model_name "$MODEL" \
  --data_path "$RUN/data/train.jsonl" --eval_data_path "$RUN/data/heldout.jsonl" --eval_limit 32 \
  --output_dir "$TUNED" --overwrite --max_steps "$STEPS" --batch_size "$BATCH" \
  --gradient_accumulation_steps 1 --learning_rate "$RATE" --optim adamw_torch --eval_steps $(((STEPS + 1) / 2)) \
  --seed "$SEED"

stage "answer and score: the base and the tuned model"
export JUDGE RESULTS=$RUN/results PYTHON
choices=$("$PYTHON" src/eval/tasks.py local --kind choices)
texts=$("$PYTHON" src/eval/tasks.py local --kind text)
ARGS="--limit $CHOICES" bash src/eval/exp.sh "$MODEL $TUNED" local "$choices"
# A base model was never taught to end its turn: for both models a line break ends an answer, too.
ARGS="--limit $LIMIT --max_new_tokens $TOKENS --until line --seed $SEED" \
  bash src/eval/exp.sh "$MODEL $TUNED" local "$texts"

stage "report"
"$PYTHON" src/eval/report.py --results_dir "$RUN/results" --baseline "$(basename "$MODEL")" \
  --change Training --title "Korean slang: $(basename "$MODEL") before and after training" \
  --output "$RUN/report.html"

printf -- '--- %s: %d s\n' "$title" $((SECONDS - stage_started))
printf '\n=== done in %d s: open %s\n' $((SECONDS - started)) "$RUN/report.html"
