#!/usr/bin/env bash
# Answer and score: exp.sh "MODEL …" TYPE "TASK …"
#
#   bash src/eval/exp.sh embedded local "understand usage"
#   bash src/eval/exp.sh "gpt-4o gemini-2.5-flash" api
#   JUDGE=gpt-4.1 bash src/eval/exp.sh checkpoints/Qwen3-8B-full local
#
# JUDGE: the judge of both tasks. Default: an LLM where its key is set (environment or .env), else
# the offline judges. ARGS: more options for infer.py.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")"

MODELS=${1:-gpt-4o}
TYPE=${2:-api}
TASKS=${3:-understand usage}
case ${RESULTS:=$PWD/results} in /*) ;; *) RESULTS=$start/$RESULTS ;; esac
PYTHON=${PYTHON:-$([ -x ../../.venv/bin/python ] && echo ../../.venv/bin/python || echo python)}
read -ra INFER_ARGS <<<"${ARGS:-}"

failed=()
for model in $MODELS; do
  name=$(basename "$model")
  if [ -d "$start/$model" ]; then model=$start/$model; fi # a folder, as seen from the caller
  for task in $TASKS; do
    echo "=== $name · $task"
    "$PYTHON" infer.py "$model" "$TYPE" "$task" --name "$name" --results_dir "$RESULTS" \
      ${INFER_ARGS[@]+"${INFER_ARGS[@]}"} || {
      status=$?
      failed+=("$name $task (answers)")
      [ $status -ne 130 ] || exit 130 # Ctrl-C ends everything
      [ $status -eq 1 ] || continue   # without answers there is nothing to score
    }
    "$PYTHON" score.py --model_name "$name" --score_mode "$task" --results_dir "$RESULTS" \
      --scorer_name "${JUDGE:-auto}" || {
      status=$?
      failed+=("$name $task (scores)")
      [ $status -ne 130 ] || exit 130
    }
  done
done

if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
