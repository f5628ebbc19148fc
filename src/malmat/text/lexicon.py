"""Whether a text uses slang, by a dictionary alone: more careful than ``TermMatcher``.

A term list holds everyday words too (고구마, 각, 큰 그림), and most of their uses are
everyday ones. Each spelling is therefore graded by what Kiwi's own dictionary and
language model, which know little slang, make of it:

* coined (갓생, 폼 미쳤다): counts wherever it stands, inflected too;
* a phrase of known words that is still rare (오히려 좋아): counts as it is written;
* everyday: counts with evidence only. It is quoted, laughter follows the phrase, or
  words of its explanation stand near it (the simplified Lesk algorithm: Kilgarriff &
  Rosenzweig 2000, after Lesk 1986);
* one syllable (각, 러): counts as the end of a compound that no dictionary has
  (치킨각, 산책러), or its beginning where the explanation says that it goes in front.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from malmat.text.korean import normalize
from malmat.text.terms import (
    ListedTerm,
    Spelling,
    TermMatcher,
    Tokens,
    contains_any,
    is_content,
    is_word,
    occurrences,
    plain_text,
    spellings,
)

# Kiwi numbers the morphemes of its corpora by frequency; behind them come words from lists.
_UNKNOWN, _FREQUENT, _LISTED = (2, 3), 20_000, 50_000


_LONG = 6
"""Syllables from which a phrase that stands whole is no accident."""


_USUAL, _RARE = -5.5, -9.5
"""Log probability of a phrase's least likely morpheme …"""


_FIRST = -8.0
"""… and what the first, which nothing leads up to, is spared."""


_NEAR = 60
"""Characters on each side in which words of the explanation are looked for."""


_QUOTED = re.compile(r"['\"‘“「『][^'\"’”」』]{0,15}$"), re.compile(r"\s*['\"’”」』]")


_LAUGHTER = re.compile(r"\s*(?:[ㅋㅎㅠㅜ]|\.{2,}|…)")


_PREFIX = re.compile(r"접두|앞에 붙")


_OTHER_SPELLINGS = re.compile(  # how an explanation names them: 줄여서 광탈이라고도, '악개'로 줄여
    r"줄여서 '?([가-힣]{2,6}?)'?(?:이라고도|라고도|으로도|로도)"
    r"|'([가-힣]{2,6})'(?:(?:이라고도|라고도|으로도|로도)|(?:으로|로) 줄여)"
)


_WITHOUT_EVIDENCE = ("coined", "phrase")


_LIGHT = set("하되있없않같것거이")


class Grade(NamedTuple):
    """What counts as a use of one spelling of a term.

    Attributes:
        kind: ``coined``, ``phrase``, ``everyday`` or ``syllable``.
        inflects: whether its content morphemes in order are enough.
        apart: whether it may be written with spaces that the spelling does not have.
        closes: whether it ends as a sentence does.
    """

    kind: str
    inflects: bool = False
    apart: bool = False
    closes: bool = False


class SlangLexicon(TermMatcher):
    """As ``TermMatcher``, for judging usage: an everyday word counts with evidence only.

    Args:
        terms: rows with ``title`` and ``content``; ``forms`` are taken as they are.
        lenient: find too what ``TermMatcher`` finds: all that may be a use.
    """

    def __init__(self, terms: Iterable[dict], *, lenient: bool = False):
        terms = list(terms)
        self._lenient = lenient
        self._contents = {term["title"]: normalize(term.get("content") or "") for term in terms}
        super().__init__(terms)

    def _spellings(self, term: dict) -> list[str]:
        content = self._contents[term["title"]]
        known = spellings(term["title"])
        parts = [word for surface in known for word in surface.split() if f"'{word}'" in content]
        others = [match[1] or match[2] for match in _OTHER_SPELLINGS.finditer(content)]
        return list(dict.fromkeys([*known, *parts, *others]))

    def spellings_of(self, title: str) -> list[str]:
        """The spellings of a term: those of its title, and others that its explanation names."""
        return [spelling.text for spelling in self._terms[title].spellings]

    def _candidates(self, text: str, tokens: Tokens) -> Iterable[str]:
        """All: an explanation, or a compound, may show a term that is spelt in another way."""
        return self._terms

    def _before_words_are_added(self, kiwi: Any) -> None:
        self._explained = {
            title: {token.form for token in kiwi.tokenize(text) if _tells(token)}
            for title, text in self._contents.items()
        }
        common = Counter(word for words in self._explained.values() for word in words)
        limit = max(2, len(self._contents) // 50)
        for title, words in self._explained.items():
            own = {token.form for token in kiwi.tokenize(title)}
            self._explained[title] = {w for w in words - own if common[w] <= limit}
        bare = [s.text for term in self._terms.values() if not term.forms for s in term.spellings]
        self._grades = {surface: _grade(kiwi, surface) for surface in bare}

    def _stands_beside_forms(self, term: ListedTerm, text: str, tokens: Tokens) -> bool:
        return any(
            self._in_compound(term.title, plain, tokens())
            if re.fullmatch("[가-힣]", plain := plain_text(spelling.text))
            else self._as_a_word(spelling, text)
            for spelling in term.spellings
        )

    def _as_a_word(self, spelling: Spelling, text: str) -> bool:
        """Whether a coined word or phrase stands between word borders, which forms do not see:
        they are held against a text without spaces."""
        return any(is_word(match, text) for match in spelling.pattern.finditer(text)) and (
            _grade(self._kiwi, spelling.text).kind in _WITHOUT_EVIDENCE
        )

    def _stands(self, term: ListedTerm, text: str, tokens: Tokens) -> bool:
        _ = self._kiwi  # makes the grades
        if any(self._is_used(term.title, spelling, text, tokens) for spelling in term.spellings):
            return True
        return self._lenient and super()._stands(term, text, tokens)

    def _is_used(self, title: str, spelling: Spelling, text: str, tokens: Tokens) -> bool:
        grade, pattern = self._grades[spelling.text], spelling.pattern
        if grade.kind == "syllable":
            return self._in_compound(title, plain_text(spelling.text), tokens())
        matches = list(occurrences(pattern, text, tokens))
        if grade.kind in _WITHOUT_EVIDENCE:  # whatever morphemes Kiwi makes of 오히려좋아
            matches += [match for match in pattern.finditer(text) if is_word(match, text)]
        if any(self._counts(title, grade, match, text, tokens()) for match in matches):
            return True
        lemmas = self._lemmas(spelling)
        if not grade.inflects:  # a stem or its noun is telling; short morphemes, apart, are not
            lemmas = [s for s in lemmas if len(s) == 1 or _is_noun_and_verb(s)]
        return grade.kind == "coined" and contains_any(tokens, lemmas)

    def _counts(self, title: str, grade: Grade, match: re.Match, text: str, tokens: list) -> bool:
        """Whether a place where a spelling stands is a use of the term."""
        if " " in match.group() and not grade.apart:
            return False
        if grade.kind == "coined":
            return True
        if _goes_on(match, tokens):
            return False
        before, after = text[: match.start()], text[match.end() :]
        return (
            grade.kind != "everyday"
            or bool(_QUOTED[0].search(before) and _QUOTED[1].match(after))
            or (grade.closes and bool(_LAUGHTER.match(after)))
            or self._explained_near(title, match, tokens)
        )

    def _explained_near(self, title: str, match: re.Match, tokens: list) -> bool:
        """Whether words of the term's explanation stand around the match."""
        near = {
            token.form
            for token in tokens
            if match.start() - _NEAR <= token.start < match.end() + _NEAR
            and not match.start() <= token.start < match.end()
        }
        return bool(near & self._explained[title])

    def _in_compound(self, title: str, syllable: str, tokens: list) -> bool:
        """Whether a syllable ends (or, as a prefix, begins) a compound that no dictionary has."""
        in_front = bool(_PREFIX.search(self._contents[title]))
        words = [token for token in tokens if token.tag not in ("SSO", "SSC", "SW")]
        for before, token, after in zip([None, *words], words, [*words[1:], None], strict=False):
            found = False
            if token.form == syllable and token.tag[0] in "NM":
                if in_front:
                    found = after and after.tag[0] == "N" and after.start == token.end
                else:
                    found = before and _heads(before, token, after)
            elif token.id in _UNKNOWN and len(token.form) > 2:
                if in_front:
                    found = token.form[0] == syllable
                else:
                    found = token.form[-1] == syllable and _is_noun(self._kiwi, token.form[:-1])
            if found:
                return True
        return False


def _tells(token: Any) -> bool:
    """Whether a morpheme of an explanation says what it is about."""
    return len(token.form) > 1 and token.tag.split("-")[0] in ("NNG", "NNP", "VV", "VA", "XR", "SL")


def _grade(kiwi: Any, surface: str) -> Grade:
    fixed = plain_text(surface)
    tokens = [token for token in kiwi.tokenize(fixed) if token.tag[0] != "S" or token.tag == "SL"]
    if not tokens or _coined(tokens):
        return Grade("coined", inflects=True, apart=True)
    syllables = len(re.findall("[가-힣]", fixed))
    if syllables == 1:
        return Grade("syllable")
    content = [token for token in tokens if is_content(token)]
    closes = tokens[-1].tag[0] == "E"
    if " " in fixed:
        least = min(tokens[0].score - _FIRST, *(token.score for token in tokens[1:]))
        telling = sum(token.form not in _LIGHT for token in content)
        if (least <= _RARE and telling > 1) or telling > 3:
            return Grade("coined", inflects=True, apart=True)
        usual = least > _USUAL and syllables < _LONG
        return Grade("everyday" if usual else "phrase", apart=True, closes=closes)
    if len(content) > 1:
        compound = all(token.tag[0] == "N" and len(token.form) > 1 for token in tokens)
        return Grade("coined", apart=compound or syllables >= _LONG)
    rank = max((token.id for token in content), default=0)
    kind = "everyday" if rank < _FREQUENT else "phrase" if rank < _LISTED else "coined"
    return Grade(kind, closes=closes)


def _is_noun_and_verb(lemmas: list[tuple[str, str]]) -> bool:
    return [tag for _, tag in lemmas] == ["N", "V"] and len(lemmas[0][0]) > 1


def _coined(tokens: list) -> bool:
    """Whether something in it is in no dictionary, or only in a list of names."""
    return any(
        token.id in _UNKNOWN
        or token.tag in ("SL", "SW")
        or (token.tag == "NNP" and token.id > _LISTED)
        for token in tokens
    )


def _goes_on(match: re.Match, tokens: list) -> bool:
    """Whether a noun follows without a space: 메타인지 is another word than 메타."""
    return any(token.start == match.end() and token.tag[0] == "N" for token in tokens)


def _heads(before: Any, token: Any, after: Any) -> bool:
    """Whether a syllable is the head of a compound: 치킨 각, 할 각, 아이스크림각이다."""
    if after and after.tag[0] in "NX" and (token.tag[0] == "M" or after.start == token.end):
        return False
    gap = token.start - before.end
    if before.tag == "ETM":
        return before.form in ("ᆯ", "을") and 1 <= gap <= 2
    known = before.id not in _UNKNOWN or gap > 0
    return before.tag in ("NNG", "NNP", "SL", "XR") and gap <= 2 and known


def _is_noun(kiwi: Any, word: str) -> bool:
    tokens = kiwi.tokenize(word)
    return len(tokens) == 1 and tokens[0].tag[0] == "N" and tokens[0].id not in _UNKNOWN
