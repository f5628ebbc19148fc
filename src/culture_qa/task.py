"""culture_choice, culture_short, culture_long: questions on Korean culture, a task a type.

The contest's data may not be passed on: give your copy, as it was published or as rows of
``prepare.py``, with --questions; ``sample/`` holds questions of our own. One file holds all types,
and each task reads its own. Rows of prepare.py are asked in the variant that they were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from malmat.cli import ROOT
from malmat.contests.typed_questions import CHOICE, LONG, SHORT, item_of, read_typed
from malmat.evaluate.task import RATE, SHARE, Item, Scale, Task
from malmat.prompts import fill, inert

HERE = Path(__file__).parent
Prompts = dict[str, str]
KINDS = {CHOICE: "CHOICE", SHORT: "SHORT", LONG: "LONG"}
"""Type → the name of its constants in ``prompt.py``."""


def messages(prompts: Prompts, item: Item, passages: list[str], *asked: str) -> list[dict]:
    """One message: what is asked for, the passages, and the question with its choices."""
    parts = [prompts[KINDS[item["type"]]], *asked]
    if passages:
        listed = "\n".join(f"{n}. {passage(text)}" for n, text in enumerate(passages, 1))
        parts.append(fill(prompts["CONTEXT"], passages=listed))
    lines = "\n".join(inert(line) for line in item["question"].splitlines())
    parts.append(fill(prompts["QUESTION"], text=lines))
    if texts := item.get("options"):
        shown = (f"{n}. {inert(text)}" for n, text in zip(item["choices"], texts, strict=True))
        parts.append(fill(prompts["OPTIONS"], options="\n".join(shown)))
    return [{"role": "user", "content": "\n\n".join(parts)}]


def passage(text: str) -> str:
    """A passage on one line, its title (its first line, where it has several) before it."""
    title, _, rest = text.partition("\n")
    return f"{inert(title)}: {inert(rest)}" if rest.strip() else inert(text)


def about(prompts: Prompts, item: Item) -> list[str]:
    """What is known of the question; nothing where its set does not say."""
    known = {name: inert(item.get(name) or "") for name in ("category", "domain", "keyword")}
    return [fill(prompts["META"], **known)] if any(known.values()) else []


# ------------------------------------------------------------------ a renderer a variant


def plain(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    return messages(prompts, item, passages)


def meta(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    return messages(prompts, item, passages, *about(prompts, item))


def meta_length(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    hint = [prompts["LENGTH"]] if item["type"] == LONG else []
    return messages(prompts, item, passages, *hint, *about(prompts, item))


def meta_examples(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    examples = prompts[f"{KINDS[item['type']]}_EXAMPLES"]
    return messages(prompts, item, passages, examples, *about(prompts, item))


def meta_reason(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    return messages(prompts, item, passages, prompts["REASON"], *about(prompts, item))


VARIANTS: dict[str, Callable[[Prompts, Item, list[str]], list[dict]]] = {
    "Plain": plain,
    "Meta": meta,
    "MetaLength": meta_length,
    "MetaExamples": meta_examples,
    "MetaReason": meta_reason,
}
DEFAULT = "MetaLength"


def render(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    """The messages of the variant that ``prepare.py`` made the item in, or of the default one."""
    return VARIANTS[item.get("variant", DEFAULT)](prompts, item, passages)


def reader(kind: str) -> Callable[[Path], list[Item]]:
    """What reads a file's questions of one type."""

    def read(path: Path) -> list[Item]:
        return [item_of(one) for one in read_typed(path)[0] if one.type == kind]

    return read


def task(name: str, kind: str, scale: Scale, scorer: str, title: str, about: str) -> Task:
    return Task(
        name=name,
        title=title,
        about=about,
        scale=scale,
        questions=ROOT / "data" / "culture_qa" / "test.jsonl",
        read=reader(kind),
        render=render,
        prompt_file=HERE / "prompt.py",
        wording={
            **{one: set() for one in (*KINDS.values(), "LENGTH", "REASON")},
            **{f"{one}_EXAMPLES": set() for one in KINDS.values()},
            "META": {"category", "domain", "keyword"},
            "CONTEXT": {"passages"},
            "QUESTION": {"text"},
            "OPTIONS": {"options"},
        },
        scorer=scorer,
        slices=("category", "domain"),
    )


TASKS = (
    task(
        *("culture_choice", CHOICE, RATE, "accuracy", "Korean culture, 선다형"),
        "Which of four or five choices is right? Chance is about 0.24.",
    ),
    task(
        *("culture_short", SHORT, RATE, "verbatim", "Korean culture, 단답형"),
        "Is the answer letter by letter one of those that count?",
    ),
    task(
        *("culture_long", LONG, SHARE, "rouge1_mecab", "Korean culture, 서술형"),
        "ROUGE-1 F1 with the reference answer, over MeCab-ko morphemes.",
    ),
)
BY_TYPE = dict(zip((CHOICE, SHORT, LONG), TASKS, strict=True))
"""Type → its task."""
