"""What is right without a model that reads the dialogue: the floor under every score.

    python src/dialogue_inference/baselines.py train.json
    python src/dialogue_inference/baselines.py dev.json --train train.json
    python src/eval/report.py --baseline options-only

Reads   a file of rows, the contest's or prepare.py's. What has to be learned is learned from
        --train, else from the other folds of the file itself.
Writes  results/<task>/infer_results and, where the rows have answers, score_results: a file a
        baseline, so that baselines stand in every table as models do.

  chance                 one of the options, drawn by --seed
  most-frequent          the answer that is right most often
  shortest, longest      by the options' characters
  overlap-marked, overlap-dialogue    the option that shares most bigrams with the text
  options-only           a logistic regression on the options' n-grams, which sees no dialogue
  options-only-shuffled  the same in folds that divide dialogues: what such folds leak
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import run
from malmat.contests.baseline_runs import Plan, arguments, run_baselines
from malmat.contests.dialogues import is_marked
from malmat.evaluate.task import Item
from task import TASK

RESULTS = Path(__file__).parents[1] / "eval" / "results"


def marked_text(item: Item) -> str:
    turns = item["conversation"]
    return "\n".join(t["utterance"] for t in turns if is_marked(t, item["reference_id"]))


def dialogue_text(item: Item) -> str:
    return "\n".join(turn["utterance"] for turn in item["conversation"])


OVERLAPS = {"overlap-marked": marked_text, "overlap-dialogue": dialogue_text}


def main() -> None:
    plan = Plan(TASK, OVERLAPS, "category", RESULTS)
    run_baselines(plan, arguments(__doc__, plan))


if __name__ == "__main__":
    run(main)
