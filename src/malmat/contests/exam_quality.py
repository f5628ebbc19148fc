"""What is doubtful in exam items: notes of single rows, figures of all, near-duplicate passages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from malmat.contests.exams import Exam
from malmat.sources.row import Mcq
from malmat.text.duplicates import THRESHOLD, NearDuplicates, squeeze

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_WHO = r"[가-힣]{2,4}\s?(?:선임|수습|객원|인턴)?\s?(?:기자|특파원)"
_REPORTER = re.compile(
    # As (서울=통신) 이름 기자 = at the beginning, and 이름 기자 주소 at the end of a line.
    rf"^\s*[\[(][^\])\n]{{1,30}}[=/][^\])\n]{{0,30}}[\])]\s*(?:{_WHO}\s*=?)?"
    rf"|(?:^|(?<=[.!?\s/▶]))[ \t]*(?:[가-힣]+\s?=\s?)?{_WHO}\s*(?:{EMAIL.pattern})?[ \t]*$",
    re.MULTILINE,
)
_LETTERS = re.compile(r"[ㄱ-ㅎ](?:\s*,\s*[ㄱ-ㅎ])*")
_MARKS = "①②③④⑤⑥⑦⑧⑨⑩"

NOTES = {
    "equal_choices": "choices that are equal but for marks and spaces",
    "plus_missing": "보기 is referred to, and there is none",
    "answer_in_text": "the text names the answer's number",
    "reporters": "a reporter's line or an e-mail address in the passage",
    "near_duplicates": "a passage nearly like another one",
}
"""Kind of note → what it says."""


def equal_choices(one: Exam) -> bool:
    plain = [squeeze(text) for text in one.choices]
    told = [text for text in plain if text]
    return len(set(told)) < len(told)


def plus_missing(one: Exam) -> bool:
    """Whether the choices are ㄱ, ㄴ, ㄷ or the question names <보기>, and nothing shows it."""
    if one.plus:
        return False
    text = f"{one.passage}\n{one.question}"
    if all(_LETTERS.fullmatch(choice.strip()) for choice in one.choices):
        named = {letter for choice in one.choices for letter in re.findall("[ㄱ-ㅎ]", choice)}
        return not all(re.search(rf"{letter}\s*[.):]", text) for letter in named)
    return (
        bool(re.search(r"[<〈《]\s*보\s*기\s*[>〉》]", one.question)) and "보기" not in one.passage
    )


def answer_in_text(one: Exam) -> bool:
    """Whether the passage or the question says which number is right, as 정답: ③ does."""
    if one.answer is None:
        return False
    spelt = f"(?:{one.answer}(?![0-9])|{_MARKS[one.answer - 1]})"
    told = re.compile(rf"(?:정답|답안?)\s*(?:번호)?\s*(?:은|는|이|:|：|=)?\s*{spelt}")
    return bool(told.search(f"{one.passage}\n{one.question}\n{one.plus}"))


def cleaned(text: str) -> tuple[str, int, int]:
    """A passage without reporters' lines and e-mail addresses, and how many of each went."""
    lines = 0
    if any(sign in text for sign in ("기자", "특파원", "=", "/")):  # which each such line has
        text, lines = _REPORTER.subn("", text)
    text, addresses = EMAIL.subn("", text) if "@" in text else (text, 0)
    return re.sub(r"\n{3,}", "\n\n", text).strip(), lines, addresses


def clean(items: Iterable[Exam]) -> tuple[list[Exam], Counter[str]]:
    """The items with passages that are ``cleaned``, and the counts of what went."""
    found, counts = [], Counter[str]()
    for one in items:
        text, lines, addresses = cleaned(one.passage)
        if lines or addresses:
            counts += Counter({"passages": 1, "reporters": lines, "addresses": addresses})
            one = replace(one, passage=text)
        found.append(one)
    return found, counts


@dataclass(frozen=True)
class Duplicate:
    """Two items whose passages are near-duplicates; ``split`` is the file of the other one."""

    row: str
    other: str
    split: str
    similarity: float


def near_duplicates(
    items: Sequence[Exam], others: Mapping[str, Sequence[Exam]], threshold: float = THRESHOLD
) -> list[Duplicate]:
    """The items whose passage is nearly another one's: of another split, or of an earlier item
    with other letters.

    Args:
        others: name of a split → its items.
        threshold: Jaccard similarity from which two texts count as near-duplicates.
    """
    index, sources = NearDuplicates(threshold), list[tuple[str, str]]()
    known: dict[str, tuple[str, str]] = {}
    for split, own in others.items():
        for one in own:
            if one.passage and one.cluster not in known:
                known[one.cluster] = (one.id, split)
                if not index.add(one.passage, only_new=True):
                    sources.append((one.id, split))
    found, seen = [], dict[str, list[tuple[int, float]]]()
    for one in items:
        if not one.passage:
            continue
        cluster = one.cluster
        if cluster in known:
            found.append(Duplicate(one.id, *known[cluster], 1.0))
            continue
        if cluster in seen:  # an item of one passage is no duplicate of its neighbour
            near = seen[cluster]
        elif not (near := seen.setdefault(cluster, index.add(one.passage, only_new=True))):
            sources.append((one.id, ""))
        if near:
            number, similarity = near[0]
            found.append(Duplicate(one.id, *sources[number], similarity))
    return found


def answer_positions(items: Iterable[Exam | Mcq]) -> dict[int, list[int]]:
    """Number of choices → how many right ones stand at each position."""
    counts: dict[int, list[int]] = {}
    for one in items:
        if one.answer is not None:
            counts.setdefault(len(one.choices), [0] * len(one.choices))[one.answer - 1] += 1
    return dict(sorted(counts.items()))


def position_skew(items: Iterable[Exam | Mcq]) -> dict[int, dict[str, Any]]:
    """Number of choices → ``counts`` of the right positions, ``chi2`` and ``p`` of Pearson's test
    against equal ones (None below five expected of each, where it does not hold)."""
    from scipy.stats import chisquare

    found: dict[int, dict[str, Any]] = {}
    for size, each in answer_positions(items).items():
        test = chisquare(each) if sum(each) >= 5 * size else None
        figures = (float(test.statistic), float(test.pvalue)) if test else (None, None)
        found[size] = {"counts": each, "chi2": figures[0], "p": figures[1]}
    return found


def longest_is_right(items: Iterable[Exam | Mcq]) -> tuple[int, int]:
    """How often the right choice alone is the longest, of how many items."""
    right = total = 0
    for one in items:
        if one.answer is not None:
            sizes = [len(text) for text in one.choices]
            right += sizes[one.answer - 1] == max(sizes) and sizes.count(max(sizes)) == 1
            total += 1
    return right, total


def quality(items: Sequence[Exam], others: Mapping[str, Sequence[Exam]]) -> dict[str, Any]:
    """The report: for each of ``NOTES`` the rows' ids, near-duplicates, ``position_skew``."""
    rows: dict[str, list[str]] = {name: [] for name in NOTES}
    checks = {
        "equal_choices": equal_choices,
        "plus_missing": plus_missing,
        "answer_in_text": answer_in_text,
        "reporters": lambda one: any(cleaned(one.passage)[1:]),
    }
    for one in items:
        for name, holds in checks.items():
            if holds(one):
                rows[name].append(one.id)
    duplicates = near_duplicates(items, others)
    rows["near_duplicates"] = [one.row for one in duplicates]
    return {
        "rows": rows,
        "near_duplicates": [vars(one) for one in duplicates],
        **skew(items),
    }


def skew(items: Sequence[Exam | Mcq]) -> dict[str, Any]:
    """What can be had without reading: the key's place (``position_skew``) and its length."""
    right, total = longest_is_right(items)
    return {
        "positions": {str(size): one for size, one in position_skew(items).items()},
        "longest_is_right": {"n": right, "of": total},
    }


def quality_lines(report: Mapping[str, Any], most: int = 5) -> list[str]:
    """The report for people, a line a figure."""
    lines = []
    for name, about in NOTES.items():
        if ids := report["rows"][name]:
            more = f" and {len(ids) - most} more" if len(ids) > most else ""
            lines.append(f"note: {len(ids)} rows: {about}: {', '.join(ids[:most])}{more}")
    splits = Counter(one["split"] for one in report["near_duplicates"] if one["split"])
    lines += [f"leak: {count} rows have a passage of {split}" for split, count in splits.items()]
    return lines + skew_lines(report)


def skew_lines(report: Mapping[str, Any]) -> list[str]:
    """The figures of ``skew`` for people."""
    lines = []
    for size, one in report["positions"].items():
        test = "" if one["p"] is None else f", chi-square {one['chi2']:.2f}, p {one['p']:.3f}"
        skew = "  (skewed)" if one["p"] is not None and one["p"] < 0.05 else ""
        lines.append(f"answers of {size} choices by position: {one['counts']}{test}{skew}")
    longest = report["longest_is_right"]
    if longest["of"]:
        lines.append(f"the longest choice is right in {longest['n']} of {longest['of']} rows")
    return lines
