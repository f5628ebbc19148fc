"""Items with choices, and what a reply picks of them."""

from __future__ import annotations

import json

import pytest

from malmat.errors import InputError
from malmat.evaluate.items import OutOfRange, read_choices, read_label

DIGITS, LETTERS = list("12345"), list("ABC")


@pytest.mark.parametrize(
    ("reply", "labels", "picked"),
    [
        ("3", DIGITS, "3"),
        ("정답: **3**", DIGITS, "3"),
        ("정답은 2번. 참고로 4는 함정이다", DIGITS, "2"),
        ("1443년이 아니라 5번입니다", DIGITS, None),
        ("2번이 맞습니다.", DIGITS, "2"),
        ("B", LETTERS, "B"),
        ("정답은 B입니다", LETTERS, "B"),
        ("BAD", LETTERS, None),
        ("모르겠다", DIGITS, None),
        ("1번과 2번", DIGITS, None),
        ("3.5", DIGITS, None),
        ("답은 나", ["가", "나"], "나"),
    ],
)
def test_a_choice_is_read_from_a_mark_or_alone(reply, labels, picked):
    if picked is None:
        with pytest.raises(ValueError, match="no single choice"):
            read_label(reply, labels)
    else:
        assert read_label(reply, labels) == picked


@pytest.mark.parametrize(("reply", "labels"), [("6", DIGITS), ("정답: 0", DIGITS), ("G", LETTERS)])
def test_a_choice_that_is_not_there_is_out_of_range(reply, labels):
    with pytest.raises(OutOfRange):
        read_label(reply, labels)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"choices": ["가"]}, "two choices or more"),
        ({"choices": ["가", " "]}, "two choices or more"),
        ({"choices": ["가", 1]}, "two choices or more"),
        ({"choices": ["가", "가 "]}, "stands in it twice"),
        ({"target": "다"}, "none of them"),
    ],
)
def test_bad_choices_are_named_with_their_line(tmp_path, change, problem):
    good = {"question": "뭐?", "choices": ["가", "나"], "target": "나"}
    path = tmp_path / "q.jsonl"
    lines = [good, {**good, "question": "또?", **change}]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    with pytest.raises(InputError, match=f"line 2, field 'choices'.*{problem}"):
        read_choices(path)
    path.write_text(json.dumps(good | {"target": None}), encoding="utf-8")
    assert read_choices(path)[0]["choices"] == ["가", "나"]
