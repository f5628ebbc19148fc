"""The tasks by name: all that answering, scoring, the report and the leak gate know of them.

    python src/eval/tasks.py            # their names, in the report's order
    python src/eval/tasks.py api        # those that a model behind an API can answer
    python src/eval/tasks.py local --kind choices      # or text: those with, without choices

Reads   the files of FILES and of MALMAT_TASKS.
Prints  a name a line, of the tasks whose questions are there.

A task is a file that declares ``TASK`` (or several in ``TASKS``); ``FILES`` lists them. A file of
your own anywhere else is added without an edit here: MALMAT_TASKS=my_task.py (several with ``:``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from malmat.cli import BAD_INPUT, parser, run
from malmat.errors import InputError
from malmat.evaluate.scorers import needs_likelihoods
from malmat.evaluate.task import load_tasks

HERE = Path(__file__).parent
FILES = ("reply.py", "meaning.py", "apt.py", "understand.py", "usage.py")
FILES += ("../dialogue_inference/task.py", "../csat/task.py", "../culture_qa/task.py")
OWN = filter(None, os.environ.get("MALMAT_TASKS", "").split(os.pathsep))
try:
    TASKS = load_tasks([*(HERE / name for name in FILES), *map(Path, OWN)])
except InputError as problem:  # every script reads this file before anything else
    print(f"error: task file {problem}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("type", nargs="?", choices=("api", "local"), default="local")
    options.add_argument("--kind", choices=("choices", "text"), help="default: both")
    args = options.parse_args()
    for name, task in TASKS.items():
        if args.type == "api" and needs_likelihoods(task.scorer):
            continue
        if not task.questions.is_file():  # a contest's data, which may not be passed on
            continue
        if args.kind in (None, "choices" if task.has_choices else "text"):
            print(name)


if __name__ == "__main__":
    run(main)
