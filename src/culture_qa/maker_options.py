"""The model that makes training data: its options, and how it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmat.answer.api import ApiEngine
from malmat.answer.local import LocalEngine
from malmat.answer.open import open_model
from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.request import NEEDED, Accept, Engine, Request
from malmat.cli import api_options, positive
from malmat.contests.typed_questions import Question
from malmat.errors import InputError
from malmat.journal import Journal, journal_path
from malmat.prompts import inert

API_ONLY = ("base_url", "extra_body", "ask_blocked", "max_cost")


def add_model(options: Any, *, tokens: int, temperature: float = 0.7) -> None:
    """Add the options of the model that is asked, and of a run."""
    options.add_argument("--model", default="gemini-2.5-flash", help="API name; local: hub id …")
    options.add_argument("--limit", type=positive, help="only the first N questions")
    options.add_argument("--max_tokens", type=positive, default=tokens, help="of a reply")
    options.add_argument("--batch_size", type=positive, default=8, help="prompts at once (local)")
    options.add_argument("--seed", type=int, default=42)
    api_options(
        options,
        *("provider", "sdk", "base_url", "extra_body", "ask_blocked", "concurrency"),
        *("temperature", "max_cost", "prices", "dry_run"),
        provider={"choices": ("gemini", "openai", "local")},
        temperature={"default": temperature},
    )


def check_model(args: Any) -> None:
    """Refuse options that have no meaning for a local model."""
    for name in API_ONLY if args.provider == "local" else ():
        if getattr(args, name) not in (None, False):
            raise InputError("has no meaning for a local model", field=name, fix="Leave it out.")


def open_engine(args: Any, name: str, temperature: float) -> Engine:
    """What answers; it needs a key that is there."""
    if args.provider == "local":
        from malmat.lm.sampling import Sampling

        sampling = Sampling(
            max_new_tokens=args.max_tokens,
            temperature=temperature,
            top_p=1.0,
            repetition_penalty=1.05,
            seed=args.seed,
        )
        return LocalEngine(name, sampling, args.batch_size)
    given = {n: getattr(args, n) for n in ("base_url", "provider", "sdk", "extra_body")}
    if name != args.model and not args.base_url:
        given["provider"] = None  # the provider that was named is the model's
    return ApiEngine(open_model(name, **given), args.concurrency)


def request(args: Any, name: str, text: str, temperature: float, **more: Any) -> Request:
    """A request in one message, whose reply the run needs."""
    return Request(
        id=name,
        messages=[{"role": "user", "content": text}],
        sampling={"temperature": temperature, "max_tokens": args.max_tokens},
        again=NEEDED,
        ask_blocked=args.ask_blocked,
        **more,
    )


@dataclass
class Asking:
    """Asks models, in a journal beside the output, and counts what did not come."""

    args: Any
    journal: Journal
    meter: Meter
    missing: int = 0

    def records(
        self,
        requests: Sequence[Request],
        accept: Accept | None,
        label: str,
        *,
        model: str | None = None,
        temperature: float | None = None,
    ) -> list[dict]:
        """The requests' records, in their order."""
        if not requests:
            return []
        given = self.args.temperature if temperature is None else temperature
        engine = open_engine(self.args, model or self.args.model, given)
        options = {"accept": accept, "meter": self.meter, "label": label, "total": len(requests)}
        with engine.answers(requests, self.journal, **options) as found:
            records = list(found)
        self.missing += sum(record["status"] in (*NEEDED, "blocked") for record in records)
        return records


@contextmanager
def asking(args: Any) -> Iterator[Asking]:
    """What asks the models of a run.

    Raises:
        InputError: another process writes the same output.
    """
    meter = Meter(args.model, max_cost=args.max_cost, prices=args.prices)
    with Journal(journal_path(Path(args.output))) as journal, meter.shown_at_the_end():
        if journal.notice:
            print(f"  {journal.notice}")
        yield Asking(args, journal, meter)


def show_plan(args: Any, requests: Sequence[Request], tokens: int, more: str = "") -> None:
    """Print how many calls there are at first, and what they cost."""
    meter = Meter(args.model, max_cost=args.max_cost, prices=args.prices)
    sent = sum(estimate_tokens(message["content"]) for r in requests for message in r.messages)
    usage = {"input": sent, "output": tokens * len(requests)}
    said = f", about {meter.show(usage)}" if requests else ""
    print(f"plan: {len(requests)} calls of {args.model}{said}{more}")


def shown(one: Question) -> str:
    """A question with its choices, as a maker is shown it."""
    lines = [inert(line) for line in one.text.splitlines()]
    lines += [f"{n}. {inert(text)}" for n, text in zip(one.labels, one.choices, strict=False)]
    return "\n".join(lines)


def said(one: Question, answer: str | None = None) -> str:
    """An answer in words: of a choice its number and its text."""
    answer = one.answer if answer is None else answer
    if answer in one.labels and one.choices:
        return f"{answer}. {inert(one.choices[one.labels.index(answer)])}"
    several = answer == one.answer and len(one.answers) > 1
    return inert(" / ".join(one.answers) if several else str(answer))
