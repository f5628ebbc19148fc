"""understand: does an answer show that the model knows the slang term in the question?"""

from __future__ import annotations

import re
from pathlib import Path

from malmat.evaluate.items import read_splits
from malmat.evaluate.judges import GradeJudge
from malmat.evaluate.task import GRADE, Agreement, Asked, Item, Task
from malmat.formats import read_questions
from malmat.prompts import user_message

HERE = Path(__file__).parent
SAMPLE = HERE / "meme_sample_with_questions.jsonl"


def read(path: Path) -> list[Item]:
    """The questions, each with its term and whether the term is trained on (``split``)."""
    splits = read_splits(SAMPLE) if SAMPLE.is_file() else {}
    return [
        {**row, **({"split": splits.get(row["title"], "seen")} if row.get("title") else {})}
        for row in read_questions(path)
    ]


def render(prompts: dict[str, str], item: Item, passages: list[str]) -> list[dict]:
    return user_message(prompts["CHAT"], question=item["question"])


def rules(prompts: dict[str, str]) -> str:
    """The judge's grades, which are the rater's too."""
    grades = re.findall(r"^[1-5]: .+$", prompts["JUDGE_UNDERSTAND"], re.MULTILINE)
    lines = "\n".join(f"- **{line[0]}점**{line[1:]}" for line in grades)
    return f"{lines}\n\n답변의 길이나 공손함은 점수에 넣지 않습니다."


TASK = Task(
    name="understand",
    title="Understanding",
    about="Does the answer show that the model knows the term? 1 (not at all) to 5.",
    scale=GRADE,
    questions=HERE / "understand_questions.json",
    read=read,
    render=render,
    wording={"CHAT": {"question"}},
    scorer="auto",
    offline="local:embedded",
    judge=GradeJudge("JUDGE_UNDERSTAND", local_prompt="JUDGE_UNDERSTAND_LOCAL"),
    slices=("split",),
    legacy=("score", "average_score"),
    anchor="grade",
    known={"local:embedded": Agreement(0.0, (0.0, 0.01), 80)},
    asked=Asked(
        question="신조어의 뜻을 얼마나 잘 알고 한 답변인가요?",
        labels={
            1: "1\n전혀 모름",
            2: "2\n거의 모름",
            3: "3\n대체로 맞음",
            4: "4\n거의 맞음",
            5: "5\n딱 맞음",
        },
        rules=rules,
        shows_meaning=True,
    ),
)
