#!/usr/bin/env bash
# Every check that waits for a card, in one command: for a box with one NVIDIA GPU and no network.
#
#   bench/gpu.sh                           # about two hours; again after a stop: it goes on
#   WHEELS=/media/wheels bench/gpu.sh      # packages that are missing come from this folder
#   TOY=1 bench/gpu.sh                     # every script at toy size, on the CPU
#
# Each step is a script of bench/ under a limit of LIMIT seconds (480). OUT (runs/gpu) gets its
# figures as STEP.json and what it said as STEP.log: a step whose JSON is there is not run again. One
# that fails is listed, and the others go on. At the end there is a table, and OUT/all.json with
# everything. Exit code 1 if a step failed. Models with random weights lie in OUT/models (40 GB), and
# are deleted when all is done. Without a card it says so and runs the toy sizes.
#
#   STEPS="train-8B infer" bench/gpu.sh    # only the steps whose names begin so, and the models
set -euo pipefail
. "$(dirname "$0")/../src/help.sh"
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
LIMIT=${LIMIT:-480}
STEPS=${STEPS:-}
export PYTHONPATH=$PWD/src PYTHONUTF8=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

# ---- the machine
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "no GPU here: every script is run at toy size, on the CPU"
  TOY=1
fi
TOY=${TOY:-}
OUT=${OUT:-runs/gpu${TOY:+-toy}}
mkdir -p "$OUT/models"
[ -z "$TOY" ] || export CUDA_VISIBLE_DEVICES=
has() { "$PYTHON" -c 'import sys, importlib.metadata as m; m.version(sys.argv[1])' "$1" 2>/dev/null; }
if [ -n "${WHEELS:-}" ]; then # one by one: a wheel that is missing costs only its own steps
  grep -hEo '^[a-z_][a-z0-9_.=-]*' requirements.txt requirements-gpu.txt | while read -r package; do
    has "${package%%=*}" ||
      "$PYTHON" -m pip install --quiet --no-index --find-links "$WHEELS" "$package" ||
      echo "  $package could not be installed from $WHEELS"
  done
fi

# ---- a step: its name, the packages that it needs, its script and options
failed=()
step() {
  local name=$1 needs=$2 started=$SECONDS code=0
  shift 2
  local wanted= begin made=1
  for begin in ${STEPS:-$name} make-; do [[ $name == "$begin"* ]] && wanted=1; done
  [ -n "$wanted" ] || return 0
  [[ $name != make-* ]] || [ -d "$OUT/models/${name#make-}" ] || made= # deleted when all was done
  if [ -n "$made" ] && [ -s "$OUT/$name.json" ]; then
    echo "$name: done before"
    return
  fi
  for package in $needs; do
    if [ -n "$TOY" ] && [ "$package" = card ]; then
      echo "$name: skipped, it needs a card"
      return
    elif [ "$package" != card ] && ! has "$package"; then
      echo "$name: skipped, $package is not installed"
      [ -n "$TOY" ] || failed+=("$name")
      return
    fi
  done
  timeout -k 10 "$LIMIT" "$PYTHON" "$@" --output "$OUT/$name.json" >"$OUT/$name.log" 2>&1 || code=$?
  [ "$code" != 0 ] || [ -s "$OUT/$name.json" ] || code=1
  case $code in
    0) echo "$name: $((SECONDS - started)) s" ;;
    124 | 137) echo "$name: stopped after $LIMIT s ($OUT/$name.log)" && failed+=("$name") ;;
    *) echo "$name: failed, $(tail -n 1 "$OUT/$name.log" | cut -c1-120) ($OUT/$name.log)" && failed+=("$name") ;;
  esac
}

# ---- sizes
if [ -n "$TOY" ]; then
  SIZES=(tiny) MIDDLE=tiny LARGE=tiny ANSWERERS=(tiny)
  train=(--steps 7 --batch_size 1 "--args=--optim adamw_torch")
  cpu=()
  infer=(--questions 4 --alone 1 --max_new_tokens 4 --rounds 1)
  choose=(--dialogues 1 --alone 1 --rounds 1)
  csat=(--rows 4 --alone 1 --rounds 1)
  bf16=(--model_name "$OUT/models/tiny" --learning_rates 6e-5 --steps 2 --batch_size 2 --held 2)
else
  SIZES=(1.5B 8B embedded) MIDDLE=7B LARGE=8B ANSWERERS=(embedded 1.5B 8B)
  train=(--steps 30 --batch_size 16)
  cpu=(--against_cpu)
  infer=(--questions 256 --alone 4 --max_new_tokens 64)
  choose=(--dialogues 40 --alone 30)
  csat=(--rows 600 --alone 20)
  bf16=()
fi

# ---- models with random weights
for size in "${SIZES[@]}" "$MIDDLE"; do
  [ "$size" = embedded ] || step "make-$size" "" bench/gpu_child.py make "$size" "$OUT/models/$size"
done

# ---- training: tokens/s, share of the bf16 peak, memory against its estimate, losses
for size in "${SIZES[@]}"; do
  ways=(lora 4bit full unsloth-lora unsloth-4bit unsloth-full dpo trl-lora trl-full)
  case $size in
    1.5B | tiny) ways+=(fsdp2-full zero3-full) ;; # on one process
    embedded) ways=(lora 4bit full unsloth-lora dpo) ;;
  esac
  for way in "${ways[@]}"; do
    more=() needs=
    case $way in
      unsloth-*) needs="card unsloth" ;;
      fsdp2-*) needs=card ;;
      zero3-*) needs="card deepspeed" ;;
      full) [ -n "$TOY" ] || needs=torchao ;;
    esac
    case $size-$way in embedded-lora | embedded-full) more=("${cpu[@]}") ;; esac
    step "train-$size-$way" "$needs" bench/train_gpu.py --sizes "$size" --ways "$way" \
      --models_dir "$OUT/models" "${more[@]}" "${train[@]}"
  done
done

# ---- the contests' rows of models.json: packed QLoRA, 4-bit rsLoRA at 2,048 tokens, long preferences
step "contest-dialogue" "" bench/train_gpu.py --sizes "$LARGE" --ways contest-dialogue \
  --models_dir "$OUT/models" "${train[@]}"
step "contest-csat" "" bench/train_gpu.py --sizes "$MIDDLE" --ways contest-csat \
  --models_dir "$OUT/models" "${train[@]}"
step "contest-dpo" "" bench/train_gpu.py --sizes "$LARGE" --ways contest-dpo \
  --models_dir "$OUT/models" "${train[@]}"

# ---- answers: ratios to one at a time
for size in "${ANSWERERS[@]}"; do
  model=$OUT/models/$size
  [ "$size" != embedded ] || model=embedded
  step "infer-$size" "" bench/infer.py --model_name "$model" "${infer[@]}"
  step "choice-$size" "" bench/choice.py --model_name "$model" "${choose[@]}"
  step "csat-$size" "" bench/csat.py choose --model_name "$model" "${csat[@]}"
done

# ---- bfloat16 with and without stochastic rounding
step "bf16" torchao bench/bf16.py "${bf16[@]}"

echo
"$PYTHON" bench/gpu_table.py "$OUT" --output "$OUT/all.json"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]} (run it again: only these are run)"
  exit 1
fi
rm -rf "$OUT/models"
