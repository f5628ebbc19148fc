"""dialogue_inference: which of three sentences is the cause, motive … of marked utterances?

The contest's data may not be passed on: give your copy with --questions, as it was published or as
rows of ``prepare.py``. Rows of prepare.py are asked in the variant that they were made with, others
in the default one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from malmat.cli import ROOT
from malmat.contests.dialogue_items import read_items, spoken
from malmat.contests.dialogues import is_marked
from malmat.evaluate.task import RATE, Item, Row, Task
from malmat.prompts import fill, inert
from malmat.text.korean import with_particle
from malmat.text.shorten import kept

CATEGORIES = ("원인", "후행사건", "전제", "동기", "반응")
Prompts = dict[str, str]


def messages(*parts: str, system: str | None = None) -> list[dict]:
    """The parts, divided by a blank line, as the user's message."""
    user = {"role": "user", "content": "\n\n".join(parts)}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def dialogue(prompts: Prompts, item: Item) -> str:
    turns = item["conversation"]
    marked = [turn for turn in turns if is_marked(turn, item["reference_id"])]
    shown = {"conversation": turns, "references": marked}
    lines = {name: "\n".join(map(spoken, some)) for name, some in shown.items()}
    return fill(prompts["DIALOGUE"], **lines)


def question(prompts: Prompts, item: Item, constant: str, kind: str) -> str:
    """The question about the item's term, with 으로 or 로 as the term is read aloud."""
    term = term_of(prompts, item["category"], kind)
    aloud = term.partition("(")[0]
    particle = with_particle(aloud, "으로/로").removeprefix(aloud)
    return fill(prompts[constant], asked=term + particle)


def term_of(prompts: Prompts, category: str, kind: str) -> str:
    """A category's ``short`` term, ``official`` term or ``definition``."""
    table = [line.split(" | ") for line in prompts["TERMS"].splitlines()]
    return next(row for row in table if row[0] == category)[TERM_KINDS.index(kind)]


TERM_KINDS = ("short", "official", "definition")


def options(prompts: Prompts, item: Item) -> str:
    lines = "\n".join(option_line(item, label) for label in item["choices"])
    return fill(prompts["OPTIONS"], options=lines)


def option_line(item: Item, label: str) -> str:
    """An option as it stands in the prompt, and as a model is trained to answer: ``A. …``."""
    return f"{label}. {inert(item['options'][item['choices'].index(label)])}"


def targets(item: Item) -> list[str]:
    return [option_line(item, label) for label in item["choices"]]


def shorten(item: Item, left_out: int) -> Item:
    """The item without so many utterances, none of them marked."""
    turns = item["conversation"]
    marked = [n for n, turn in enumerate(turns) if is_marked(turn, item["reference_id"])]
    return {**item, "conversation": [turns[n] for n in kept(len(turns), marked, left_out)]}


# ------------------------------------------------------------------ a renderer a variant


def custom_ref(prompts: Prompts, item: Item) -> list[dict]:
    asked = question(prompts, item, "CUSTOM_REF", "short")
    return messages(dialogue(prompts, item), asked, options(prompts, item))


def custom_ref_official_term(prompts: Prompts, item: Item) -> list[dict]:
    asked = question(prompts, item, "CUSTOM_REF_OFFICIAL_TERM", "official")
    return messages(dialogue(prompts, item), asked, options(prompts, item))


def custom_ref_definition(prompts: Prompts, item: Item) -> list[dict]:
    asked = question(prompts, item, "CUSTOM_REF_DEFINITION", "definition")
    return messages(dialogue(prompts, item), asked, options(prompts, item))


def custom_ref_instruction(prompts: Prompts, item: Item) -> list[dict]:
    term = fill(prompts["INFERENCE"], term=term_of(prompts, item["category"], "official"))
    instruction = prompts["CUSTOM_REF_INSTRUCTION"]
    return messages(instruction, dialogue(prompts, item), term, options(prompts, item))


def system_ref_official_term(prompts: Prompts, item: Item) -> list[dict]:
    kinds = ("official", "definition")
    lines = (": ".join(term_of(prompts, one, kind) for kind in kinds) for one in CATEGORIES)
    system = fill(prompts["SYSTEM_REF_OFFICIAL_TERM"], terms="\n".join(f"- {s}" for s in lines))
    asked = question(prompts, item, "CUSTOM_REF_OFFICIAL_TERM", "official")
    return messages(dialogue(prompts, item), asked, options(prompts, item), system=system)


VARIANTS: dict[str, Callable[[Prompts, Item], list[dict]]] = {
    "CustomRef": custom_ref,
    "CustomRefOfficialTerm": custom_ref_official_term,
    "CustomRefDefinition": custom_ref_definition,
    "CustomRefInstruction": custom_ref_instruction,
    "SystemRefOfficialTerm": system_ref_official_term,
}
DEFAULT = "CustomRefOfficialTerm"


def render(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    """The messages of the variant that ``prepare.py`` made the item in, or of the default one."""
    return VARIANTS[item.get("variant", DEFAULT)](prompts, item)


def read(path: Path) -> list[Item]:
    return read_items(path, CATEGORIES)


def mean_of_categories(rows: list[Row]) -> float:
    """The mean of the categories' accuracies, each of which weighs alike."""
    values = defaultdict(list)
    for row in rows:
        values[row["category"]].append(row["value"])
    return sum(sum(some) / len(some) for some in values.values()) / len(values)


TASK = Task(
    name="dialogue_inference",
    title="Dialogue inference",
    about="Which of three sentences is the cause, later event, precondition, motive or reaction "
    "of marked utterances of a dialogue? Chance is 0.33; a model that is given the options "
    "without the dialogue reaches about 0.46.",
    scale=RATE,
    questions=ROOT / "data" / "dialogue_inference" / "test.jsonl",
    read=read,
    render=render,
    targets=targets,
    shorten=shorten,
    prompt_file=Path(__file__).with_name("prompt.py"),
    wording={
        "TERMS": set(),
        "DIALOGUE": {"conversation", "references"},
        "OPTIONS": {"options"},
        "CUSTOM_REF": {"asked"},
        "CUSTOM_REF_OFFICIAL_TERM": {"asked"},
        "CUSTOM_REF_DEFINITION": {"asked"},
        "CUSTOM_REF_INSTRUCTION": set(),
        "INFERENCE": {"term"},
        "SYSTEM_REF_OFFICIAL_TERM": {"terms"},
    },
    scorer="accuracy",
    slices=("category", "n_marked", "length"),
    figures={"mean of categories": mean_of_categories},
)
