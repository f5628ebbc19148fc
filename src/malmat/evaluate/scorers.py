"""Scorers by name: what gives an answer its value.

``accuracy``, ``exact``, ``verbatim``, ``rouge1``, ``rouge1_mecab`` (over the morphemes of
MeCab-ko) and ``nll`` are computed from the row alone; ``lexicon`` finds listed terms by Korean
morphology; ``local:MODEL`` (``local_judge``) and any other name (``judges``) are language models
that judge; ``human:RATER`` reads the ratings of ``human.py``.
"""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from malmat.answer.open import open_model
from malmat.answer.prices import Meter, price
from malmat.answer.provider import NO_KEY, Model, api_key
from malmat.errors import InputError
from malmat.evaluate.judges import Judge, JudgeRequest, judge_by_api, judge_requests
from malmat.evaluate.korean_metrics import mecab_words, verbatim
from malmat.evaluate.local_judge import judge_locally
from malmat.evaluate.ratings import HUMAN, Ratings, check_rater, read_ratings
from malmat.evaluate.results import ratings_path
from malmat.evaluate.task import Row, Task
from malmat.files import digest
from malmat.journal import Journal, journal_path
from malmat.lm.load import fingerprint
from malmat.text.lexicon import SlangLexicon

LOCAL = "local:"
API_JUDGES = (("openai", "gpt-4.1"), ("gemini", "gemini-2.5-flash"))
"""Provider → the judge that ``auto`` takes where its key is set, the first one first."""


@dataclass(frozen=True)
class ScorerSettings:
    """How a scorer is asked.

    Args:
        scorer: its name.
        n: judgements an answer, by API judges.
        base_url: an OpenAI-compatible server of the judge's.
        full_list: a term judge is sent all terms with each answer.
        batch_size: of a local judge.
        max_cost: US dollars after which no more is asked.
        extra_body: sent to the judge's server with each request.
        ask_blocked: ask again what the provider has blocked in an earlier run.
        results_dir: where the ratings of a rater lie.
        model: whose answers are scored, by the name under which they were rated.
    """

    scorer: str
    n: int = 1
    base_url: str | None = None
    full_list: bool = False
    concurrency: int = 8
    batch_size: int = 8
    max_cost: float | None = None
    extra_body: dict | None = None
    ask_blocked: bool = False
    results_dir: str = ""
    model: str = ""


@dataclass(frozen=True)
class Scorer:
    """A scorer of a task's answers, opened and checked.

    Args:
        settings: as given, with the name resolved.
        task: whose answers.
        prompts: the wording of its judge.
        terms: the term list, for the judges and the lexicon.
        model: the API model that judges, if one does.
        ratings: of the rater, if one does.
    """

    settings: ScorerSettings
    task: Task
    prompts: dict[str, str] = field(default_factory=dict)
    terms: list[dict] = field(default_factory=list)
    model: Model | None = None
    ratings: Ratings | None = None

    @property
    def name(self) -> str:
        return self.settings.scorer

    @property
    def judge(self) -> Judge | None:
        """The task's judge, if a language model scores."""
        language_model = self.model is not None or self.name.startswith(LOCAL)
        return self.task.judge if language_model else None

    @property
    def wording(self) -> dict[str, str]:
        """The prompt that the judge is sent, by its constant's name; empty without a judge."""
        if (judge := self.judge) is None:
            return {}
        name = judge.prompt if self.model is not None else judge.local_prompt
        return {name: self.prompts[name]} if name else {}

    @property
    def needs_meaning(self) -> bool:
        """Whether each row needs its term's title and meaning (``content``)."""
        return self.judge is not None and self.judge.needs_meaning

    def requests(self, rows: Sequence[Row]) -> list[JudgeRequest]:
        """Return what an API model is sent for ``rows``; nothing for all other scorers."""
        if self.model is None or self.judge is None:
            return []
        return judge_requests(
            self.judge,
            self.prompts,
            rows,
            self.terms,
            n=self.settings.n,
            full_list=self.settings.full_list,
            ask_blocked=self.settings.ask_blocked,
        )

    def covered(self, rows: list[Row]) -> list[Row]:
        """Return the rows that the scorer judges: all, or those that a rater has drawn."""
        return rows if self.ratings is None else self.ratings.drawn(self.settings.model, rows)

    def verdicts(self, rows: Sequence[Row], journal: Journal | None) -> dict[str, dict]:
        """Score answers that are ``ok``: row id → ``status, value`` and what else the scorer says.

        Args:
            journal: of the judge's replies; None for scorers that need none (``journaled``).

        Raises:
            ValueError: a judge has no journal.
            InputError: rows have no target to compare their answer with.
        """
        if self.name in ROW_SCORERS:
            _refuse_without_targets(rows)
            return {row["id"]: ROW_SCORERS[self.name](row) for row in rows}
        if self.name == "lexicon":
            return by_lexicon(rows, self.terms)
        if self.ratings is not None:
            return self.ratings.verdicts(self.settings.model, rows)
        if self.judge is None or journal is None:
            raise ValueError(f"'{self.name}' needs a judge and a journal")
        if self.model is None:
            name = self.name.removeprefix(LOCAL)
            (template,) = self.wording.values()
            return judge_locally(name, template, rows, journal, batch_size=self.settings.batch_size)
        return judge_by_api(
            self.model,
            self.judge,
            self.requests(rows),
            journal,
            self.terms,
            concurrency=self.settings.concurrency,
            max_cost=self.settings.max_cost,
        )

    @property
    def journaled(self) -> bool:
        """Whether verdicts cost something and are kept in a journal."""
        return self.judge is not None

    def identity(self) -> dict:
        """Return what verdicts depend on and are stored with: settings, and digests of the
        wording, the term list and the files of a local judge."""
        local = self.name.startswith(LOCAL)
        shown = {name: asdict(self.settings)[name] for name in ("n", "base_url", "full_list")}
        if self.model is not None:
            shown["base_url"] = self.model.server
            shown |= {"extra_body": self.model.extra_body} if self.model.extra_body else {}
        return {
            "scorer_name": self.name,
            **shown,
            "prompts": digest(self.wording)[:16],
            "terms": digest(self.terms)[:16],
            "judge_model": fingerprint(self.name.removeprefix(LOCAL))[:16] if local else None,
        }

    def cost_of(self, tokens: dict[str, int]) -> float | None:
        """Return US dollars for tokens: 0 on this machine, None where no price is known."""
        return price(self.name, tokens) if self.model is not None else 0.0


def resolve_scorer(name: str, task: Task, judge: str | None = None) -> str:
    """The scorer that ``auto`` stands for: the task's own, or where the task needs a judge
    ``judge``, else the best that the keys allow."""
    if name != "auto":
        return name
    if task.scorer != "auto":
        return task.scorer
    if judge:
        return judge
    for provider, name in API_JUDGES:
        if api_key(provider, needed=False)[0] != NO_KEY:  # a damaged key is refused
            return name
    return str(task.offline)


def suits(name: str, task: Task) -> bool:
    """Whether a scorer can score a task's answers, as far as its name says."""
    if name in ROW_SCORERS:
        return name == task.scorer
    if name == "lexicon":
        return name in (task.scorer, task.offline)
    if name.startswith(HUMAN):
        return task.asked is not None
    if name.startswith(LOCAL):
        return task.judge is not None and task.judge.local_prompt is not None
    return task.judge is not None


def open_scorer(
    settings: ScorerSettings, task: Task, prompts: dict[str, str], terms: list[dict]
) -> Scorer:
    """The scorer, once it is known that it can score this task's answers.

    Raises:
        InputError: it cannot, its model or key is missing, or it has no price for ``max_cost``.
    """
    name = settings.scorer
    scorer = Scorer(settings, task, prompts, terms)
    if not suits(name, task):
        raise InputError(
            f"'{name}' does not score {task.name}", field="scorer_name", fix=_other(task)
        )
    if name.startswith(HUMAN):
        rater = name.removeprefix(HUMAN)
        path = ratings_path(settings.results_dir, task, rater)
        ratings = read_ratings(path, task)
        check_rater(ratings.records.values(), rater, path)
        return replace(scorer, ratings=ratings)
    if name.startswith(LOCAL) and name != "local:embedded":
        from malmat.lm.load import resolve

        resolve(name.removeprefix(LOCAL))
    if is_offline(name):
        return scorer
    if task.judge is not None and task.judge.can_tie and settings.n % 2 == 0:
        raise InputError(
            "an even number of true/false judgements can tie",
            field="n",
            fix=f"Take {settings.n + 1}.",
        )
    model = open_model(name, base_url=settings.base_url, extra_body=settings.extra_body)
    Meter(model.name, max_cost=settings.max_cost)  # refuses a limit without a price
    return replace(scorer, model=model)


def _other(task: Task) -> str:
    if task.scorer != "auto":
        return f"Use {task.scorer}."
    return f"Use {task.offline} or an API model."


def is_offline(name: str) -> bool:
    """Whether a scorer needs no API."""
    return name in ROW_SCORERS or name == "lexicon" or name.startswith((LOCAL, HUMAN))


def reads_only(name: str) -> bool:
    """Whether a scorer finds no verdict itself, but reads it off the row or a rater's file."""
    return name in ROW_SCORERS or name.startswith(HUMAN)


def needs_likelihoods(name: str) -> bool:
    """Whether a scorer needs log-likelihoods, which only local models give."""
    return name == "nll"


def timed_verdicts(
    scorer: Scorer, rows: Sequence[Row], output: Path
) -> tuple[dict[str, dict], float]:
    """Verdicts by row id, and the seconds that they took in all runs of this output."""
    if not scorer.journaled:
        start = time.monotonic()
        return scorer.verdicts(rows, None), round(time.monotonic() - start, 1)
    with Journal(journal_path(output)) as journal:
        with measured(journal):
            verdicts = scorer.verdicts(rows, journal)
        return verdicts, seconds_of(journal)


@contextlib.contextmanager
def measured(journal: Journal) -> Iterator[None]:
    """Add the time that new verdicts took to that of the runs which this one goes on from."""
    before, start = len(journal), time.monotonic()
    try:
        yield
    finally:
        if len(journal) > before:
            seconds = seconds_of(journal) + time.monotonic() - start
            journal.append({"key": "seconds", "seconds": round(seconds, 1)})


def seconds_of(journal: Journal) -> float:
    """Return the seconds that the verdicts of all runs took."""
    return (journal.get("seconds") or {"seconds": 0.0})["seconds"]


# ------------------------------------------------------------ computed from a row alone


def accuracy(row: Row) -> dict:
    """1 where the picked choice is the target, else 0."""
    return {"status": "ok", "value": float(row["answer"] == row["target"])}


def plain(text: str) -> str:
    """A short answer for comparison: full width folded, without spaces, quotes and ends."""
    folded = unicodedata.normalize("NFKC", text)
    return re.sub(r"[\s\"'‘’“”.,!?]+", "", folded).casefold()


def exact(row: Row) -> dict:
    """1 where the answer is one of the target's alternatives, spelt as ``plain`` folds them."""
    targets = [row["target"]] if isinstance(row["target"], str) else row["target"]
    return {"status": "ok", "value": float(plain(row["answer"]) in map(plain, targets))}


def rouge1(row: Row, tokens: Callable[[str], list[str]] = str.split) -> dict:
    """ROUGE-1 F1 (Lin 2004, *ROUGE*) over tokens: the share of words in common."""
    said, right = Counter(tokens(row["answer"])), Counter(tokens(row["target"]))
    both = (said & right).total()
    return {"status": "ok", "value": 2 * both / (said.total() + right.total()) if both else 0.0}


def nll(row: Row) -> dict:
    """Mean negative log-likelihood (nats) a token of the target among the choices.

    Raises:
        InputError: the answer came without likelihoods.
    """
    if "likelihoods" not in row:
        problem = f"the row {row['id']} has none: its model, or vote, gives no log-likelihoods"
        raise InputError(problem, field="likelihoods")
    likelihood = row["likelihoods"][row["choices"].index(row["target"])]
    return {"status": "ok", "value": -likelihood["sum"] / likelihood["tokens"]}


def _refuse_without_targets(rows: Sequence[Row]) -> None:
    if missing := [row["id"] for row in rows if row.get("target") is None]:
        problem = f"{len(missing)} of {len(rows)} rows have none, as {missing[0]}"
        fix = "Rows of a test set whose answers are not published cannot be scored."
        raise InputError(problem, field="target", fix=fix)


ROW_SCORERS: dict[str, Callable[[Row], dict]] = {
    "accuracy": accuracy,
    "exact": exact,
    "verbatim": verbatim,
    "rouge1": rouge1,
    "rouge1_mecab": partial(rouge1, tokens=mecab_words),
    "nll": nll,
}


def by_lexicon(rows: Sequence[Row], terms: list[dict]) -> dict[str, dict]:
    """Use of a listed term by morphology (``malmat.text.lexicon`` says what counts)."""
    lexicon = SlangLexicon(terms)
    found = {row["id"]: lexicon.find(row["answer"]) for row in rows}
    return {
        row_id: {"status": "ok", "value": float(bool(terms)), "terms": terms}
        for row_id, terms in found.items()
    }
