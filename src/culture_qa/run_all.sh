#!/usr/bin/env bash
# Korean culture QA from the contest's data to one table and a submission: run_all.sh [NAME]
#
#   bash src/culture_qa/run_all.sh embedded        # the questions of sample/, on a CPU
#   DATA=path/to/contest CORPUS=kowiki.jsonl bash src/culture_qa/run_all.sh kanana-1.5-8b-base-culture-lora
#   EXTRA="click.json etri.json" LIMIT=3 bash src/culture_qa/run_all.sh embedded
#
# NAME: a row of models.json. Its base model, the same after SFT, and after DPO on the merged model
# each answer the test without contexts and with those of every retriever; gold contexts show what
# retrieval could give, random ones what mere length costs. Everything lands in RUN; run again, it
# goes on where it was, and what is done is not done again.
#
# DATA: the folder of train.json, dev.json, test.json and, where it is known, qrels.json (right
# passages by question): without it no gated, gold and random contexts. A test without answers, as
# the contest's, has a submission and no scores.
# CORPUS: passages for the index. K: contexts a question. EXTRA: rows of convert.py, trained on too.
# LIMIT: only so many test questions a type. ARGS, DPO_ARGS: more options for the two stages of
# training. WRITER: a model that writes the search queries of two-stage retrieval. JUDGE: a model
# (API) that writes wrong answers too, with the options PAIR_ARGS. SUBMISSION: the test file with the
# answers of SUBMIT (dpo-none); RUN/submission.json where none is named, and none with a LIMIT.
set -euo pipefail
. "$(dirname "$0")/../stages.sh"

NAME=${1:-embedded}
HERE=src/culture_qa
DATA=${DATA:-$HERE/sample}
CORPUS=${CORPUS:-$HERE/sample/passages.jsonl}
MODELS=${MODELS:-$HERE/models.json}
RUN=${RUN:-runs/culture_qa/$NAME}
K=${K:-3}
RESULTS=$RUN/results
CONTEXTS=(none bm25 dense hybrid two-stage)
SUBMISSION=${SUBMISSION:-$RUN/submission.json}
BASE=$("$PYTHON" -c 'import sys; sys.path.insert(0, "src"); from malmat.models import model_row
print(model_row(*sys.argv[1:]).model_name)' "$NAME" "$MODELS")
WRITER=${WRITER:-$BASE}
# DPO by the published values; on a handful of pairs a small model needs larger steps to move, and
# eight of them are what a CPU does in minutes.
[ "$NAME" != embedded ] || DPO_ARGS="--max_steps 8 --learning_rate 2e-4 --warmup_ratio 0
  --batch_size 4 --gradient_accumulation_steps 1 --optim adamw_torch --max_seq_length 1024
  --lora_r 16 --lora_alpha 16 ${DPO_ARGS:-}"

read -ra extra <<<"${EXTRA:-}"
read -ra args <<<"${ARGS:-}"
read -ra dpo_args <<<"$(echo ${DPO_ARGS:-})"
read -ra pair_args <<<"${PAIR_ARGS:-}"

stage "preflight: what the data gives"
qrels=()
if [ -f "$DATA/qrels.json" ]; then
  qrels=(--qrels "$DATA/qrels.json")
  CONTEXTS+=(gated gold random)
else
  echo "no $DATA/qrels.json: without the contexts gated, gold and random"
fi
answered=$("$PYTHON" -c 'import sys; sys.path.insert(0, "src")
from malmat.cli import run
from malmat.contests.typed_questions import read_typed
run(lambda: print(all(one.answer is not None for one in read_typed(sys.argv[1])[0])))' "$DATA/test.json")
[ "$answered" = True ] || echo "no answers in $DATA/test.json: without scores and the table"
# Contexts and pairs come from the index: those of two corpora are not to meet in one RUN.
[ ! -f "$RUN/index/manifest.json" ] || "$PYTHON" -c 'import sys; sys.path.insert(0, "src")
from malmat.cli import run
from malmat.errors import InputError
from malmat.files import read_json
from malmat.retrieval.documents import file_stamps
def main():
    corpus, index = sys.argv[1:]
    known, now = read_json(f"{index}/manifest.json"), file_stamps([corpus])
    known = known.get("files", {}) if isinstance(known, dict) else {}
    if {one["sha256"] for one in known.values()} != {one["sha256"] for one in now.values()}:
        fix = "Name another RUN, or remove the index."
        raise InputError(f"was not made from {corpus} as it is now", path=index, fix=fix)
run(main)' "$CORPUS" "$RUN/index"

stage "prepare: chat rows in the variant of $NAME"
prepare() { "$PYTHON" $HERE/prepare.py --model "$NAME" --models "$MODELS" "$@" | tail -n 1; }
prepare --input "$DATA/train.json" "${extra[@]}" --output "$RUN/train.jsonl" \
  --held_out "$DATA/dev.json" "$DATA/test.json"
prepare --input "$DATA/dev.json" --output "$RUN/dev.jsonl"
prepare --input "$DATA/test.json" --output "$RUN/test.jsonl"

stage "SFT"
"$PYTHON" src/train/rows.py "$NAME" --models "$MODELS" --output_dir "$RUN/sft" \
  --data_path "$RUN/train.jsonl" --args="--eval_data_path $RUN/dev.jsonl ${args[*]}"

stage "index"
"$PYTHON" $HERE/build_index.py "$CORPUS" --output "$RUN/index" --bm25 kiwi --dense auto
legs=$("$PYTHON" -c 'import json, sys
legs = json.load(open(sys.argv[1]))["legs"]
print(*sorted(legs, key=lambda leg: legs[leg]["kind"] != "bm25"))' \
  "$RUN/index/manifest.json")
read -ra legs <<<"$legs"

stage "contexts: ${CONTEXTS[*]:1}"
find() { # find NAME QUESTIONS OPTION …
  "$PYTHON" $HERE/retrieve.py --index "$RUN/index" --questions "$RUN/$2.jsonl" \
    --output "$RUN/contexts/$2/$1.jsonl" --k "$K" "${@:3}" | tail -n 1
}
find bm25 test --legs "${legs[0]}"
find dense test --legs "${legs[1]}"
find hybrid test --fuse points --alpha 0.5
find two-stage test --queries model --model "$WRITER"
if [ ${#qrels[@]} -gt 0 ]; then
  "$PYTHON" $HERE/retrieve.py --index "$RUN/index" --questions "$RUN/dev.jsonl" --k "$K" \
    --legs "${legs[0]}" "${qrels[@]}" --fit_gate "$RUN/gate.json" | tail -n 1
  find gated test --legs "${legs[0]}" --gate "$RUN/gate.json"
  find gold test --by gold "${qrels[@]}"
  find random test --by random "${qrels[@]}"
fi
find near train --k 8

stage "pairs: other choices, neighbours, the tuned model's own wrong answers"
SFT=$RUN/sft/$NAME
own=()
for tokens in culture_short=64 culture_long=192; do
  task=${tokens%=*}
  "$PYTHON" src/eval/infer.py "$SFT" local "$task" --questions "$RUN/train.jsonl" --name own \
    --output "$RUN/own_$task.json" --temperature 1 --until line \
    --max_new_tokens "${tokens#*=}" | tail -n 2
  own+=("$RUN/own_$task.json")
done
sources=(options neighbours own)
[ -z "${JUDGE:-}" ] || { sources+=(llm) pair_args+=(--model "$JUDGE"); }
"$PYTHON" $HERE/make_dpo_pairs.py --input "$RUN/train.jsonl" --output "$RUN/pairs.jsonl" \
  --sources "${sources[@]}" --contexts "$RUN/contexts/train/near.jsonl" \
  "${qrels[@]}" --samples "${own[@]}" "${pair_args[@]}"

stage "DPO: a fresh adapter on the merged model"
DPO=$RUN/dpo/$NAME
DATA="$RUN/pairs.jsonl" PYTHON="$PYTHON" bash src/train/train_dpo.sh "$SFT" --output_dir "$DPO" \
  --tasks culture_choice culture_short culture_long --card $HERE/card.json "${dpo_args[@]}"

stage "answers: base, SFT and DPO with every kind of contexts"
files=()
for one in "${CONTEXTS[@]}"; do
  if [ "$one" = none ]; then files+=(none); else files+=("$one=$RUN/contexts/test/$one.jsonl"); fi
done
"$PYTHON" $HERE/grid.py --row "$NAME" --models "$MODELS" --questions "$RUN/test.jsonl" \
  --models_of "base=$BASE" "sft=$SFT" "dpo=$DPO" --contexts "${files[@]}" \
  --work "$RUN/joint" --results_dir "$RESULTS" ${LIMIT:+--limit "$LIMIT"}

if [ -z "${LIMIT:-}" ]; then
  stage "submission"
  answers=()
  for task in culture_choice culture_short culture_long; do
    answers+=("$RESULTS/$task/infer_results/${SUBMIT:-dpo-none}_${task}_inference_results.json")
  done
  try submission "$PYTHON" $HERE/submission.py --input "$DATA/test.json" \
    --answers "${answers[@]}" --keep_cut --output "$SUBMISSION" || true
fi

if [ "$answered" = True ]; then
  stage "scores and the table"
  columns=()
  for model in base sft dpo; do columns+=("${CONTEXTS[@]/#/$model-}"); done
  "$PYTHON" $HERE/score.py --gold "$RUN/joint/gold.jsonl" --results_dir "$RESULTS" --keep_cut \
    --model_name "${columns[@]}" >"$RUN/scores.txt"
  "$PYTHON" $HERE/table.py --results_dir "$RESULTS" --models base sft dpo \
    --contexts "${CONTEXTS[@]}" --output "$RUN/table.json" --markdown "$RUN/table.md"
fi
end
