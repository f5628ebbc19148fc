"""Compare the choices of this project's engine with those of lm-evaluation-harness, item by item.

    python -m venv lmeval && lmeval/bin/pip install lm-eval transformers torch
    python src/data/export.py --output_dir export
    lmeval/bin/lm_eval --model hf --model_args pretrained=MODEL \\
      --include_path export/lm_eval --tasks malmat \\
      --apply_chat_template --log_samples --output_path lm_eval_out
    python src/eval/infer.py MODEL local apt
    python bench/lm_eval_check.py lm_eval_out --task apt --answers RESULTS.json

Reads   the harness's samples_malmat_<task>_*.jsonl and an answer file of infer.py.
Prints  both accuracies, on how many items the picks agree, and those on which they do not. The
        harness picks by the sum of log-likelihoods (acc) or by byte (acc_bytes), this project by
        byte unless told otherwise. The harness counts a blank or line break at the prompt's end as
        the answer's first token, which adds one constant to an item's sums: by sum the picks are
        the same, by byte near ties may differ.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, run
from malmat.errors import InputError
from malmat.files import read_json, read_rows


def arguments():
    options = parser(__doc__)
    options.add_argument("samples", help="the harness's --output_path")
    options.add_argument("--task", required=True)
    options.add_argument("--answers", required=True, help="an answer file of infer.py")
    options.add_argument("--show", type=int, default=10, help="items that differ shown")
    return options.parse_args()


def main() -> None:
    args = arguments()
    files = sorted(Path(args.samples).rglob(f"samples_malmat_{args.task}_*.jsonl"))
    if not files:
        raise InputError("no samples of the task in it", path=args.samples)
    theirs = {}
    for _, row in read_rows(files[-1]):
        choices = row["doc"]["choices"]
        sums = [float(answer[0]) for answer in row["filtered_resps"]]
        scores = [s / len(c.encode()) for s, c in zip(sums, choices, strict=True)]
        target = choices[row["doc"]["label"]]
        theirs[row["doc"]["id"]] = (choices[scores.index(max(scores))], target)
    ours = {row["id"]: row["answer"] for row in read_json(args.answers)}
    common = [key for key in theirs if key in ours]
    if not common:
        raise InputError("no item of the samples in it", path=args.answers)
    total = len(common)
    right = sum(theirs[key][0] == theirs[key][1] for key in common)
    print(f"harness {right}/{total}, by byte")
    print(f"malmat  {sum(ours[key] == theirs[key][1] for key in common)}/{total}")
    differ = [key for key in common if ours[key] != theirs[key][0]]
    print(f"the same pick on {total - len(differ)} of {total} items")
    for key in differ[: args.show]:
        print(f"  {key}: harness {theirs[key][0]!r}, malmat {ours[key]!r}")


if __name__ == "__main__":
    run(main)
