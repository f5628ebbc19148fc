"""csat: which of four or five numbered choices answers a question about a passage?

The contest's data may not be passed on; the sample set beside this file was written for the
project. Rows of ``prepare.py`` are asked in the variant that they were made with, others in the
default one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from malmat.contests.exam_items import read_items, shorten
from malmat.evaluate.classes import macro_f1
from malmat.evaluate.task import RATE, Item, Task
from malmat.prompts import fill, inert

HERE = Path(__file__).parent
Prompts = dict[str, str]
LABELS = ("1", "2", "3", "4", "5")
"""The classes over which the contest counts macro-F1."""

TOPICS = {
    "역사": "조선 고려 고구려 신라 백제 발해 왕 왕조 독립 일제 동학 농민군 노비 도읍 유민 백성",
    "경제": "가격 수요 공급 시장 비용 소득 환율 물가 이자 이자율 달러 기업 소비자 생산량 세금",
    "정치": "국회 헌법 법률 대통령 민주 선거 정당 의회 의석 재판 기본권 판결 계약 국가 법원",
    "윤리": "도덕 윤리 의무 의무론 공리주의 칸트 철학 정의 정의로운 사상가 행복 존엄",
    "사회": "일탈 문화 사회 사회화 지위 역할 인구 도시 도심 불평등 기후 풍습 지역",
    "과학": "실험 세포 미생물 전자 에너지 온도 파동 진동 신호 유전자 물질 속도 꿀벌 기억 투영법",
    "예술": "그림 화가 음악 연주 건축 조각 영화 작품 미술 산수화",
    "국어": "시 소설 화자 인물 서술자 갈등 시어 토론 사회자 방언 글자 낱말 띄어 표준어 빗대어",
}
"""Topic → beginnings of words in a passage that speak for it."""
_FIRST = "".join(sorted({word[0] for words in TOPICS.values() for word in words.split()}))
ANY_WORD = re.compile(
    f"(?<![가-힣])(?=[{_FIRST}])(?:"  # most words are passed over at their first letter
    + "|".join(f"(?P<{name}>{'|'.join(words.split())})" for name, words in TOPICS.items())
    + ")"
)


def topic_of(item: Item) -> str:
    """The topic most of whose words stand in the passage and the question; 기타 where none does."""
    text = f"{item['passage']} {item['question']} {item['question_plus']}"
    found = Counter(match.lastgroup for match in ANY_WORD.finditer(text))
    return str(max(TOPICS, key=lambda name: found[name])) if found else "기타"


# ------------------------------------------------------------------------ parts of a prompt


def shown(text: str) -> str:
    """A text that cannot be read as the prompt's structure, its lines and <보기> as they are."""
    return "\n".join(map(inert, text.split("\n"))).replace("‹보기›", "<보기>")


def passage(prompts: Prompts, item: Item) -> list[str]:
    """The passage, of items that have one."""
    text = shown(item["passage"])
    return [fill(prompts["PASSAGE"], passage=text)] if text else []


def question(prompts: Prompts, item: Item) -> list[str]:
    """The question, with the text that it refers to where there is one."""
    parts = [fill(prompts["QUESTION"], question=shown(item["question"]))]
    if item["question_plus"]:
        parts.append(fill(prompts["PLUS"], plus=shown(item["question_plus"])))
    return parts


def options(prompts: Prompts, item: Item) -> list[str]:
    pairs = zip(item["choices"], item["options"], strict=True)
    lines = "\n".join(f"{label}. {inert(text)}" for label, text in pairs)
    return [fill(prompts["OPTIONS"], options=lines)]


def pick(prompts: Prompts, item: Item, constant: str | None = None) -> list[str]:
    """What is asked for, with as many numbers as there are choices."""
    constant = constant or ("PICK_WITH_PLUS" if item["question_plus"] else "PICK")
    return [fill(prompts[constant], numbers=", ".join(item["choices"]), mark=prompts["MARK"])]


def hint(prompts: Prompts, item: Item) -> list[str]:
    return [fill(prompts["HINT"], hint=inert(item["hint"]))] if item.get("hint") else []


def messages(prompts: Prompts, system: str, *parts: list[str]) -> list[dict]:
    """A system prompt, and the parts, divided by a blank line, as the user's message."""
    text = "\n\n".join(part for some in parts for part in some)
    return [
        {"role": "system", "content": prompts[system]},
        {"role": "user", "content": text},
    ]


# ------------------------------------------------------------------ a renderer a variant


def passage_first(prompts: Prompts, item: Item, system: str = "SYSTEM") -> list[dict]:
    parts = (passage, question, options, pick)
    return messages(prompts, system, *(part(prompts, item) for part in parts))


def question_first(prompts: Prompts, item: Item) -> list[dict]:
    parts = (question, passage, options, pick)
    return messages(prompts, "SYSTEM", *(part(prompts, item) for part in parts))


def hinted(prompts: Prompts, item: Item) -> list[dict]:
    parts = (passage, question, options, hint, pick)
    return messages(prompts, "SYSTEM", *(part(prompts, item) for part in parts))


def thinking(prompts: Prompts, item: Item, order: tuple = (passage, question)) -> list[dict]:
    parts = [part(prompts, item) for part in (*order, options)]
    return messages(prompts, "SYSTEM_THINK", *parts, pick(prompts, item, "PICK_THINKING"))


def no_passage(prompts: Prompts, item: Item) -> list[dict]:
    return passage_first(prompts, {**item, "passage": ""})


def choices_only(prompts: Prompts, item: Item) -> list[dict]:
    return messages(prompts, "SYSTEM", options(prompts, item), pick(prompts, item, "PICK_BLIND"))


def write_hint(prompts: Prompts, item: Item) -> list[dict]:
    parts = [part(prompts, item) for part in (passage, question, options)]
    return messages(prompts, "SYSTEM", *parts, [prompts["WRITE_HINT"]])


VARIANTS: dict[str, Callable[[Prompts, Item], list[dict]]] = {
    "PassageFirst": passage_first,
    "QuestionFirst": question_first,
    "Rules": partial(passage_first, system="SYSTEM_RULES"),
    "Hint": hinted,
    "Think": thinking,
    "ThinkQuestionFirst": partial(thinking, order=(question, passage)),
    "NoPassage": no_passage,
    "ChoicesOnly": choices_only,
    "WriteHint": write_hint,
}
DEFAULT = "PassageFirst"
THINKING = ("Think", "ThinkQuestionFirst")


def trained_answer(prompts: Prompts, item: Item, variant: str) -> str | None:
    """What a model is trained to answer in a variant; None where the item does not say."""
    if variant == "WriteHint":
        return item.get("hint")
    if "target" not in item:
        return None
    if variant in THINKING:
        end = f"{prompts['MARK']} {item['target']}"
        return f"{item['rationale']}\n{end}" if item.get("rationale") else None
    return item["target"]


def render(prompts: Prompts, item: Item, passages: list[str]) -> list[dict]:
    """The messages of the variant that ``prepare.py`` made the item in, or of the default one."""
    return VARIANTS[item.get("variant", DEFAULT)](prompts, item)


def read(path: Path) -> list[Item]:
    items = read_items(path)
    return [{"topic": topic_of(item), **item} for item in items]  # type: ignore[typeddict-item]


PLACEHOLDERS = {
    **dict.fromkeys(("SYSTEM", "SYSTEM_RULES", "SYSTEM_THINK", "MARK", "WRITE_HINT"), ""),
    **dict.fromkeys(("PICK", "PICK_WITH_PLUS", "PICK_BLIND"), "numbers"),
    **{name: name.lower() for name in ("PASSAGE", "QUESTION", "PLUS", "HINT", "OPTIONS")},
    "PICK_THINKING": "numbers mark",
}

TASK = Task(
    name="csat",
    title="Korean SAT questions",
    about="Which of four or five choices answers a question about a passage? Chance is 0.25 and "
    "0.20; the columns that saw no passage say how many rows can be had without reading.",
    scale=RATE,
    questions=HERE / "sample" / "test.csv",
    read=read,
    render=render,
    shorten=shorten,
    prompt_file=HERE / "prompt.py",
    wording={name: set(names.split()) for name, names in PLACEHOLDERS.items()},
    scorer="accuracy",
    slices=("source", "n_choices", "length", "plus", "position", "topic"),
    figures={
        "macro-F1 (classes that occur)": macro_f1,
        "macro-F1 (1 to 5, as the contest counts)": partial(macro_f1, classes=LABELS),
    },
)
