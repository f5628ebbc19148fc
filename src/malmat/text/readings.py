"""Numbers as they are read aloud in Korean, and the script that a text is written in."""

from __future__ import annotations

import itertools
import re
import unicodedata

from malmat.evaluate.korean_metrics import relaxed_form
from malmat.text.korean import fold

_DIGITS = "영일이삼사오육칠팔구"
_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_ONES = (
    *((), ("하나", "한"), ("둘", "두"), ("셋", "세", "석", "서"), ("넷", "네", "넉", "너")),
    *(("다섯",), ("여섯",), ("일곱",), ("여덟",), ("아홉",)),
)
_DAYS = ("하루", "이틀", "사흘", "나흘", "닷새", "엿새", "이레", "여드레", "아흐레", "열흘")
_MONTHS = {1: ("정월",), 6: ("유월",), 10: ("시월",), 11: ("동짓달",), 12: ("섣달",)}

_MOST = 4
"""Numbers of a text that is read: each doubles its readings, or more."""


def read_alike(one: str, other: str) -> bool:
    """Whether two texts are one where their numbers are read aloud: 10월 9일 and 시월 구일."""
    forms = [relaxed_form(text) for text in (one, other)]
    if not any(re.search(r"\d", form) for form in forms):
        return False
    return bool(readings(forms[0]) & readings(forms[1]))


def readings(text: str) -> set[str]:
    """A text without blanks, each number in it read in every way; as it is without numbers."""
    parts = re.split(r"(\d+[월일]?)", text)
    if not 1 < len(parts) <= 2 * _MOST + 1:
        return {text}
    ways = [_ways(part) if place % 2 else [part] for place, part in enumerate(parts)]
    return {"".join(some) for some in itertools.product(*ways)}


def _ways(part: str) -> list[str]:
    """The readings of a number with the 월 or 일 behind it."""
    unit = part.lstrip("0123456789")
    digits = part.removesuffix(unit)
    number = int(digits) if len(digits) <= 8 else -1
    found = {"".join(_DIGITS[int(digit)] for digit in digits)}
    if number >= 0:
        found |= {_sino(number), *_native(number)}
    ways = {way + unit for way in found}
    if unit == "월":
        ways |= {*_MONTHS.get(number, ())}
    if unit == "일" and 1 <= number <= len(_DAYS):
        ways |= {mark + _DAYS[number - 1] for mark in ("", "초")}
    if (unit, number) == ("일", 15):
        ways |= {"보름"}
    return sorted(ways)


def _sino(number: int) -> str:
    """1945 → 천구백사십오; up to eight digits."""
    if number >= 10_000:
        head = number // 10_000
        tail = _sino(number % 10_000) if number % 10_000 else ""
        return ("" if head == 1 else _sino(head)) + "만" + tail
    if not number:
        return _DIGITS[0]
    places = zip(f"{number:04}", ("천", "백", "십", ""), strict=True)
    return "".join(
        ("" if digit == "1" and unit else _DIGITS[int(digit)]) + unit
        for digit, unit in places
        if digit != "0"
    )


def _native(number: int) -> list[str]:
    """25 → 스물다섯; before a counter 20 is 스무."""
    if not 1 <= number <= 99:
        return []
    tens, ones = _TENS[number // 10], _ONES[number % 10]
    return [tens + one for one in ones] or [tens, *(["스무"] if number == 20 else [])]


def script_of(text: str) -> str | None:
    """The one script of all of a text's letters (HANGUL, CJK, LATIN …), or None where there are
    several, or no letter."""
    names = (unicodedata.name(letter, "").split() for letter in fold(text) if letter.isalpha())
    scripts = {name[0] for name in names if name}
    return scripts.pop() if len(scripts) == 1 else None
