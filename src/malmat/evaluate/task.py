"""What a task declares; answering, scoring, comparing and reporting are the same for all tasks.

A task is one file, with its wording and its questions beside it. It says where the questions
lie, how one becomes messages, and what an answer is worth. It knows no model, no file of results
and no statistics, and nothing else in the project knows its name.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.prompts import PROMPT_FILE, load_prompts

if TYPE_CHECKING:
    from malmat.evaluate.judges import Judge


class Item(TypedDict, total=False):
    """A question: ``id`` and ``question`` always, the rest as the task has it.

    ``choices`` are what may be answered ("A" "B" "C", "1" … "5", or whole texts); without them
    the answer is free text. ``target`` is the right answer: a choice, a list of alternatives, or
    a reference text. ``title`` is what the row is about (a term, a passage): rows that share it
    are one cluster. ``passage`` and ``options`` (the texts behind choices that are labels) are
    for ``render`` to use, and shown in the report. Any further field is kept.
    """

    id: str
    question: str
    choices: list[str]
    target: Any
    title: str
    passage: str
    options: list[str]


Row = dict[str, Any]
"""An item, then its answer, then its verdict: one row for the whole chain, which only grows."""


@dataclass(frozen=True)
class Scale:
    """What the value of a verdict can be; the statistics follow from it.

    ``rate`` is 0 or 1 (Wilson's interval or a clustered bootstrap; McNemar's test), ``grade`` and
    ``share`` are numbers between the ends (clustered bootstrap, Wilcoxon's test), ``loss`` is a
    number from 0 without an upper end, of which less is better.
    """

    kind: Literal["rate", "grade", "share", "loss"]
    low: float = 0.0
    high: float | None = 1.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.kind == "loss" else 1

    @property
    def ticks(self) -> list[float]:
        """Where a plot marks the scale; empty where it has no upper end."""
        if self.high is None:
            return []
        step = 1.0 if self.kind == "grade" else (self.high - self.low) / 4
        count = round((self.high - self.low) / step)
        return [self.low + step * place for place in range(count + 1)]

    def is_label(self, value: object) -> bool:
        """Whether ``value``, given by a person, is on the scale: true or false for a rate, a
        whole number for a grade, any number otherwise."""
        kinds: dict[str, tuple[type, ...]] = {"rate": (bool,), "grade": (int,)}
        # By type first: True is 1 in Python.
        return type(value) in kinds.get(self.kind, (int, float)) and self.holds(value)

    def holds(self, value: object) -> bool:
        """Whether ``value`` is a number on the scale (True and False are 1 and 0)."""
        if not isinstance(value, (int, float)) or not self.low <= value:
            return False
        return value != float("inf") if self.high is None else value <= self.high


RATE, SHARE = Scale("rate"), Scale("share")
GRADE = Scale("grade", 1.0, 5.0)
LOSS = Scale("loss", 0.0, None)


SCORERS = ("accuracy", "exact", "verbatim", "rouge1", "rouge1_mecab", "nll", "lexicon", "auto")
"""What a task may name as its scorer (``malmat.evaluate.scorers``)."""

DEFAULT_OPTION = "CHOOSE"
"""The constant that puts choices into words for the tasks that name none of their own."""


@dataclass(frozen=True)
class Agreement:
    """What calibrate.py found of a scorer: its kappa with the anchors' right verdicts."""

    kappa: float
    interval: tuple[float, float]
    anchors: int


@dataclass(frozen=True)
class Asked:
    """How a human rater is asked for a verdict.

    Args:
        question: below the answer.
        labels: value → the text of its button.
        rules: the wording → Markdown that says when to choose what.
        shows_meaning: the item's term and its meaning are shown above the answer.
        shows_terms: the listed terms that may stand in the answer are shown with it.
    """

    question: str
    labels: dict[Any, str]
    rules: Callable[[dict[str, str]], str]
    shows_meaning: bool = False
    shows_terms: bool = False


class Named(Protocol):
    """What has a folder of its own in the results: a task, or what else raters are asked."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Task:
    """A task's declaration.

    Args:
        name: of its folder in the results, and on the command line.
        title, about: its heading in the report, and a sentence below it.
        scale: of a verdict's value.
        questions: the file that ``read`` turns into items, each with a unique ``id``.
        render: the constants of ``prompt_file``, an item and the passages found for it →
            messages; the same at training and at inference.
        wording: the constants that ``render`` uses → the placeholders that each must have.
        scorer: the default one, of ``SCORERS``; ``auto`` is the best judge that the keys allow,
            else ``offline``.
        offline: the scorer that needs no key, where ``scorer`` is ``auto``.
        judge: how a language model judges its answers; None where none can.
        slices: fields of the rows by which figures are shown apart.
        figures: name → function over scored rows: figures of all rows, as macro-F1.
        legacy: the names in published score files of a row's value and of the mean.
        answers: the name of another task whose answers this one scores.
        targets: an item → the answer that training writes for each of its choices ("A. text"),
            where that is more than the choice; a label's scored token is its first.
        shorten: an item and a number → the item with so many pieces (utterances, sentences) left
            out, for a model that cannot read it whole; raises ValueError where there are no more
            (``malmat.text.shorten`` says which go first).
        choose: how a local model picks one of an item's choices: by the ``label``'s token, or by
            the likelihood of the whole ``text``.
        option: the constant of ``prompt_file`` that puts numbered choices into words for a
            model behind an API, with {question} and {choices}.
        anchor: the field of an anchor that holds its right verdict.
        known: scorer → its agreement with the anchors that ship.
        asked: how a human rater is asked; None where none is.
    """

    name: str
    title: str
    about: str
    scale: Scale
    questions: Path
    read: Callable[[Path], list[Item]]
    render: Callable[[dict[str, str], Item, list[str]], list[dict]]
    scorer: str
    wording: dict[str, set[str]] = field(default_factory=dict)
    prompt_file: Path = PROMPT_FILE
    offline: str | None = None
    judge: Judge | None = None
    slices: tuple[str, ...] = ()
    figures: dict[str, Callable[[list[Row]], float]] = field(default_factory=dict)
    legacy: tuple[str, str] | None = None
    answers: str | None = None
    targets: Callable[[Item], list[str]] | None = None
    shorten: Callable[[Item, int], Item] | None = None
    choose: Literal["label", "text"] = "label"
    option: str | None = None
    anchor: str = "target"
    known: dict[str, Agreement] = field(default_factory=dict)
    asked: Asked | None = None

    def __post_init__(self) -> None:
        """Refuse what would only show later: a name that no scorer has, slices that are none."""
        for name, value, known in (
            ("scorer", self.scorer, SCORERS),
            ("choose", self.choose, ("label", "text")),
        ):
            if value not in known:
                problem = f"'{value}' is none of {', '.join(known)}"
                raise InputError(problem, path=self.name, field=name)
        if not isinstance(self.slices, tuple):
            fix = 'As in slices=("source",), with its comma.'
            raise InputError("not a tuple of names", path=self.name, field="slices", fix=fix)

    def prompts(self) -> dict[str, str]:
        """The wording that its questions, choices and judge need, read and checked."""
        needed = dict(self.wording)
        if self.judge is not None:
            constants = (self.judge.prompt, self.judge.local_prompt)
            needed |= {name: self.judge.placeholders for name in constants if name}
        if self.option:
            needed[self.option] = {"question", "choices"}
        prompts = load_prompts(self.prompt_file, needed)
        if self.option is None:
            default = load_prompts(PROMPT_FILE, {DEFAULT_OPTION: {"question", "choices"}})
            prompts.setdefault(DEFAULT_OPTION, default[DEFAULT_OPTION])
        return prompts

    @property
    def has_choices(self) -> bool:
        """Whether its items are answered by one of their choices."""
        return self.scorer in ("accuracy", "nll")

    @property
    def value_field(self) -> str:
        """The name of a row's value in a score file."""
        return self.legacy[0] if self.legacy else "value"

    @property
    def mean_field(self) -> str:
        """The name of the mean in a score file."""
        return self.legacy[1] if self.legacy else "mean"

    @property
    def answered_as(self) -> str:
        """The name of the task whose answer files hold this one's answers."""
        return self.answers or self.name


def load_tasks(files: Iterable[Path]) -> dict[str, Task]:
    """Name → task, of the files that declare ``TASK`` or ``TASKS``, in their order.

    Raises:
        InputError: no such file, one that cannot be run or declares no task, or two tasks of one
            name.
    """
    tasks: dict[str, Task] = {}
    for path in files:
        spec = importlib.util.spec_from_file_location(f"task_{path.parent.name}_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError("no such task file", path=path, fix="Check the path.")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except InputError as error:
            raise InputError(str(error), path=path) from None
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"cannot be run ({reason})", path=path, line=line) from None
        found = getattr(module, "TASKS", None) or [getattr(module, "TASK", None)]
        for task in found:
            if not isinstance(task, Task):
                raise InputError("declares no task", path=path, fix="Name it TASK.")
            if task.name in tasks:
                raise InputError(f"there is a task '{task.name}' already", path=path, field="name")
            tasks[task.name] = task
    return tasks


def registered_tasks() -> dict[str, Task]:
    """The tasks of ``src/eval/tasks.py``, for scripts in other folders."""
    path = ROOT / "src" / "eval" / "tasks.py"
    spec = importlib.util.spec_from_file_location("tasks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TASKS


def cluster(row: Row) -> str:
    """What a row is about: its title, or its question where it has none."""
    return row.get("title") or row["question"]
