#!/usr/bin/env bash
# Answer and score: exp.sh "MODEL …" TYPE "TASK …"
#
#   bash src/eval/exp.sh embedded local "understand usage"
#   bash src/eval/exp.sh "gpt-4o gemini-2.5-flash" api
#   JUDGE=gpt-4.1 bash src/eval/exp.sh checkpoints/Qwen3-8B-full local
#
# JUDGE: the judge of both tasks. Default: gpt-4.1 where OPENAI_API_KEY is set, gemini-2.5-flash
# where GEMINI_API_KEY is set, else the offline judges. ARGS: more options for infer.py.
set -euo pipefail
cd "$(dirname "$0")"

MODELS=${1:-gpt-4o}
TYPE=${2:-api}
TASKS=${3:-understand usage}
RESULTS=${RESULTS:-results}
PYTHON=${PYTHON:-$([ -x ../../.venv/bin/python ] && echo ../../.venv/bin/python || echo python)}
read -ra INFER_ARGS <<<"${ARGS:-}"

judge_of() { # the judge of a task
  if [ -n "${JUDGE:-}" ]; then echo "$JUDGE"
  elif [ -n "${OPENAI_API_KEY:-}" ]; then echo gpt-4.1
  elif [ -n "${GEMINI_API_KEY:-}${GOOGLE_API_KEY:-}" ]; then echo gemini-2.5-flash
  elif [ "$1" = usage ]; then echo lexicon
  else echo local:embedded
  fi
}

failed=()
for model in $MODELS; do
  name=$(basename "$model")
  for task in $TASKS; do
    judge=$(judge_of "$task")
    echo "=== $name · $task · judge $judge"
    if ! "$PYTHON" infer.py "$model" "$TYPE" "$task" --name "$name" --results_dir "$RESULTS" \
      ${INFER_ARGS[@]+"${INFER_ARGS[@]}"}; then
      failed+=("$name $task (answers)")
    fi
    if ! "$PYTHON" score.py --model_name "$name" --score_mode "$task" --scorer_name "$judge" \
      --results_dir "$RESULTS"; then
      failed+=("$name $task (scores)")
    fi
  done
done

if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
