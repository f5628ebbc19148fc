"""reply: which of four replies is the real one? loss: how well is that one predicted?

Both come from one pass over held-out dialogues: the log-likelihood of each reply.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from malmat.evaluate.items import read_choices
from malmat.evaluate.task import LOSS as LOSS_SCALE
from malmat.evaluate.task import RATE, Item, Task
from malmat.prompts import user_message

HERE = Path(__file__).parent


def render(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    return user_message(prompts["CHAT"], question=item["question"])


REPLY = Task(
    name="reply",
    title="Reply",
    about="Which of four replies is the real one to this message? The others answer other "
    "messages, in like length and register. Chance is 0.25.",
    scale=RATE,
    questions=HERE / "reply_questions.json",
    read=read_choices,
    render=render,
    wording={"CHAT": {"question"}},
    scorer="accuracy",
    slices=("split",),
    choose="text",
    option="CHOOSE_REPLY",
)
LOSS = replace(
    REPLY,
    name="loss",
    title="Loss",
    about="Mean negative log-likelihood (nats) a token of the real reply. Less is better.",
    scale=LOSS_SCALE,
    scorer="nll",
    answers="reply",
)
TASKS = (REPLY, LOSS)
