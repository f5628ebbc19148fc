#!/usr/bin/env bash
# Answer and score: exp.sh "MODEL …" [TYPE ["TASK …"]]
#
#   bash src/eval/exp.sh embedded local "understand usage"       # default: all tasks that it can do
#   bash src/eval/exp.sh "gpt-4o gemini-2.5-flash"
#   JUDGE=gpt-4.1 bash src/eval/exp.sh checkpoints/Qwen3-8B-full
#   ARGS="--adapter checkpoints/my-lora" bash src/eval/exp.sh Qwen/Qwen3-8B local
#   MODEL_NAME=second-try bash src/eval/exp.sh checkpoints/b/final local
#
# MODEL: a row of models.json, an API model's name, a hub id, a folder, or embedded. TYPE: api or
# local; found from the model where it is left out or empty. JUDGE: of the tasks that need one. Default:
# an LLM where its key is set (environment or .env), else the offline judges. ARGS, SCORE_ARGS: more
# options for infer.py and score.py. RESULTS: another folder. MODEL_NAME: a name for one model in
# files and reports; by default the row's name or the last part of its path, or of its adapter's.
set -euo pipefail
. "$(dirname "$0")/../help.sh"
set -f # ARGS and the like are split at blanks and nothing more
here=$(cd "$(dirname "$0")" && pwd)
python=$here/../../.venv/bin/python
PYTHON=${PYTHON:-$([ -x "$python" ] && echo "$python" || echo python)}
RESULTS=${RESULTS:-$here/results}

try() { # try LABEL COMMAND …: a failure is noted, Ctrl-C ends everything
  local status=0
  "${@:2}" || status=$?
  [ $status -ne 130 ] || exit 130
  [ $status -eq 0 ] || failed+="failed: $1"$'\n'
  return $status
}

# wrote MODEL: a file of answers of that model came since this task began. What infer.py left as it
# was (it had to stop, or only planned) is not scored as if it were of this run.
wrote() {
  [ -n "$(find "$RESULTS" -path '*/infer_results/*' -name "$1_*_results.json" -newer "$began")" ]
}

failed=""
began=$(mktemp)
trap 'rm -f "$began"' EXIT
models=$("$PYTHON" "$here/resolve.py" "${1:-gpt-4o}" --type="${2:-}" --name="${MODEL_NAME:-}" --args="${ARGS:-}")
while IFS=$'\t' read -r model type name <&3; do
  for task in ${3:-$("$PYTHON" "$here/tasks.py" "$type")}; do
    echo "=== $name · $task"
    touch "$began"
    try "$name $task (answers)" "$PYTHON" "$here/infer.py" "$model" "$type" "$task" --name "$name" \
      --results_dir "$RESULTS" ${ARGS:-} || [ $? -eq 1 ] || continue # no answers: nothing to score
    wrote "$name" || continue
    try "$name $task (scores)" "$PYTHON" "$here/score.py" --model_name "$name" --score_mode "$task" \
      --results_dir "$RESULTS" --judge="${JUDGE:-}" ${SCORE_ARGS:-} || true
  done
done 3<<<"$models"

printf %s "$failed" >&2
[ -z "$failed" ]
