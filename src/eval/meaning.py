"""meaning: which of four short glosses is the term's? The others are of like terms."""

from __future__ import annotations

from pathlib import Path

from malmat.evaluate.items import read_choices
from malmat.evaluate.task import RATE, Item, Task
from malmat.prompts import user_message

HERE = Path(__file__).parent


def render(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    return user_message(prompts["MEANING"], question=item["question"])


TASK = Task(
    name="meaning",
    title="Meaning",
    about="Which of four short glosses is the term's? The others belong to terms of the same "
    "kind. Chance is 0.25.",
    scale=RATE,
    questions=HERE / "meaning_questions.json",
    read=read_choices,
    render=render,
    wording={"MEANING": {"question"}},
    scorer="accuracy",
    slices=("split",),
    choose="text",
    option="CHOOSE_MEANING",
)
