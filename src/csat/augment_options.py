"""The options of ``augment.py``, and what each kind of augmentation takes."""

from __future__ import annotations

from typing import Any

from malmat.answer.open import room_for_thoughts, sent_budget
from malmat.cli import api_options, number, parser, positive
from malmat.contests.answer_back import BY_HINT, WITHOUT_PASSAGE, Probe, with_passage
from malmat.contests.makers import Distractors, Hints, Maker, NewItems, Rationales
from malmat.contests.mcq_rows import check_output
from malmat.errors import InputError
from malmat.sources.row import MOST_CHOICES

KINDS = ("items", "distractors", "shuffle", "rationales", "hints")
NEW = KINDS[:3]
"""Those that make new items, with ids of their own; the others add a field to an item."""


def arguments(doc: str):
    """The options, checked against each other.

    Raises:
        InputError: two that contradict.
    """
    options = parser(doc)
    kinds = options.add_mutually_exclusive_group()
    for kind in KINDS:
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind)
    options.set_defaults(kind="items")
    options.add_argument("--input", required=True, nargs="+")
    options.add_argument("--output", required=True, help=".jsonl or .csv")
    options.add_argument("--against", nargs="+", default=[], help="held-out items: test, dev")
    options.add_argument("--limit", type=positive, help="only the first N passages or items")
    options.add_argument("--per_passage", type=positive, default=2, help="items a passage")
    options.add_argument("--choices", type=positive, default=5, help="of a new item")
    options.add_argument("--min_chars", type=positive, default=150, help="of a passage")
    options.add_argument("--max_chars", type=positive, default=1500, help="of a passage")
    options.add_argument("--copies", type=positive, default=1, help="other orders an item")
    options.add_argument("--seed", type=int, default=42, help="of --shuffle")
    options.add_argument("--model", default="gemini-2.5-flash")
    options.add_argument("--checker", help="another model that answers back")
    options.add_argument("--checker_base_url", help="its server, if it is not the model's")
    options.add_argument("--votes", type=positive, default=3, help="answers back an item")
    options.add_argument("--agree", type=positive, help="votes that must come to the key")
    options.add_argument("--needs_passage", action="store_true", help="see above")
    options.add_argument("--max_tokens", type=positive, default=4096)
    options.add_argument("--batch", action="store_true", help="the batch API: half price, slow")
    options.add_argument("--poll", type=number, default=60, help="seconds between status requests")
    names = ("provider", "sdk", "base_url", "extra_body", "thinking_budget", "ask_blocked")
    more = ("concurrency", "temperature", "max_cost", "prices", "dry_run")
    api_options(options, *names, *more, temperature={"default": 0.7})
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    args = options.parse_args()
    check(args)
    return args


def check(args) -> None:
    """Refuse options that contradict each other, before anything is read."""
    check_output(args.output)
    args.agree = args.agree or args.votes
    for field, fits, fix in (
        ("agree", args.agree <= args.votes, "Up to --votes."),
        ("choices", 2 <= args.choices <= MOST_CHOICES, f"2 to {MOST_CHOICES}."),
        ("min_chars", args.min_chars <= args.max_chars, "Up to --max_chars."),
        ("needs_passage", not args.needs_passage or args.kind in NEW[:2], "Of new items alone."),
        ("checker_base_url", not args.checker_base_url or args.checker, "Name the --checker."),
    ):
        if not fits:
            raise InputError("does not fit the other options", field=field, fix=fix)


def wanted(args) -> tuple[Maker | None, list[Probe]]:
    """What is made (None: other orders, which take no model), and how it is answered back."""
    back = [with_passage(args.agree), *([WITHOUT_PASSAGE] if args.needs_passage else [])]
    makers: dict[str, tuple[Maker | None, list[Probe]]] = {
        "items": (NewItems(args.per_passage, args.choices), back),
        "distractors": (Distractors(), back),
        "shuffle": (None, []),
        "rationales": (Rationales(), []),
        "hints": (Hints(), [BY_HINT]),
    }
    return makers[args.kind]


def asked_as(args, name: str) -> dict[str, Any]:
    """How a model is asked, as ``Request``."""
    sampling = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    where = server_of(args, name)
    return {
        "sampling": sampling | sent_budget(args.thinking_budget, name, sdk=args.sdk, **where),
        "room": room_for_thoughts(name, args.thinking_budget),
        "ask_blocked": args.ask_blocked,
    }


def server_of(args, name: str) -> dict[str, str | None]:
    """Where a model is: its ``base_url`` and ``provider``."""
    if name == args.model:
        return {"base_url": args.base_url, "provider": args.provider}
    base_url = args.checker_base_url or args.base_url
    # A provider that was named is that of a server that both are behind.
    shared = base_url and base_url == args.base_url
    return {"base_url": base_url, "provider": args.provider if shared else None}
