"""The options of retrieve.py, and the model that writes queries."""

from __future__ import annotations

from pathlib import Path

from malmat.cli import api_options, batch_size, number, parser, positive, share
from malmat.errors import InputError

HERE = Path(__file__).parent


def arguments(doc: str):
    """The options, checked against each other.

    Raises:
        InputError: two that contradict, or nothing to do.
    """
    options = parser(doc)
    options.add_argument("--index", required=True, help="a folder of build_index.py")
    options.add_argument("--questions", required=True, nargs="+", help="published or prepared rows")
    options.add_argument("--output", help="contexts, {id, contexts} a line")
    options.add_argument("--k", type=positive, default=3, help="contexts a question")
    options.add_argument("--legs", nargs="+", help="of the index: all, the first judged by a gate")
    options.add_argument("--fuse", choices=("rrf", "points"), default="rrf")
    options.add_argument("--rrf_k", type=positive, default=60)
    options.add_argument("--alpha", type=number, help="the last leg's weight; default: all alike")
    options.add_argument("--diversity", choices=("none", "page", "mmr"), default="none")
    options.add_argument("--relevance", type=share, default=0.7, help="of mmr, against variety")
    options.add_argument("--by", choices=("search", "gold", "random"), default="search")
    options.add_argument("--seed", type=int, default=42, help="of --by random")
    options.add_argument(
        "--add", nargs="+", choices=("keyword", "choices"), default=[], help="to the question"
    )
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty questions")
    known = options.add_argument_group("where the right passages are known")
    known.add_argument("--qrels", help="{question id: [passage id]}")
    known.add_argument(
        "--evaluate", action="store_true", help="all ways of searching, side by side"
    )
    known.add_argument("--report", help="a JSON file of what --evaluate prints")
    known.add_argument("--group", default="group", help="the field of groups of questions")
    gate = options.add_argument_group("a gate")
    gate.add_argument("--gate", help="a file of --fit_gate, or a number from 0 to 1")
    gate.add_argument("--fit_gate", help="fit one on these questions (dev), into this file")
    writer = options.add_argument_group("queries that a model writes")
    writer.add_argument("--queries", choices=("question", "model"), default="question")
    writer.add_argument("--model", default="embedded", help="row of models.json, name, folder")
    writer.add_argument("--type", choices=("api", "local"), default="local")
    writer.add_argument("--models", default=str(HERE / "models.json"))
    writer.add_argument("--adapter", help="a PEFT adapter folder (local)")
    writer.add_argument("--batch_size", type=batch_size, default="auto", help="local")
    writer.add_argument("--max_new_tokens", type=positive, default=96)
    api_options(
        writer,
        *("base_url", "extra_body", "concurrency", "temperature", "max_cost"),
        temperature={"default": 0.0},
    )
    args = options.parse_args()
    check(args)
    return args


def check(args) -> None:
    """Refuse options that contradict each other, before anything is read."""
    needs_qrels = args.fit_gate or args.by == "gold"
    for field, fits, fix in (
        ("output", args.output or args.evaluate or args.fit_gate, "Or --evaluate, or --fit_gate."),
        ("qrels", args.qrels or not needs_qrels, "Name the right passages (--qrels FILE)."),
        ("gate", not (args.gate and args.fit_gate), "Fit a gate first, then use it."),
        ("alpha", args.alpha is None or args.alpha <= 1, "0 to 1."),
        ("by", args.by == "search" or args.output, "Name --output."),
    ):
        if not fits:
            raise InputError("does not fit the other options", field=field, fix=fix)


def open_writer(args):
    """The engine that writes queries, the sampling of an API's requests, and its meter."""
    from malmat.answer.api import ApiEngine
    from malmat.answer.local import LocalEngine
    from malmat.answer.open import open_model
    from malmat.answer.prices import Meter
    from malmat.lm.load import check_model
    from malmat.lm.sampling import Sampling
    from malmat.models import answering_for

    how = answering_for(args.model, kind=args.type, base_url=args.base_url, path=args.models)
    if args.type == "api":
        model = open_model(how.model, base_url=args.base_url, extra_body=args.extra_body)
        sampling = {"temperature": args.temperature, "max_tokens": args.max_new_tokens}
        return (
            ApiEngine(model, args.concurrency),
            sampling,
            Meter(how.model, max_cost=args.max_cost),
        )
    check_model(how.model, args.adapter)
    greedy = {"temperature": args.temperature, "repetition_penalty": 1.05}
    sampling = Sampling(**greedy, max_new_tokens=args.max_new_tokens)
    size = None if args.batch_size == "auto" else args.batch_size
    return LocalEngine(how.model, sampling, size, adapter=args.adapter), None, None
