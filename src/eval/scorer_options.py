"""What score.py and calibrate.py share: the options that choose a scorer, what is said of it."""

from __future__ import annotations

from pathlib import Path

from malmat.answer.prices import estimate_tokens
from malmat.answer.request import Request
from malmat.cli import api_options, positive
from malmat.evaluate.results import Run
from malmat.evaluate.scorers import Scorer, ScorerSettings, open_scorer, resolve_scorer
from malmat.evaluate.task import Task

HERE = Path(__file__).parent


def add_scorer_options(options) -> None:
    """The options that make ``ScorerSettings``, and the term list."""
    options.add_argument("--scorer_name", default="auto", help="as in score.py")
    options.add_argument("--judge", help="what 'auto' is for tasks that need a judge")
    options.add_argument(
        "--terms",
        default=str(HERE.parent / "data/terms.csv"),
        help="terms.csv or a merged_final.json: the meanings, and the terms that are looked for",
    )
    options.add_argument(
        "--full_list", action="store_true", help="send a term judge all terms with each answer"
    )
    options.add_argument("--n", type=positive, default=1, help="judgements an answer (API judges)")
    options.add_argument("--batch_size", type=positive, default=8, help="local judge")
    api_options(options, "base_url", "extra_body", "ask_blocked", "concurrency", "max_cost")


def scorer_for(args, task: Task, terms: list[dict], model: str = "") -> Scorer:
    """The scorer that the options name, checked before anything is asked or paid for.

    Args:
        model: whose answers are to be scored.
    """
    names = ("n", "base_url", "full_list", "concurrency", "batch_size", "max_cost", "results_dir")
    names = (*names, "extra_body", "ask_blocked")
    settings = ScorerSettings(
        scorer=resolve_scorer(args.scorer_name, task, args.judge),
        model=model,
        **{name: getattr(args, name) for name in names},
    )
    return open_scorer(settings, task, task.prompts(), terms)


def show_cost(scorer: Scorer, requests: list[Request]) -> None:
    """Print how many calls an API judge gets, and what they will cost."""
    if requests:
        tokens = {
            "input": sum(estimate_tokens(r.messages[0]["content"]) for r in requests),
            "output": 60 * len(requests),
        }
        cost = scorer.cost_of(tokens)
        print(
            f"  {len(requests)} calls, about {tokens['input']:,} input tokens"
            + (f", about ${cost:.2f}" if cost is not None else "")
        )


def show_judgements(scored: Run) -> None:
    """Print what the judgements came to, where one of them failed."""
    judgements = scored.judgements()
    if judgements.total() > judgements["ok"]:
        listed = ", ".join(f"{n} {status}" for status, n in judgements.most_common())
        print(f"judgements: {listed}")
        if blocked := judgements["blocked"]:
            print(f"  --ask_blocked asks {blocked} of them again, whose prompt was refused too")
        if again := scored.missing() - blocked:
            print(f"  the same command asks {again} of them again")
