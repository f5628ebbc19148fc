"""The wording is checked before anything runs, and what the user adds is left alone."""

from __future__ import annotations

import pytest

from malmat.errors import InputError
from malmat.prompts import fill, load_prompts

NEEDED = {"ASK": {"question"}, "RULES": set()}


def load(tmp_path, text: str) -> dict[str, str]:
    path = tmp_path / "prompt.py"
    path.write_text(text, encoding="utf-8")
    return load_prompts(path, NEEDED)


def test_further_constants_are_allowed(tmp_path):
    text = 'ASK = "질문: {question}"\nRULES = "{\\"a\\": 1}"\nMINE = "{any} {{thing}}"\nSEED = 3\n'
    prompts = load(tmp_path, text)
    assert prompts == {"ASK": "질문: {question}", "RULES": '{"a": 1}', "MINE": "{any} {{thing}}"}
    assert fill(prompts["ASK"], question="{q}?") == "질문: {q}?"


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ('"{qustion}"', "line 1, field 'ASK': unknown placeholder {qustion}. It may have"),
        ('"질문"', "line 1, field 'ASK': the placeholder {question} is missing"),
        ('"{{question}}"', "field 'ASK': the placeholder {{question}} has its braces twice"),
        ('"{question} {{ question }}"', "braces twice. Write {question}."),
        ('3', "line 1, field 'ASK': expected a string"),
        ('f"{question}"', "line 1, field 'ASK': expected a string"),
    ],
)  # fmt: skip
def test_a_needed_constant_that_does_not_fit_is_one_line(tmp_path, ask, expected):
    with pytest.raises(InputError) as caught:
        load(tmp_path, f'ASK = {ask}\nRULES = ""\n')
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_needed_constant_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="field 'RULES': missing"):
        load(tmp_path, 'ASK = "{question}"\n')
    with pytest.raises(InputError, match="line 1, field 'RULES': unknown placeholder"):
        load(tmp_path, 'RULES = "{question}"\nASK = "{question}"\n')


@pytest.mark.parametrize("value", ["{[]: 1}", "{1, *x}", "'a'.b", "b'x'", "1j"])
def test_a_further_constant_of_any_kind_stops_nothing(tmp_path, value):
    path = tmp_path / "prompt.py"
    path.write_text(f"OWN = {value}\nCHAT = 'a' 'b'\n")
    assert load_prompts(path, {"CHAT": set()}) == {"CHAT": "ab"}


def test_wording_that_is_nested_too_deep_is_one_line(tmp_path):
    path = tmp_path / "prompt.py"
    path.write_text("OWN = " + "-" * 9000 + "1\n")
    with pytest.raises(InputError, match="not Python"):
        load_prompts(path)
