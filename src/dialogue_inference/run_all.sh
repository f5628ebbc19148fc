#!/usr/bin/env bash
# Dialogue inference from the contest's data to scores, votes and a submission: run_all.sh [NAME …]
#
#   DATA=path/to/contest bash src/dialogue_inference/run_all.sh embedded
#   DATA=path/to/contest bash src/dialogue_inference/run_all.sh      # all rows that fit this machine
#   DATA=… SUBMISSION=submission.json METHOD=stack bash src/dialogue_inference/run_all.sh NAME NAME
#
# NAME: a row of models.json. Each is trained and answered in K folds by dialogue; the out-of-fold
# answers stand beside the untrained model and the baselines. Everything lands in RUN; run again, it
# goes on where it was. A model that fails is listed, the others carry on, and the exit code is 1.
#
# DATA: the folder of train.json and, for a submission, test.json. K, SEED: of the folds. RUN:
# another folder. MODELS: another models.json. ARGS: more options for training, as
# ARGS="--max_steps 20". SUBMISSION: a file; each model is then trained on all rows, too, answers the
# test, and METHOD (hard, soft, weighted, stack) of their vote, with weights fitted on the
# out-of-fold answers, is what is submitted.
set -euo pipefail
. "$(dirname "$0")/../stages.sh"

DATA=${DATA:-data/dialogue_inference}
MODELS=${MODELS:-src/dialogue_inference/models.json}
RUN=${RUN:-runs/dialogue_inference}
K=${K:-5}
SEED=${SEED:-42}
METHOD=${METHOD:-soft}
TASK=dialogue_inference
RESULTS=$RUN/results

answers() { echo "$2/$TASK/infer_results/$1_${TASK}_inference_results.json"; }

names=("$@")
if [ $# -eq 0 ]; then
  fitting=$(models "$MODELS") # in a line of its own: a failure ends the script
  mapfile -t names <<<"$fitting"
fi
splits=(train)
[ -z "${SUBMISSION:-}" ] || splits+=(test)

stage "refine"
raw=() refined=()
for split in "${splits[@]}"; do
  raw+=("$DATA/$split.json") refined+=("$RUN/refined/$split.json")
  "$PYTHON" src/dialogue_inference/refine.py --input "$DATA/$split.json" \
    --output "$RUN/refined/$split.json" --report "$RUN/refined/$split.report.json"
done

stage "EDA: raw and refined side by side"
[ "$RUN/eda/done" -nt "$DATA/train.json" ] || {
  "$PYTHON" src/dialogue_inference/eda.py --raw "${raw[@]}" --refined "${refined[@]}" \
    --output_dir "$RUN/eda"
  touch "$RUN/eda/done"
}

stage "rows, folds by dialogue, baselines"
for split in "${splits[@]}"; do
  "$PYTHON" src/dialogue_inference/prepare.py --input "$DATA/$split.json" --output "$RUN/$split.jsonl"
done
"$PYTHON" src/data/folds.py --data "$RUN/train.jsonl" --k "$K" --seed "$SEED" --balance category \
  --output "$RUN/folds.json"
"$PYTHON" src/dialogue_inference/baselines.py "$RUN/train.jsonl" --k "$K" --seed "$SEED" \
  --results_dir "$RESULTS"

trained=()
for name in "${names[@]}"; do
  stage "$name: rows in its variant, trained and answered in $K folds"
  for split in "${splits[@]}"; do
    try "$name rows" "$PYTHON" src/dialogue_inference/prepare.py --model "$name" --models "$MODELS" \
      --input "$DATA/$split.json" --refined "$RUN/refined/$split.json" \
      --output "$RUN/$name/$split.jsonl" || continue 2
  done
  test=()
  [ -z "${SUBMISSION:-}" ] ||
    test=(--test "$RUN/$name/test.jsonl" --test_output "$(answers "$name" "$RUN/test")")
  try "$name folds" "$PYTHON" src/train/kfold.py "$name" --models "$MODELS" --task $TASK \
    --rows "$RUN/$name/train.jsonl" --folds "$RUN/folds.json" --untrained "${test[@]}" \
    --output_dir "$RUN/kfold" --results_dir "$RESULTS" --args="${ARGS:-}" || continue
  for one in "$name" "$name-untrained"; do
    try "$one scores" "$PYTHON" src/eval/score.py --task $TASK --model_name "$one" \
      --results_dir "$RESULTS" || continue 2
  done
  trained+=("$name")
done

if [ ${#trained[@]} -gt 1 ]; then
  stage "vote on the out-of-fold answers, its weights from the other folds"
  try "vote" "$PYTHON" src/eval/vote.py --task $TASK "${trained[@]}" --folds "$RUN/folds.json" \
    --method "$METHOD" --name "vote-$METHOD" --results_dir "$RESULTS" &&
    try "vote scores" "$PYTHON" src/eval/score.py --task $TASK --model_name "vote-$METHOD" \
      --results_dir "$RESULTS" || true
fi

if [ ${#trained[@]} -gt 0 ]; then
  stage "report: is any of them better than the options alone?"
  others=(chance most-frequent)
  for name in "${trained[@]}"; do others+=("$name-untrained" "$name"); done
  [ ${#trained[@]} -lt 2 ] || others+=("vote-$METHOD")
  "$PYTHON" src/eval/compare.py options-only "${others[@]}" --task $TASK --results_dir "$RESULTS" \
    --show 0 --output "$RUN/compare.json"
  "$PYTHON" src/eval/report.py --results_dir "$RESULTS" --baseline options-only \
    --title "Dialogue inference, $K folds by dialogue" --output "$RUN/report.html"
fi

if [ -n "${SUBMISSION:-}" ] && [ ${#trained[@]} -gt 0 ]; then
  stage "submission: what the models of all rows answer, by vote"
  files=() oof=()
  for name in "${trained[@]}"; do
    files+=("$(answers "$name" "$RUN/test")") oof+=("$(answers "$name" "$RESULTS")")
  done
  chosen=${files[0]}
  if [ ${#trained[@]} -gt 1 ]; then
    chosen=$(answers "vote-$METHOD" "$RUN/test")
    "$PYTHON" src/eval/vote.py --task $TASK "${files[@]}" --method "$METHOD" --fit_on "${oof[@]}" \
      --output "$chosen"
  fi
  "$PYTHON" src/dialogue_inference/submission.py --input "$DATA/test.json" --answers "$chosen" \
    --output "$SUBMISSION"
fi

end
