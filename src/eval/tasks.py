"""The tasks by name: all that answering, scoring, the report and the leak gate know of them.

    python src/eval/tasks.py            # their names, in the report's order
    python src/eval/tasks.py api        # those that a model behind an API can answer
    python src/eval/tasks.py local --kind choices      # or text: those with, without choices

Reads   the files of FILES, CONTESTS and MALMAT_TASKS.
Prints  a name a line. The contests' tasks have a run_all.sh of their own and are not among them.

A task is a file that declares ``TASK`` (or several in ``TASKS``). A file of your own anywhere else
is added without an edit here: MALMAT_TASKS=my_task.py (several with ``:``).
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
CONTESTS = ("../dialogue_inference/task.py", "../csat/task.py", "../culture_qa/task.py")
OWN = [Path(name) for name in os.environ.get("MALMAT_TASKS", "").split(os.pathsep) if name]
try:
    TASKS = load_tasks([*(HERE / name for name in FILES + CONTESTS), *OWN])
    LISTED = TASKS.keys() - load_tasks(HERE / name for name in CONTESTS)
except InputError as problem:  # every script reads this file before anything else
    print(f"error: task file {problem}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("type", nargs="?", choices=("api", "local"), default="local")
    options.add_argument("--kind", choices=("choices", "text"), help="default: both")
    args = options.parse_args()
    for name, task in TASKS.items():
        if name not in LISTED or (args.type == "api" and needs_likelihoods(task.scorer)):
            continue
        if args.kind in (None, "choices" if task.has_choices else "text"):
            print(name)


if __name__ == "__main__":
    run(main)
