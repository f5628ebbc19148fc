"""How a set of dialogues is typed: shares of marks, endings, lengths and settings, to set beside
those of another set."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

LAUGH = re.compile("ㅋ")
INITIALS = re.compile("(?<![ㄱ-ㅎ])(?![ㅋㅎ]+(?![ㄱ-ㅎ]))[ㄱ-ㅎ]{2,}")
"""Words typed by their initials (ㄹㅇ, ㅇㅋ); a letter drawn out (ㅋㅋㅋ, ㅎㅎ) is none."""

LIVELY = re.compile("[ㅋㅠㅜ]|^야[ ,!?]")

STOP_INSIDE = re.compile(r"(?<![.\d])\.(?!\.)(?=\s*\w)(?!\d)")
NUMBER_WORD = re.compile(
    r"\d|(?:한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|몇)\s?"
    r"(?:개|번|시간|명|장|달|살|판|잔|병|마리|입|줄|군데|시|째|사람|그릇|캔)|사흘|나흘|이틀"
)
POLITE = re.compile(r"(?:요|니다|니까|시다|세여|시오|죠)[\s.,!?~;ㅋㅎㅠㅜ^]*$")
NOMINAL = re.compile(r"[\s.,!?~;ㅋㅎㅠㅜ^]*$")
CLIPPED = re.compile(
    r"걍|왤케|글킨|근까|머해|머야|머임|어캐|어케|(?<![가-힣])넘(?![가-힣])|(?<![가-힣])(?:낼|담주|젤|쫌|겜)"
    r"|안대|마자|조아|됨\?|나도오|구래|아녀|아님\?|인듯|한듯|듯\b|ㄹㅇ루|모르겟|햇|겟"
)
FAMILY = re.compile(
    "가족|엄마|아빠|어머니|아버지|남매|자매|형제|모녀|모자|부녀|부자|부모|이모|삼촌|고모|사촌|할머니|"
    "할아버지|조카|동생|언니|누나|오빠"
)
ONLINE = re.compile(
    "댓글|DM|디엠|커뮤|인스타|트위터|유튜브|릴스|디스코드|디코|에타|에브리타임|SNS|스레드|블로그|게시판|"
    "카페 글|오픈채팅|팬 |게임"
)

STUDY = {
    "messages with ㅋ": 1070 / 3603,
    "messages with ㅎ": 134 / 3603,
    "messages with ?": 525 / 3603,
    "messages with !": 90 / 3603,
    "messages with ~": 165 / 3603,
    "messages with typed dots": 118 / 3603,
    "messages with a full stop": 1 / 3603,
}
"""허상희 (2016): marks in 3,603 KakaoTalk messages of 14 students, as a broadcaster (SBS) reported
them. They are counts of marks over messages, so that a message with two of a mark counts twice."""

Measure = dict[str, float]
"""The name of a figure → its value; the names in ``NUMBERS`` are no shares."""

ANALYSED = 20_000
"""Answers that are analysed at most, evenly spread: a share is then sure to 0.7 points, and a
million would take an hour."""

NUMBERS = ("characters of a question", "characters of an answer", "their standard deviation")


def shares(pairs: Sequence[dict], positions: Sequence[str] = ()) -> Measure:
    """The figures of pairs (``q, a, context``), in the order in which they are shown.

    Args:
        positions: where each pair's term stands (``quality.term_positions``).
    """
    questions, answers = [p["q"] for p in pairs], [p["a"] for p in pairs]
    messages, contexts = questions + answers, [p.get("context") or "" for p in pairs]
    lengths = [len(text) for text in answers]
    figures = {
        "question with ㅋ": _share(questions, LAUGH.search),
        "question with ㅋ, ㅠ or 야 first": _share(questions, LIVELY.search),
        "question with ?": _share(questions, re.compile(r"\?").search),
        "answer with ㅋ": _share(answers, LAUGH.search),
        "answer with initials": _share(answers, INITIALS.search),
        "answer with a full stop inside": _share(answers, STOP_INSIDE.search),
        "answer with typed dots": _share(answers, re.compile(r"\.\.").search),
        "answer with …": _share(answers, re.compile("…").search),
        "message with ;;": _share(messages, re.compile(";;").search),
        "message with a clipped form": _share(messages, CLIPPED.search),
        "answer with a number": _share(answers, NUMBER_WORD.search),
        "polite answer": _share(answers, POLITE.search),
        "answer ending in 음/ㅁ": _share(spread(answers), ends_in_a_noun),
        "answer of two clauses": _share(spread(answers), has_two_clauses),
        "answer of 15 characters or less": _share(lengths, lambda n: n <= 15),
        "characters of a question": statistics.fmean(map(len, questions)),
        "characters of an answer": statistics.fmean(lengths),
        "their standard deviation": statistics.pstdev(lengths),
        "setting: family": _share(contexts, FAMILY.search),
        "setting: online": _share(contexts, ONLINE.search),
        "different settings": len(set(contexts)) / len(contexts),
    }
    marks = {"ㅋ": "ㅋ", "ㅎ": "ㅎ", "?": r"\?", "!": "!", "~": "[~∼～]", "typed dots": r"\.\.|…"}
    for name, mark in (marks | {"a full stop": r"(?<![.\d])\.(?![.\d])"}).items():
        figures[f"messages with {name}"] = _share(messages, re.compile(mark).search)
    counts = Counter(positions)
    for key, name in {"q": "question only", "a": "answer only", "both": "both"}.items():
        figures[f"term in {name}"] = counts[key] / max(len(positions), 1)
    return figures


def spread(texts: Sequence[str]) -> Sequence[str]:
    """The texts, or ``ANALYSED`` of them."""
    count = len(texts)
    if count <= ANALYSED:
        return texts
    return [texts[place * count // ANALYSED] for place in range(ANALYSED)]


def _share(values: Sequence[Any], holds: Callable[[Any], object]) -> float:
    return sum(bool(holds(value)) for value in values) / len(values)


def ends_in_a_noun(text: str) -> bool:
    """Whether a message ends in a predicate made a noun (했음, 됨, 아님)."""
    plain = NOMINAL.sub("", text)
    last = plain[-1:]
    if not "가" <= last <= "힣" or (ord(last) - 0xAC00) % 28 != 16:  # no final ㅁ
        return False
    ending = _analysed(plain)[-1]
    return ending.tag in ("EF", "ETN") and ending.form.endswith(("음", "\u11b7"))  # the latter: ㅁ


def has_two_clauses(text: str) -> bool:
    """Whether a message has two predicates or more: endings of sentences and between clauses."""
    return sum(token.tag in ("EF", "EC", "ETN") for token in _analysed(text)) >= 2


@cache
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def _analysed(text: str) -> list:
    return _kiwi().tokenize(text)


def table(columns: dict[str, Measure]) -> list[tuple[str, ...]]:
    """The figures of several sets as text: a head, then a line a figure."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    lines = [("figure", *columns)]
    for name in names:
        cells = [_cell(name, figures.get(name)) for figures in columns.values()]
        lines.append((name, *cells))
    return lines


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if name in NUMBERS else f"{value:.1%}"
