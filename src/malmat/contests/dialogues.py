"""Rows that ask about marked utterances of a dialogue, as a contest publishes them.

``{id, input: {conversation: [{speaker, utterance, utterance_id}], reference_id, category,
inference_1, inference_2, inference_3}, output}``: which of three sentences is what the category
asks for? ``output`` names it, and is empty in test files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from malmat.contests.faults import BadRow, Fault, refuse_misread, sound_or_refused
from malmat.errors import InputError
from malmat.files import read_rows, row_id
from malmat.text.korean import fold, is_blank, normalize

OPTIONS = ("inference_1", "inference_2", "inference_3")
LABELS = ("A", "B", "C")
"""What an answer calls the options."""

FIELDS = ("conversation", "reference_id", "category", *OPTIONS)


class Utterance(TypedDict):
    """One utterance. ``utterance_id`` is a list: a merged one has the ids of its parts."""

    speaker: int | str
    utterance: str
    utterance_id: list[str]


@dataclass(frozen=True)
class Dialogue:
    """A row, checked, its text in normal form.

    Args:
        raw: the row as it stands in the file.
        conversation: the utterances; ids are lists.
        reference_id: of the marked utterances.
        options: the three sentences.
        answer: the label of the right one, None in test files.
        cluster: the dialogue: an utterance's id without its last two parts.
        lost: references that an earlier refining took out (``_lost_in_refining``).
    """

    id: str
    line: int
    raw: dict[str, Any]
    conversation: list[Utterance]
    reference_id: list[str]
    category: str
    options: list[str]
    answer: str | None
    cluster: str
    lost: list[str]

    @property
    def marked(self) -> list[Utterance]:
        """The utterances that are asked about."""
        return [one for one in self.conversation if is_marked(one, self.reference_id)]


def is_marked(utterance: Utterance, reference_id: Collection[str]) -> bool:
    return any(one in reference_id for one in utterance["utterance_id"])


def read_dialogues(
    path: str | Path, categories: Collection[str], *, skip_bad: bool = False
) -> tuple[list[Dialogue], list[Fault]]:
    """The rows of a file, and what is wrong with those that cannot be used.

    Args:
        categories: those that are known.
        skip_bad: go on without faulty rows.

    Raises:
        InputError: a file of another task, no row at all, or faulty rows without ``skip_bad``:
            one line that names them all.
    """
    rows = read_rows(path, as_typed=True)
    _refuse_other_files(path, [row for _, row in rows])
    refined = any(isinstance(one, list) for _, row in rows for one in _utterance_ids(row))
    answered = any(isinstance(row, dict) and row.get("output") for _, row in rows)
    found: list[Dialogue] = []
    faults: list[Fault] = []
    lines: dict[str, int] = {}
    for number, (line, row) in enumerate(rows, 1):
        name = f"number {number}"
        try:
            name = _id_of(row, name)
            written = normalize(name).strip()
            if written in lines:
                problem = f"another row on line {lines[written]} has this id"
                raise BadRow("id", problem, "Keep one.")
            lines[written] = line
            found.append(_dialogue(row, line, categories, refined=refined, answered=answered))
        except BadRow as bad:
            faults.append(bad.fault(name, line))
    sound_or_refused(path, faults, left=len(found), skip=skip_bad)
    return found, faults


def show_lost(dialogues: Sequence[Dialogue]) -> None:
    """Print the rows that lost a marked utterance before they were read."""
    lost = [f"{one.id} ({', '.join(one.lost)})" for one in dialogues if one.lost]
    if lost:
        print(f"note: {len(lost)} rows came without one of their marked utterances, the others")
        print(f"  of which are asked about: {'; '.join(lost)}")


def _refuse_other_files(path: str | Path, rows: Sequence[Any]) -> None:
    """Stop at a file none of whose rows is of this layout."""
    if not rows:
        raise InputError("no rows in it", path=path)
    inputs = [row.get("input") if isinstance(row, dict) else None for row in rows]
    if any(isinstance(one, dict) and {"conversation", OPTIONS[0]} & set(one) for one in inputs):
        return
    first = inputs[0] if isinstance(inputs[0], dict) else rows[0]
    keys = (
        f"its first row has {', '.join(map(str, first))[:100]}" if isinstance(first, dict) else ""
    )
    raise InputError(
        f"is a file of another task: no row has {', '.join(FIELDS)}"
        + (f"; {keys}" if keys else ""),
        path=path,
        line=1,
        field="input",
        fix="Give the contest's file: a list of {id, input, output}.",
    )


def _utterance_ids(row: Any) -> list[Any]:
    asked = row.get("input") if isinstance(row, dict) else None
    turns = asked.get("conversation") if isinstance(asked, dict) else None
    return [t.get("utterance_id") for t in turns or [] if isinstance(t, dict)] if turns else []


def _id_of(row: Any, name: str) -> str:
    if not isinstance(row, dict):
        raise BadRow("row", "expected an object")
    if not isinstance(row.get("id"), str) or is_blank(row["id"]):
        raise BadRow("id", "expected text", "Give each row an id.")
    refuse_misread({"id": row["id"]})
    return row["id"]


def _dialogue(
    row: dict, line: int, categories: Collection[str], *, refined: bool, answered: bool
) -> Dialogue:
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise BadRow("input", "expected an object")
    if missing := [name for name in FIELDS if name not in asked]:
        raise BadRow(f"input.{missing[0]}", "missing", "A row of another task? Take it out.")
    conversation = _conversation(asked["conversation"])
    options, category = _options(asked), asked["category"]
    if not isinstance(category, str):
        raise BadRow("input.category", "expected text")
    refuse_misread({"input.category": category})
    category = normalize(category).strip()
    if category not in categories:
        fix = f"One of {', '.join(categories)}."
        raise BadRow("input.category", f"unknown category {category!r}", fix)
    references, lost = _references(asked["reference_id"], conversation, refined=refined)
    ids = [one for turn in conversation for one in turn["utterance_id"]]
    parts = ids[0].rsplit(".", 2)
    texts = [turn["utterance"] for turn in conversation]
    return Dialogue(
        id=row["id"],
        line=line,
        raw=row,
        conversation=conversation,
        reference_id=references,
        category=category,
        options=options,
        answer=_answer(row, answered=answered),
        cluster=parts[0] if len(parts) == 3 else row_id("dialogue", texts),
        lost=lost,
    )


def _conversation(turns: Any) -> list[Utterance]:
    if not isinstance(turns, list) or not turns:
        raise BadRow("input.conversation", "no utterances in it")
    conversation: list[Utterance] = []
    first: dict[str, int] = {}
    for place, turn in enumerate(turns):
        where = f"input.conversation[{place}]"
        if not isinstance(turn, dict):
            raise BadRow(where, "expected an object")
        speaker, text = turn.get("speaker"), turn.get("utterance")
        if isinstance(speaker, bool) or not isinstance(speaker, (int, str)) or speaker == "":
            raise BadRow(f"{where}.speaker", "expected a number or text")
        if not isinstance(text, str):
            raise BadRow(f"{where}.utterance", "expected text")
        refuse_misread({f"{where}.utterance": text, f"{where}.speaker": str(speaker)})
        for one in (ids := _ids(turn.get("utterance_id"), f"{where}.utterance_id")):
            if one in first:
                problem = f"the utterances {first[one]} and {place} have one id, {one}"
                raise BadRow(f"{where}.utterance_id", problem)
            first[one] = place
        conversation.append({"speaker": speaker, "utterance": normalize(text), "utterance_id": ids})
    if all(is_blank(turn["utterance"]) for turn in conversation):
        raise BadRow("input.conversation", "all its utterances are blank")
    return conversation


def _ids(value: Any, where: str) -> list[str]:
    ids = [value] if isinstance(value, str) else value
    if not isinstance(ids, list) or not ids or not all(isinstance(i, str) and i for i in ids):
        raise BadRow(where, "expected an id, or a list of ids")
    return list(ids)


_MARKS = re.compile(r"""(?<!\d)[.,]|[.,](?!\d)|[\s"'“”‘’`!?~·]+""")
"""What two options that say the same may differ in: 3.5 and 35 are two numbers."""


def _options(asked: dict) -> list[str]:
    options, first = [], dict[str, str]()
    for name in OPTIONS:
        text = asked[name]
        if not isinstance(text, str) or is_blank(text):
            raise BadRow(f"input.{name}", "an empty option")
        refuse_misread({f"input.{name}": text})
        same = first.setdefault(_MARKS.sub("", fold(text)).casefold() or text, name)
        if same != name:
            raise BadRow(f"input.{name}", f"the same option as {same}")
        options.append(normalize(text))
    return options


def _references(
    value: Any, conversation: list[Utterance], *, refined: bool
) -> tuple[list[str], list[str]]:
    """The reference ids, and those among them that an earlier refining took out."""
    references = _ids(value, "input.reference_id")
    known = [one for turn in conversation for one in turn["utterance_id"]]
    missing = [one for one in references if one not in known]
    if unknown := [one for one in missing if not (refined and _was_between(one, known))]:
        problem = f"{unknown[0]} is the id of no utterance"
        raise BadRow("input.reference_id", problem, "Give the ids of utterances of this row.")
    if len(missing) == len(references):
        raise BadRow("input.reference_id", f"{missing[0]} is the id of no utterance")
    return references, missing


def _was_between(one: str, known: Sequence[str]) -> bool:
    """Whether an id fits a gap in the numbers of a dialogue's utterances.

    Published refined files have rows that lost one of several marked utterances ("ㅋㅋ"). The
    rest of them can be answered, and a contest's test rows have to be.
    """
    stem, _, number = one.rpartition(".")
    numbers = [
        int(k.rpartition(".")[2]) for k in known if re.fullmatch(re.escape(stem) + r"\.\d+", k)
    ]
    return number.isdecimal() and bool(numbers) and min(numbers) < int(number) < max(numbers)


def _answer(row: dict, *, answered: bool) -> str | None:
    """The label of the right option; None in a test row."""
    output = row.get("output")
    if output in OPTIONS:
        return LABELS[OPTIONS.index(output)]
    if output not in ("", None):
        fix = f"One of {', '.join(OPTIONS)}."
        raise BadRow("output", f"the answer is {output!r}", fix)
    side = re.search(r"(?:^|[-_. ])(train|dev|test)(?:[-_. ]|$)", row["id"])
    if (side and side[1] != "test") or (answered and not side):
        raise BadRow("output", "a training row without an answer")
    return None
