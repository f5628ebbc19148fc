"""Make rows with contexts for the second stage: passages that help, among others that do not.

    python src/culture_qa/make_context_rows.py --input rows.jsonl --gold gold.jsonl \\
        --others near.jsonl --output context_rows.jsonl

Reads   --input: training rows of prepare.py. --gold: right passages by question id (retrieve.py
        --by gold). --others: what a search finds (retrieve.py), of which the right ones are left
        out: passages that distract.
Writes  --output: the rows with --k passages each in the prompt, in a random order: a right one and
        distracting ones; distracting ones alone in --distracting of the rows, so that a model
        learns to do without; none in --without of them, so that it still answers as it is asked
        where a gate gives none. ``contexts`` holds their ids, ``given`` which kind a row is.
"""

from __future__ import annotations

import random
from collections import Counter

from malmat.cli import parser, positive, relative, run, show_settings
from malmat.contests.rejected_answers import asked_rows
from malmat.contests.typed_questions import item_of, prepared_row, read_typed
from malmat.errors import InputError
from malmat.evaluate.contexts import passage_of, read_contexts
from malmat.files import write_jsonl
from task import DEFAULT, TASKS, VARIANTS


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True, help="training rows of prepare.py")
    options.add_argument("--gold", required=True, help="right passages by question id")
    options.add_argument("--others", required=True, help="found passages by question id")
    options.add_argument("--output", required=True)
    options.add_argument("--k", type=positive, default=4, help="passages a row")
    options.add_argument("--without", type=float, default=0.2, help="share of rows with none")
    options.add_argument("--distracting", type=float, default=0.2, help="share without a right one")
    options.add_argument("--seed", type=int, default=42)
    args = options.parse_args()
    for name in ("without", "distracting"):
        if not 0 <= getattr(args, name) <= 1:
            raise InputError("not a share from 0 to 1", field=name)
    if args.without + args.distracting > 1:
        raise InputError("more than all rows, with --without", field="distracting")
    return args


def main() -> None:
    args = arguments()
    show_settings("make_context_rows", vars(args))
    rows = asked_rows(read_typed(args.input)[0], args.input)
    gold, others = read_contexts(args.gold), read_contexts(args.others)
    names = [one.question.id for one in rows]
    for path, known in ((args.gold, gold), (args.others, others)):
        if missing := [name for name in names if name not in known]:
            problem = f"{len(missing)} questions are not in it, as {missing[0]}"
            raise InputError(problem, path=path, field="id", fix="Retrieve for all of them.")
    kinds = drawn(names, args)
    made = [with_contexts(one, kinds[one.question.id], gold, others, args) for one in rows]
    write_jsonl(args.output, made)
    counts = Counter(row["given"] for row in made)
    print(", ".join(f"{count} rows {name}" for name, count in counts.most_common()))
    print(f"wrote {len(made)} rows to {relative(args.output)}")


def drawn(names: list[str], args) -> dict[str, str]:
    """Question id → what its row is given; the shares are kept to the row."""
    order = sorted(names)
    random.Random(args.seed).shuffle(order)
    without = round(args.without * len(order))
    distracting = without + round(args.distracting * len(order))
    return {
        name: "without" if n < without else "distracting" if n < distracting else "right"
        for n, name in enumerate(order)
    }


def with_contexts(one, kind: str, gold: dict, others: dict, args) -> dict:
    """A row with its passages; where no passage is right, with distracting ones alone."""
    question, draw = one.question, random.Random(f"{args.seed} {one.question.id}")
    right = {context.get("id") for context in gold[question.id]}
    near = [context for context in others[question.id] if context.get("id") not in right]
    first = gold[question.id][:1] if kind == "right" else []
    kind = "distracting" if kind == "right" and not first else kind
    passages = [] if kind == "without" else [*first, *near][: args.k]
    draw.shuffle(passages)
    variant = question.more.get("variant", DEFAULT)
    messages = VARIANTS[variant](
        TASKS[0].prompts(), item_of(question), [passage_of(one) for one in passages]
    )
    answer = {"role": "assistant", "content": one.chosen}
    return {
        **prepared_row(question),
        "given": kind if passages else "without",
        "contexts": [str(context.get("id") or "") for context in passages],
        "messages": [*messages, answer],
    }


if __name__ == "__main__":
    run(main)
