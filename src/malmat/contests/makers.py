"""What a language model is asked to make of a passage or an item, and how its reply is read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from malmat.answer.replies import parse_object, whole_number
from malmat.contests.faults import BadRow
from malmat.contests.mcq_rows import item_of
from malmat.evaluate.items import numbered
from malmat.journal import valid_text
from malmat.prompts import fill
from malmat.sources.row import Mcq, plain
from malmat.text.duplicates import squeeze
from malmat.text.korean import hangul_share

Prompts = Mapping[str, str]


@dataclass(frozen=True)
class Seed:
    """What one request starts from: a passage alone, or an item.

    Args:
        row: the row that it was read from, whose ``source`` and ``licence`` are handed on.
    """

    id: str
    paragraph: str
    item: Mcq | None = None
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What a reply proposes.

    Args:
        item: None where it could not be read as an item.
        more: fields that the row gets beside the item's.
        reason: why it is rejected, or None.
        raw: what the reply said, where there is no item.
    """

    seed: Seed
    item: Mcq | None
    more: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    raw: Any = None


def shown(prompts: Prompts, item: Mcq, *, passage: bool = True) -> str:
    """An item without its key, as ``ITEM`` shows it; parts of which there is none are left out."""
    values = {
        "passage": item.paragraph if passage else "",
        "question": item.question,
        "plus": item.plus,
        "choices": numbered(item.choices),
    }
    parts = re.split(r"\n\n(?=\[)", prompts["ITEM"])
    used = [[values[name] for name in re.findall(r"\{(\w+)\}", part)] for part in parts]
    kept = [part for part, texts in zip(parts, used, strict=True) if any(texts) or not texts]
    return "\n\n".join(fill(part, **values) for part in kept)


def one_of(count: int) -> dict[str, Any]:
    """The schema of a number from 1 to ``count``."""
    return {"type": "integer", "enum": list(range(1, count + 1))}


def schema_of(**properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these fields, all of them needed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string"}


def read_number(reply: Mapping[str, Any], count: int) -> int:
    """The ``answer`` of a reply.

    Raises:
        ValueError: none from 1 to ``count``.
    """
    number = whole_number(reply.get("answer"))
    if number is None or not 1 <= number <= count:
        raise ValueError(f"the answer {reply.get('answer')!r} is none of {count} choices")
    return number


class Maker(ABC):
    """A kind of augmentation: its wording, its schema, its reply."""

    constant: str
    placeholders: frozenset[str]
    tokens: int
    """Of output a reply, for a plan."""

    def prompt(self, prompts: Prompts, seed: Seed) -> str:
        return fill(prompts[self.constant], **self.values(prompts, seed))

    @abstractmethod
    def values(self, prompts: Prompts, seed: Seed) -> dict[str, object]:
        """What the placeholders stand for."""

    @abstractmethod
    def schema(self, seed: Seed) -> dict[str, Any]:
        """Of the reply."""

    @abstractmethod
    def drafts(self, seed: Seed, text: str) -> list[Draft]:
        """What the reply proposes.

        Raises:
            ValueError: it cannot be read.
        """


class NewItems(Maker):
    """New items from a passage."""

    constant, placeholders = "NEW_ITEMS", frozenset({"passage", "count", "n_choices"})

    def __init__(self, count: int, n_choices: int):
        self.count, self.n_choices, self.tokens = count, n_choices, count * 250

    def values(self, prompts: Prompts, seed: Seed) -> dict[str, object]:
        return {"passage": seed.paragraph, "count": self.count, "n_choices": self.n_choices}

    def schema(self, seed: Seed) -> dict[str, Any]:
        item = schema_of(
            question=TEXT,
            question_plus=TEXT,
            choices={"type": "array", "items": TEXT},
            answer=one_of(self.n_choices),
        )
        return schema_of(items={"type": "array", "items": item})

    def drafts(self, seed: Seed, text: str) -> list[Draft]:
        rows = parse_object(text, "items")["items"]
        if not isinstance(rows, list) or not rows:
            raise ValueError("no items in the reply")
        drafts = [self._draft(seed, row) for row in rows[: self.count]]
        return drafts + [
            Draft(seed, None, {}, "more than asked for", row) for row in rows[self.count :]
        ]

    def _draft(self, seed: Seed, row: Any) -> Draft:
        try:
            asked = {**row, "paragraph": seed.paragraph} if isinstance(row, dict) else row
            item = item_of(_without_marks(_valid(asked)))
        except BadRow as bad:
            return Draft(seed, None, {}, f"malformed ({bad.field.split('[')[0]})", _valid(row))
        return Draft(seed, item, {}, self._reason(item))

    def _reason(self, item: Mcq) -> str | None:
        if item.answer is None:
            return "malformed (answer)"
        if len(item.choices) != self.n_choices:
            return "another number of choices"
        if hangul_share(item.question) < 0.5:
            return "not Korean"
        if _lacks_box(item):
            return "the box of its choices is missing"
        return None


def _valid(value: Any) -> Any:
    """A reply's value with half characters replaced."""
    if isinstance(value, dict):
        return {valid_text(str(name)): _valid(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_valid(one) for one in value]
    return valid_text(value) if isinstance(value, str) else value


def _without_marks(row: Any) -> Any:
    """A row whose choices have lost the numbers that a model has put before them."""
    choices = row.get("choices") if isinstance(row, dict) else None
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        return row
    marks = [re.match(r"\s*(?:[①-⑩]|\(?(\d{1,2})[.)](?!\d))\s*(?=\S)", text) for text in choices]
    if not choices or not all(marks):
        return row
    return {**row, "choices": [t[m.end() :] for t, m in zip(choices, marks, strict=True) if m]}


def _lacks_box(item: Mcq) -> bool:
    """Whether the choices name ㄱ, ㄴ … that stand in no text of the item."""
    named = set(re.findall(r"(?<![ㄱ-ㅣ])[ㄱ-ㅁ](?![ㄱ-ㅣ])", " ".join(item.choices)))
    return bool(named) and not named <= set(f"{item.plus}{item.paragraph}{item.question}")


def _item(seed: Seed) -> tuple[Mcq, int]:
    """The seed's item and its key, from 1."""
    assert seed.item is not None
    assert seed.item.answer is not None
    return seed.item, seed.item.answer


class Distractors(Maker):
    """New wrong choices for an item; the key stays what and where it is."""

    constant, placeholders = "DISTRACTORS", frozenset({"item", "answer", "count"})
    tokens = 200

    def values(self, prompts: Prompts, seed: Seed) -> dict[str, object]:
        item, answer = _item(seed)
        key = item.choices[answer - 1]
        return {"item": shown(prompts, item), "answer": key, "count": len(item.choices) - 1}

    def schema(self, seed: Seed) -> dict[str, Any]:
        return schema_of(distractors={"type": "array", "items": TEXT})

    def drafts(self, seed: Seed, text: str) -> list[Draft]:
        item, answer = _item(seed)
        found = parse_object(text, "distractors")["distractors"]
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ValueError("no list of texts in the reply")
        choices = [valid_text(one).strip() for one in found[: len(item.choices) - 1]]
        choices.insert(answer - 1, item.choices[answer - 1])
        made = replace(item, choices=choices)
        known = {plain(one) for one in choices}
        if len(choices) != len(item.choices):
            return [Draft(seed, None, {}, "another number of choices", _valid(found))]
        if len(known) < len(choices) or "" in known:
            return [Draft(seed, None, {}, "malformed (choices)", _valid(found))]
        if known == {plain(one) for one in item.choices}:
            return [Draft(seed, made, {}, "repeats the item")]
        return [Draft(seed, made)]


class Rationales(Maker):
    """Reasoning for an item, kept where it comes to the key, which it was not told."""

    constant, placeholders = "RATIONALE", frozenset({"item"})
    tokens = 400

    def values(self, prompts: Prompts, seed: Seed) -> dict[str, object]:
        return {"item": shown(prompts, _item(seed)[0])}

    def schema(self, seed: Seed) -> dict[str, Any]:
        return schema_of(rationale=TEXT, answer=one_of(len(_item(seed)[0].choices)))

    def drafts(self, seed: Seed, text: str) -> list[Draft]:
        item, answer = _item(seed)
        reply = parse_object(text, "rationale", "answer")
        said = read_number(reply, len(item.choices))
        rationale = valid_text(str(reply["rationale"] or "")).strip()
        if not rationale:
            raise ValueError("no rationale in the reply")
        reason = None if said == answer else "the rationale comes to another answer"
        return [Draft(seed, item, {"rationale": rationale}, reason)]


class Hints(Maker):
    """A hint for an item that does not name the answer."""

    constant, placeholders = "HINT", frozenset({"item", "answer"})
    tokens = 100

    def values(self, prompts: Prompts, seed: Seed) -> dict[str, object]:
        item, answer = _item(seed)
        return {"item": shown(prompts, item), "answer": item.choices[answer - 1]}

    def schema(self, seed: Seed) -> dict[str, Any]:
        return schema_of(hint=TEXT)

    def drafts(self, seed: Seed, text: str) -> list[Draft]:
        item, _ = _item(seed)
        hint = valid_text(str(parse_object(text, "hint")["hint"] or "")).strip()
        if not hint:
            raise ValueError("no hint in the reply")
        reason = "names the answer" if names_key(hint, item) else None
        return [Draft(seed, item, {"hint": hint}, reason)]


CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
ORDINALS = ("첫", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열")


def names_key(hint: str, item: Mcq) -> bool:
    """Whether a hint gives the key away: its number, or its text, whole or nearly."""
    assert item.answer is not None
    place, key = item.answer - 1, squeeze(item.choices[item.answer - 1])
    number = rf"(?<!\d){item.answer}\s*번|{CIRCLED[place]}|{ORDINALS[place]}\s*번째\s*(?:선택|선지)"
    said = rf"(?:정답|답)[은는이가]?\s*:?\s*\(?{item.answer}(?!\d)"
    if re.search(f"{number}|{said}", hint):
        return True
    if len(key) <= 2:  # it stands in other words too: 배, 배추
        return re.search(rf"(?<!\w){re.escape(item.choices[place])}", hint) is not None
    text = squeeze(hint)
    # Nearly: most of a long key's stretches of four letters stand in the hint.
    stretches = {key[i : i + 4] for i in range(len(key) - 3)} if len(key) >= 10 else {key}
    return sum(one in text for one in stretches) >= 0.8 * len(stretches)
