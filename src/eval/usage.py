"""usage: does a model use slang by itself when it answers an everyday question?"""

from __future__ import annotations

from pathlib import Path

from malmat.evaluate.judges import TermJudge
from malmat.evaluate.task import RATE, Agreement, Asked, Item, Task
from malmat.formats import read_questions
from malmat.prompts import user_message

HERE = Path(__file__).parent


def render(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    return user_message(prompts["CHAT"], question=item["question"])


def rules(prompts: dict[str, str]) -> str:
    return """\
- 목록의 신조어가 하나라도 뜻에 맞게 쓰였으면 '네'를 고릅니다. 활용형이나 띄어쓰기, 표기가 \
조금 다른 것도 괜찮습니다.
- 글자는 같아도 일상어로 쓰였거나 뜻이 문맥에 맞지 않으면 '아니요'를 고릅니다."""


TASK = Task(
    name="usage",
    title="Usage",
    about="Does the model use slang by itself when it answers an everyday question? Share of "
    "answers with a slang term.",
    scale=RATE,
    questions=HERE / "usage_questions.json",
    read=read_questions,
    render=render,
    wording={"CHAT": {"question"}},
    scorer="auto",
    offline="lexicon",
    judge=TermJudge("JUDGE_USAGE"),
    legacy=("used", "total_usage_rate"),
    anchor="used",
    known={"lexicon": Agreement(0.24, (0.12, 0.36), 115)},
    asked=Asked(
        question="이 답변에 신조어가 뜻에 맞게 쓰였나요?",
        labels={True: "네, 쓰였어요", False: "아니요"},
        rules=rules,
        shows_terms=True,
    ),
)
