#!/usr/bin/env bash
# Korean SAT questions from the rows to scores, votes and a submission: run_all.sh [NAME …]
#
#   bash src/csat/run_all.sh embedded                    # the sample set, on a CPU
#   DATA=path/to/contest bash src/csat/run_all.sh        # all rows that fit this machine
#   DATA=… METHOD=stack bash src/csat/run_all.sh NAME NAME
#
# NAME: a row of models.json. Each is trained on train, and chooses on dev and test in its own
# wording, in another one and with its choices in all cyclic orders; beside these stand the untrained
# model, the trained one without passage and with the choices alone, and the baselines. The votes'
# weights are fitted on dev. Everything lands in RUN; run again, it goes on where it was. A model
# that fails is listed, the others carry on, and the exit code is 1.
#
# DATA: the folder of train.csv, test.csv and, if there is one, dev.csv; without it an eighth of the
# passages of train is dev. Where test has no answers the table is of dev, with weights from folds of
# it. RUN: another folder. MODELS: another models.json. ARGS: more options for training. METHOD:
# the vote that is submitted (hard, soft, weighted, stack). SUBMISSION: its file.
set -euo pipefail
. "$(dirname "$0")/../stages.sh"

DATA=${DATA:-src/csat/sample}
MODELS=${MODELS:-src/csat/models.json}
RUN=${RUN:-runs/csat}
METHOD=${METHOD:-soft}
SUBMISSION=${SUBMISSION:-$RUN/submission.csv}
TASK=csat

prepare() { "$PYTHON" src/csat/prepare.py --models "$MODELS" "$@"; }
answers() { echo "$RUN/$2/$TASK/infer_results/$1_${TASK}_inference_results.json"; }
choose() { # choose COLUMN MODEL SPLIT ROWS [OPTION …]
  "$PYTHON" src/eval/infer.py "$2" local $TASK --name "$1" --results_dir "$RUN/$3" \
    --questions "$4" "${@:5}"
}
score() {
  "$PYTHON" src/eval/score.py --task $TASK --model_name "$1" --results_dir "$RUN/$2"
}

names=("$@")
if [ $# -eq 0 ]; then
  fitting=$(models "$MODELS") # in a line of its own: a failure ends the script
  mapfile -t names < <(grep -v '^hint-writer$' <<<"$fitting")
fi

train=$DATA/train.csv dev=$DATA/dev.csv test=$DATA/test.csv
if [ ! -f "$dev" ]; then
  stage "dev: an eighth of the passages of train"
  "$PYTHON" src/data/folds.py --data "$train" --by paragraph --k 8 --output "$RUN/split.json" \
    --split_dir "$RUN/split"
  train=$RUN/split/fold0/train.jsonl dev=$RUN/split/fold0/held.jsonl
fi

stage "rows checked, no passage in two splits"
prepare --input "$train" --against "$dev" "$test" --report "$RUN/train.report.json" \
  --output "$RUN/rows/train.jsonl" --clean
for split in dev test; do
  prepare --input "${!split}" --output "$RUN/rows/$split.jsonl"
  "$PYTHON" src/data/folds.py --data "$RUN/rows/train.jsonl" --against "$RUN/rows/$split.jsonl"
done
table=dev # the split whose right answers the table stands on
if grep -q '"answer": ' "$RUN/rows/test.jsonl"; then table=test; fi

stage "EDA"
[ "$RUN/eda/done" -nt "$DATA/train.csv" ] || {
  "$PYTHON" src/csat/eda.py --input "$RUN"/rows/{train,dev,test}.jsonl --output_dir "$RUN/eda"
  touch "$RUN/eda/done"
}

stage "baselines"
"$PYTHON" src/csat/baselines.py "$RUN/rows/$table.jsonl" --train "$RUN/rows/train.jsonl" \
  --results_dir "$RUN/$table"

blind=(chance most-frequent options-only) members=()
for name in "${names[@]}"; do
  stage "$name: rows in its variant, trained"
  own=$RUN/$name
  try "$name rows" prepare --model "$name" --input "$train" --clean --output "$own/train.jsonl" ||
    continue
  try "$name training" "$PYTHON" src/train/rows.py "$name" --models "$MODELS" \
    --data_path "$own/train.jsonl" --output_dir "$RUN/models" --args="${ARGS:-}" || continue
  model=$RUN/models/$name

  stage "$name: choices on dev and test"
  for split in dev test; do
    prepare --model "$name" --input "${!split}" --output "$own/$split.jsonl"
    prepare --variant QuestionFirst --input "${!split}" --output "$own/$split.question.jsonl"
    try "$name" choose "$name" "$model" $split "$own/$split.jsonl" || continue 2
    try "$name" choose "$name-cyclic" "$model" $split "$own/$split.jsonl" --permute cyclic ||
      continue 2
    try "$name" choose "$name-question-first" "$model" $split "$own/$split.question.jsonl" ||
      continue 2
  done
  base=$("$PYTHON" -c 'import json, sys
print(json.load(open(sys.argv[1]))[sys.argv[2]]["model_name"])' "$MODELS" "$name")
  try "$name untrained" choose "$name-untrained" "$base" $table "$own/$table.jsonl" || continue
  for variant in NoPassage ChoicesOnly; do
    prepare --variant $variant --input "${!table}" --output "$own/$table.$variant.jsonl"
    try "$name" choose "$name-$variant" "$model" $table "$own/$table.$variant.jsonl" || continue 2
  done
  members+=("$name" "$name-cyclic" "$name-question-first")
  blind+=("$name-untrained" "$name-NoPassage" "$name-ChoicesOnly")
done
[ ${#members[@]} -gt 0 ] || end

stage "votes: weights from dev, and the published scheme, which is in sample"
fit=()
if [ $table = test ]; then
  fit=(--fit_on)
  for one in "${members[@]}"; do fit+=("$(answers "$one" dev)"); done
else
  "$PYTHON" src/data/folds.py --data "$RUN/rows/dev.jsonl" --k 5 --output "$RUN/dev.folds.json"
  fit=(--folds "$RUN/dev.folds.json")
fi
votes=()
for method in hard soft weighted stack; do
  "$PYTHON" src/eval/vote.py --task $TASK "${members[@]}" --method $method --name "vote-$method" \
    --results_dir "$RUN/$table" "${fit[@]}" > "$RUN/vote-$method.txt"
  votes+=("vote-$method")
done
cat "$RUN/vote-$METHOD.txt"
"$PYTHON" src/eval/vote.py --task $TASK "${members[@]}" --published --name vote-published \
  --results_dir "$RUN/$table" --no-table
votes+=(vote-published-in-sample)

stage "the table: every column against the best single model"
for one in "${members[@]}" "${blind[@]: 3}" "${votes[@]}"; do score "$one" $table > /dev/null; done
best=$("$PYTHON" -c 'import json, sys
print(json.load(open(sys.argv[1]))["table"]["best"])' "$(answers "vote-$METHOD" $table | sed 's/json$/run.json/')")
"$PYTHON" src/eval/compare.py "$best" "${members[@]}" "${votes[@]}" "${blind[@]}" --task $TASK \
  --results_dir "$RUN/$table" --show 0 --output "$RUN/compare.json"
"$PYTHON" src/csat/reliability.py "${members[@]}" --results_dir "$RUN/$table" \
  --output "$RUN/reliability.png"
"$PYTHON" src/eval/report.py --results_dir "$RUN/$table" --baseline "$best" \
  --title "Korean SAT questions, $table" --output "$RUN/report.html"

stage "which two to send, from dev alone"
"$PYTHON" src/csat/simulate.py "${members[@]}" --results_dir "$RUN/dev" --output "$RUN/simulate.json"

stage "submission: the vote on test"
files=() dev_files=()
for one in "${members[@]}"; do
  files+=("$(answers "$one" test)") dev_files+=("$(answers "$one" dev)")
done
"$PYTHON" src/eval/vote.py --task $TASK "${files[@]}" --method "$METHOD" --fit_on "${dev_files[@]}" \
  --output "$RUN/test.vote.json" --no-table > /dev/null
"$PYTHON" src/csat/submission.py --input "$test" --answers "$RUN/test.vote.json" \
  --output "$SUBMISSION"

end
