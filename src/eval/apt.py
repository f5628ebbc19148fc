"""apt: which of two answers uses the slang term as it is used? detect: is this use right?

Both come from src/data/misuse.jsonl: half of the rows are of terms that no model is trained on, the
others are kept out of the preference rows (src/data/preferences.py).
"""

from __future__ import annotations

from pathlib import Path

from malmat.evaluate.items import read_choices
from malmat.evaluate.task import RATE, Item, Task
from malmat.prompts import user_message

HERE = Path(__file__).parent


def render(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    return user_message(prompts["CHAT"], question=item["question"])


def render_use(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    fields = {name: item[name] for name in ("title", "question", "said")}  # type: ignore[literal-required]
    return user_message(prompts["DETECT"], **fields)


APT = Task(
    name="apt",
    title="Apt use",
    about="Which of two answers uses the slang term as it is used? The other has it in a wrong "
    "sense, form, tone or time. Chance is 0.5.",
    scale=RATE,
    questions=HERE / "apt_questions.json",
    read=read_choices,
    render=render,
    wording={"CHAT": {"question"}},
    scorer="accuracy",
    slices=("split", "kind"),
    choose="text",
    option="CHOOSE_APT",
)
DETECT = Task(
    name="detect",
    title="Misuse detected",
    about="Is the slang term in this answer used rightly, yes or no? Half of the answers are "
    "wrong. Chance is 0.5.",
    scale=RATE,
    questions=HERE / "detect_questions.json",
    read=read_choices,
    render=render_use,
    wording={"DETECT": {"title", "question", "said"}},
    scorer="accuracy",
    slices=("split", "kind"),
    choose="label",
)
TASKS = (APT, DETECT)
