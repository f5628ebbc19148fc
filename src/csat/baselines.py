"""What is right without a model that reads the passage: the floor under every score.

    python src/csat/baselines.py src/csat/sample/test.csv --train src/csat/sample/train.csv
    python src/csat/baselines.py train.jsonl

Reads   a file of rows, the contest's or prepare.py's. What has to be learned is learned from
        --train, else from the other folds of the file itself.
Writes  results/<task>/infer_results and, where the rows have answers, score_results: a file a
        baseline, so that baselines stand in every table as models do.

  chance                 one of the choices, drawn by --seed
  most-frequent          the number that is right most often
  shortest, longest      by the choices' characters
  overlap-passage, overlap-question    the choice that shares most bigrams with the text
  options-only           a logistic regression on the choices' n-grams, which sees nothing else
  options-only-shuffled  the same in folds that divide passages: what such folds leak

A language model that sees only the choices, or no passage, is a column like any other: prepare.py
--variant ChoicesOnly or NoPassage, and infer.py.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import run
from malmat.contests.baseline_runs import Plan, arguments, run_baselines
from malmat.evaluate.task import Item
from task import TASK

RESULTS = Path(__file__).parents[1] / "eval" / "results"


def question_text(item: Item) -> str:
    return f"{item['question']}\n{item['question_plus']}"


OVERLAPS = {"overlap-passage": lambda item: item["passage"], "overlap-question": question_text}


def main() -> None:
    plan = Plan(TASK, OVERLAPS, "n_choices", RESULTS)
    run_baselines(plan, arguments(__doc__, plan))


if __name__ == "__main__":
    run(main)
