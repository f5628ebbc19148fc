"""Tidies the utterances of chat dialogues, step by step, and keeps what they say.

Each step but the last rewrites one utterance; an utterance that it empties is deleted. A marked
utterance is never deleted, emptied or merged with another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

JAMO = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\ud7b0-\ud7ff\uffa1-\uffdc"
"""Jamo of all Unicode blocks, for a character class."""

MARKS = ".,?!~…"
"""Marks that may close a word."""


def tidied(text: str) -> str:
    """Without the blanks that a deletion leaves behind."""
    return " ".join(text.split())


def collapse_spaces(text: str) -> str:
    """Each run of line breaks, tabs and spaces → one space."""
    return tidied(text)


_YES = re.compile(rf"(?<![\w{JAMO}])[ㅇᄋᆼ]{{2,}}(?=[ㅋㅎㅠㅜ]|[^\w{JAMO}]|$)")


def spell_yes(text: str) -> str:
    """ㅇㅇ, ㅇㅇㅇ … as a word, or before laughter → 응."""
    return _YES.sub("응", text)


def shorten_marks(text: str) -> str:
    """Four points or more → three, three question marks or more → two, …… → …"""
    text = re.sub(r"\.{4,}", "...", text)
    return re.sub("…{2,}", "…", re.sub(r"\?{3,}", "??", text))


_TO = r"\s*[~∼〜～-]\s*"
_SIGN = re.compile(
    r"(?P<kept>(?:https?://|www\.)\S+"
    r"|(?<=[^\W_])[/·ㆍ@'’](?=[^\W_])"  # 3/4, A/S, 남/여
    r"|(?<=[A-Za-z0-9])[-_*:×&](?=[A-Za-z0-9])|(?<=[가-힣])&(?=[가-힣])"  # 7:30, e-mail, AT&T
    r"|(?<=\w)-(?=\d)|(?<=\d)-(?=\w)|(?<=[A-Za-z])-(?=\w)"  # 코로나-19, K-팝
    r"|(?<![^\s(])[-~](?=\d)"  # -5도, ~3시
    # 3~4시, 3시~4시, 3만원 ~ 4만원, 오전 9시~오후 6시
    rf"|(?:(?<=\d)|(?<=\d[가-힣A-Za-z%℃])|(?<=\d[가-힣A-Za-z][가-힣A-Za-z])){_TO}"
    r"(?=(?:(?:오전|오후|새벽|아침|낮|저녁|밤|다음 ?날|내일)\s*)?\d)"
    rf"|(?<=[월화수목금토일]){_TO}(?=[월화수목금토일](?:요일|(?![가-힣])))"
    r"|(?<=\w)\s*[=×÷<>]\s*(?=\w)|(?<=\w)(?:\++|#)|[+#](?=\w)"  # 1+1, C++, A+, #맛집
    r"|(?<=\d)\s*[%‰°′″$€£¥₩￦]|[$€£¥₩￦±](?=\d)"
    r"|[\"'‘’“”「」『』]|\((?=[^()]*\w[^()]*\))|(?<=\w)\)"
    r"|[^\W_]|[\s.,?…])|.",
    re.DOTALL,
)
"""A letter, or a sign that ``delete_symbols`` keeps, as it joins or qualifies some; or another."""

_EMOTICON = re.compile(r"(?<!\w)[:;=]['^-]?[)(DPpOo3]+(?!\w)|\^[\w.]\^|>[.\w]?<|-[_.]-")


def _or_nothing(match: re.Match) -> str:
    # ㎏, ℃ and ① are signs that stand for letters and digits.
    plain = unicodedata.normalize("NFKC", match[0])
    return match[0] if match["kept"] or any(map(str.isalnum, plain)) else "\0"


def delete_symbols(text: str) -> str:
    """Signs that say nothing: hearts, stars, tildes that lengthen, emoticons, exclamation marks.

    Times, dates, ranges, fractions, decimals, per cents, units, Latin words stay.
    """
    found = _SIGN.sub(_or_nothing, _EMOTICON.sub("\0", text))
    if found == text:
        return text
    # Words that a sign stood between stay two; a sign beside a blank or a mark leaves nothing.
    return tidied(re.sub(r"(?<=\w)\0+(?=\w)", " ", found).replace("\0", ""))


_HELLO = re.compile(
    rf"(?<!\S)(?:안녕|안뇽|안녕하세[요여용]|안녕하셔요|안녕하십니까|안녕하신가요)[{re.escape(MARKS)}]*(?!\S)"
)
_ALONE = re.compile(
    r"(?:하이|하잉|하이요|헬로우?|방가(?:방가)?|반갑습니다|반가워요?|ㅎㅇ|(?i:hi|hello))"
    rf"[\s{re.escape(MARKS)}]*"
)


def delete_greetings(text: str) -> str:
    """안녕 and its kin as whole words, others (하이, 반갑습니다) as whole utterances."""
    found = _HELLO.sub(" ", text)
    if _ALONE.fullmatch(found.strip()):
        return ""
    return text if found == text else tidied(found)


def number_speakers(text: str) -> str:
    """name1 → 화자1, name10 → 화자10."""
    return re.sub(r"(?<![A-Za-z0-9_])name(\d+)(?!\d)", r"화자\1", text)


_BESIDE = re.escape(MARKS) + "()'\""
_ONLY_JAMO = re.compile(rf"(?<!\S)[{_BESIDE}]*[{JAMO}][{JAMO}{_BESIDE}]*(?!\S)")


def delete_jamo(text: str) -> str:
    """Words of jamo alone (ㅋㅋ, ㅠㅠ..); ㄱ자로 and 좋아ㅋㅋ stay."""
    found = _ONLY_JAMO.sub(" ", text)
    return text if found == text else tidied(found)


def delete_wordless(text: str) -> str:
    """An utterance without a letter or digit → nothing."""
    return text if any(map(str.isalnum, text)) else ""


TEXT_STEPS: dict[str, Callable[[str], str]] = {
    "spaces": collapse_spaces,
    "yes": spell_yes,
    "marks": shorten_marks,
    "symbols": delete_symbols,
    "greetings": delete_greetings,
    "names": number_speakers,
    "jamo": delete_jamo,
    "wordless": delete_wordless,
}
MERGE = "merge"
STEPS = (*TEXT_STEPS, MERGE)
"""The names of all steps, in their order."""

Utterance = Mapping[str, Any]
"""``speaker``, ``utterance``, and its ids as the list ``utterance_id``."""


@dataclass(frozen=True)
class Change:
    """What a step did to an utterance.

    Args:
        step: its name.
        ids: of the utterance.
        before, after: its text; "" after a deletion.
        guarded: the step would have emptied a marked utterance, and left it as it was.
    """

    step: str
    ids: list[str] = field(repr=False)
    before: str
    after: str
    guarded: bool = False


def tidy(
    conversation: list[Utterance], marked: Collection[str], steps: Collection[str] = STEPS
) -> tuple[list[Utterance], list[Change]]:
    """The conversation after the steps, and what each of them changed.

    The steps are repeated until none changes anything, so that tidying twice is tidying once.

    Args:
        conversation: ``{speaker, utterance, utterance_id}``; ids are lists.
        marked: the ids of marked utterances.
        steps: those of ``STEPS`` that are taken.
    """
    changes: list[Change] = []
    while True:
        before = conversation
        for name in (name for name in STEPS if name in steps):
            do = _merged if name == MERGE else _rewritten
            conversation, done = do(conversation, set(marked), name)
            changes += [one for one in done if not (one.guarded and one in changes)]
        if conversation == before:
            return conversation, changes


def _rewritten(
    conversation: list[Utterance], marked: set[str], name: str
) -> tuple[list[Utterance], list[Change]]:
    kept: list[Utterance] = []
    changes: list[Change] = []
    for one in conversation:
        before, ids = one["utterance"], one["utterance_id"]
        after = TEXT_STEPS[name](before)
        guarded = not after and bool(before) and not marked.isdisjoint(ids)
        if after != before:
            changes.append(Change(name, ids, before, before if guarded else after, guarded))
        if guarded or not marked.isdisjoint(ids):
            kept.append({**one, "utterance": before if guarded else after})
        elif after:
            kept.append({**one, "utterance": after})
    return kept, changes


def _merged(
    conversation: list[Utterance], marked: set[str], name: str
) -> tuple[list[Utterance], list[Change]]:
    """Neighbours of one speaker as one utterance, where neither is marked."""
    kept: list[Utterance] = []
    changes: list[Change] = []
    for group in _of_one_speaker(conversation, marked):
        first, *others = group
        if others:
            text = " ".join(one["utterance"] for one in group)
            ids = [i for one in group for i in one["utterance_id"]]
            changes.append(Change(name, ids, "\n".join(one["utterance"] for one in group), text))
            first = {**first, "utterance": text, "utterance_id": ids}
        kept.append(first)
    return kept, changes


def _of_one_speaker(conversation: list[Utterance], marked: set[str]) -> Iterator[list[Utterance]]:
    group: list[Utterance] = []
    for one in conversation:
        alone = not marked.isdisjoint(one["utterance_id"])
        if group and not alone and str(group[-1]["speaker"]) == str(one["speaker"]):
            group.append(one)
            continue
        if group:
            yield group
        group = [one]
        if alone:
            yield group
            group = []
    if group:
        yield group
