"""Finds slang terms in text, inflected and varied forms included."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from malmat.text.korean import ends_in_rieul, fold, normalize

Tokens = Callable[[], list]
"""The text's morphemes, analysed when first asked for."""

# Not inside a word or a run of jamo: GOOD, 100 and ㅇㅇㅈ have none.
_PLACEHOLDER = re.compile(
    r"(?<![A-Za-z0-9ㄱ-ㅣ])(?:[OoＯ○◯0ㅇ]{2,}|[□XxＸ]{2,})(?![A-Za-z0-9ㄱ-ㅣ])|[~∼～…]+|\.{2,}"
)

_CONTENT = ("N", "V", "M", "XR", "XP", "XS", "IC", "SL", "SH", "SN", "SW", "W")

_SKIP = ("J", "E", "SF", "SP", "SS", "SE", "SO", "XSN", "VCP", "Z")

# Stems that stand in any talk. Of 가보자고 nothing but them is left without its ending, and 거기 가
# 봤는데 is no use of it.
_STEMS = (
    "하 되 있 없 가 오 보 주 받 알 모르 같 좋 많 크 먹 자 살 사 나 내 들 놓 두 맞 싶 않 못하 쓰 서 "
    "지 듣 말하 나오 만들 찾 앉 놀 그러 그렇 이렇 어떻 이러 어쩌"
)
_EVERYDAY = frozenset((stem, kind) for stem in _STEMS.split() for kind in ("V", "VX"))

_TITLE_SPLIT = re.compile(r"\s*[/,|·]\s*|\s+vs\.?\s+|\s*[(（]([^)）]*)[)）]\s*", re.IGNORECASE)

# In brackets, but no second spelling: 갓(유행어), 미친 (POSITIVE), 선(先)학개미.
_LABEL = re.compile(
    r"\s*[(（](?:[一-鿿]+|유행어|신조어|은어|속어|밈|인터넷 용어|positive|negative)[)）]",
    re.IGNORECASE,
)


Lemmas = list[tuple[str, str]]
"""Content morphemes in order: form, and first letter of the tag, VX for auxiliary verbs (``*``: any
few words)."""


@dataclasses.dataclass
class Spelling:
    """One spelling of a term.

    Attributes:
        word: the spelling as (word, tag) of the dictionary, if it is one word.
        noun_and_verb: its readings as a noun and a verb written together.
        open_end: whether it ends in an ending, which may go on: 되겠냐, 되겠냐고.
        lemmas: the sequences of content morphemes that show it; None until they are needed.
    """

    text: str
    word: tuple[str, str] | None = None
    noun_and_verb: list[Lemmas] = dataclasses.field(default_factory=list)
    open_end: bool = False
    lemmas: list[Lemmas] | None = None

    @functools.cached_property
    def pattern(self) -> re.Pattern:
        return surface_pattern(self.text)


@dataclasses.dataclass
class ListedTerm:
    title: str
    forms: list[re.Pattern]
    spellings: list[Spelling]


class TermMatcher:
    """Finds slang terms in text: the term itself, an inflection, or a spelling variant.

    Three ways, from strict to lenient, each on normalized text:

    1. the term's own ``forms`` (regular expressions on text without spaces), where
       the term list gives them;
    2. its spelling, where it begins at a morpheme's start and ends at a morpheme's
       end (kiwipiepy, with all terms added as words), so that 각 is not found in
       생각, with any spacing inside the term;
    3. for phrases, its content morphemes in order with nothing but particles,
       endings and punctuation between them, so that an inflection is found:
       폼 미쳤다 → 폼이 미쳤네; a placeholder (OO, ~) stands for any few words.

    Args:
        terms: rows with ``title`` and, optionally, ``forms``.
    """

    def __init__(self, terms: Iterable[dict]):
        self._terms = {
            term["title"]: ListedTerm(
                term["title"],
                [re.compile(form) for form in term.get("forms") or ()],
                [Spelling(text) for text in self._spellings(term)],
            )
            for term in terms
        }
        self._places = {title: place for place, title in enumerate(self._terms)}

    def _spellings(self, term: dict) -> list[str]:
        return spellings(term["title"])

    def _before_words_are_added(self, kiwi: Any) -> None:
        """What a subclass asks the dictionary while it does not hold the terms yet."""

    @functools.cached_property
    def _kiwi(self) -> Any:
        """The morphology, loaded when first needed (a second or so; ``forms`` do without it)."""
        from kiwipiepy import Kiwi

        kiwi = Kiwi(num_workers=1)
        bare = [s for term in self._terms.values() if not term.forms for s in term.spellings]
        for spelling in bare:
            spelling.word = _user_word(kiwi, spelling.text)
            spelling.noun_and_verb = _noun_and_verb(kiwi, spelling.text)
            spelling.open_end = any(t.tag[0] == "E" for t in kiwi.tokenize(spelling.text)[-1:])
        self._before_words_are_added(kiwi)
        words = [spelling.word for spelling in bare if spelling.word]
        nouns = [(s.noun_and_verb[0][0][0], "NNP") for s in bare if s.noun_and_verb]
        for word in dict.fromkeys(words + nouns):
            kiwi.add_user_word(*word, 0.0)
        return kiwi

    def prepare(self) -> None:
        """Load now what ``find`` will need."""
        if any(not term.forms for term in self._terms.values()):
            _ = self._kiwi

    def _lemmas(self, spelling: Spelling) -> list[Lemmas]:
        """The content morphemes of a spelling; of one word, as they are without that word in
        the dictionary."""
        kiwi, word = self._kiwi, spelling.word
        if spelling.lemmas is None:
            readings = [_content_lemmas(kiwi, spelling.text, [word] if word else [])]
            if word and word[1] == "VV":
                readings.append([(word[0], "V")])
            readings += spelling.noun_and_verb
            spelling.lemmas = [r for r in readings if _tells(r, spelling.text)]
        return spelling.lemmas

    def find(self, text: str, only: str | None = None) -> list[str]:
        """Titles of the terms that stand in ``text``, in the order of the term list.

        Args:
            only: look for the term of this title alone.
        """
        texts = [normalize(text)]
        if _letters(folded := fold(text)) != _letters(texts[0]):  # ＴＭＩ as TMI
            texts.append(folded)
        shown = {title for one in texts for title in self._find(one, only)}
        return sorted(shown, key=self._places.__getitem__)

    def _find(self, text: str, only: str | None) -> list[str]:
        squeezed = re.sub(r"\s+", "", text)
        tokens = functools.cache(lambda: self._kiwi.tokenize(text))
        found = []
        for title in self._candidates(text, tokens) if only is None else [only]:
            term = self._terms[title]
            if term.forms:
                hit = any(form.search(squeezed) for form in term.forms)
                hit = hit or self._stands_beside_forms(term, text, tokens)
            else:
                hit = self._stands(term, text, tokens)
            if hit:
                found.append(title)
        return found

    def _candidates(self, text: str, tokens: Tokens) -> Iterable[str]:
        """Titles of the terms that may stand in the text: without this, rows times terms would be
        looked at."""
        with_forms, letters, morphemes = self._beginnings
        found = dict.fromkeys(with_forms)
        plain = _as_compared(text) if letters else ""
        for beginning in {plain[i : i + n] for i in range(len(plain)) for n in (1, 2)}:
            found |= dict.fromkeys(letters.get(beginning, ()))
        content = content_lemmas(tokens()) if morphemes else []
        for start in {*((lemma,) for lemma in content), *itertools.pairwise(content)}:
            found |= dict.fromkeys(morphemes.get(start, ()))
        return found

    @functools.cached_property
    def _beginnings(self) -> tuple[list[str], dict[str, list[str]], dict[tuple, list[str]]]:
        """The titles of terms with forms; of the others by their first two letters, and by their
        first two morphemes."""
        with_forms = [title for title, term in self._terms.items() if term.forms]
        letters: dict[str, list[str]] = defaultdict(list)
        morphemes: dict[tuple, list[str]] = defaultdict(list)
        for title, term in self._terms.items():
            for spelling in () if term.forms else term.spellings:
                letters[_as_compared(_fixed_parts(spelling.text)[0])[:2]].append(title)
                for lemmas in self._lemmas(spelling):
                    alone = len(lemmas) == 1 or lemmas[1][1] == "*"
                    morphemes[tuple(lemmas[: 1 if alone else 2])].append(title)
        return with_forms, letters, morphemes

    def _stands_beside_forms(self, term: ListedTerm, text: str, tokens: Tokens) -> bool:
        """Whether a term that has forms is used in a way that no form can list."""
        return False

    def _stands(self, term: ListedTerm, text: str, tokens: Tokens) -> bool:
        """Whether a term without forms stands in the text."""
        _ = self._kiwi  # with which it is known whether a spelling's end is open
        return any(
            any(is_word(match, text) for match in s.pattern.finditer(text))
            or any(True for _ in occurrences(s.pattern, text, tokens, open_end=s.open_end))
            or contains_any(tokens, self._lemmas(s))
            for s in term.spellings
        )


def _tells(lemmas: Lemmas, surface: str) -> bool:
    """Whether morphemes in any inflection show a term: several, or a verb, but no everyday verbs
    alone, unless the title is in dictionary form (보고싶다)."""
    enough = len(lemmas) > 1 or bool(lemmas and lemmas[0][1] == "V")
    return enough and (surface.endswith("다") or not _EVERYDAY.issuperset(lemmas))


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", text)


def _as_compared(text: str) -> str:
    """Without spaces, and with letters alike that a pattern takes for alike (IGNORECASE)."""
    return re.sub(r"[\s\u0307]+", "", text.casefold()).replace("ı", "i")


def is_word(match: re.Match, text: str) -> bool:
    """Whether a match begins and ends where words do, which needs no morphology."""
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return not before.isalnum() and not after.isalnum()


def occurrences(
    pattern: re.Pattern, text: str, tokens: Tokens, *, open_end: bool = False
) -> Iterator[re.Match]:
    """Where a surface stands in the text: from a morpheme's start to a morpheme's end.

    Args:
        open_end: it may end within an ending, too.
    """

    def ends(token: Any, match: re.Match) -> bool:
        if token.end == match.end():
            return len(match.group()) > 1 or token.tag[0] != "V"  # 썰 is no use of 썰었다
        return open_end and token.tag[0] == "E" and token.start < match.end() < token.end

    for match in pattern.finditer(text):
        if _is_jamo(match.group()) or (
            any(token.start == match.start() for token in tokens())
            and any(ends(token, match) for token in tokens())
        ):
            yield match


def contains_any(tokens: Tokens, lemmas: list[Lemmas]) -> bool:
    """Whether one of the sequences of lemmas stands among the content morphemes."""
    if not lemmas:  # of one word: the text needs no analysis
        return False
    content = content_lemmas(tokens())
    return any(_contains(content, sequence) for sequence in lemmas)


def content_lemmas(tokens: list) -> Lemmas:
    """A text's morphemes without its particles, endings and marks."""
    return [(t.form, _kind(t.tag)) for t in tokens if not t.tag.startswith(_SKIP)]


def _kind(tag: str) -> str:
    return tag if tag == "VX" else tag[0]


def spellings(title: str) -> list[str]:
    """The spellings a title names: 'A/B', 'A(B)', 'A vs B' and 'A, B' are several."""
    title = _LABEL.sub("", fold(title))
    parts = [part.strip() for part in _TITLE_SPLIT.split(title) if part]
    return [part for part in dict.fromkeys(parts) if part.strip("~ ")]


def _parts(surface: str) -> list[str]:
    """The surface cut at its placeholders, each then a lone NUL; ㅇㅇ by itself is a word."""
    parts = re.split(r"(\x00)", _PLACEHOLDER.sub("\x00", surface))
    return parts if any(part.strip("\x00 ") for part in parts) else [surface]


def plain_text(surface: str) -> str:
    """The surface without its placeholders and the marks around it."""
    return " ".join(_fixed_parts(surface)).strip("~∼～?!.… ")


def _fixed_parts(surface: str) -> list[str]:
    return [part.strip() for part in _parts(surface) if part.strip("\x00 ")]


def is_content(token: Any) -> bool:
    """Whether a morpheme carries meaning of its own (no particle, ending or copula)."""
    return token.tag.startswith(_CONTENT) and not token.tag.startswith(_SKIP)


def _is_jamo(text: str) -> bool:
    return all("ㄱ" <= character <= "ㅣ" for character in text)


def _user_word(kiwi: Any, surface: str) -> tuple[str, str] | None:
    """A title that is one word, as (word, tag) for the dictionary: a predicate by its stem."""
    surface = surface.strip("~∼～ ")
    if not re.fullmatch(r"[가-힣A-Za-z0-9]+", surface) or len(surface) < 2:
        return None
    *parts, last = kiwi.tokenize(surface)
    if last.form in ("다", "ᆫ다", "는다") and last.tag == "EF":  # 킹받다, 지린다
        stem = surface[:-1] if last.form == "다" else "".join(part.form for part in parts)
        if len(stem) > 1:  # as a word of the dictionary one syllable cuts others up: 저쩔
            return stem, "VV"
    return surface, "NNP"


def _noun_and_verb(kiwi: Any, surface: str) -> list[Lemmas]:
    """Lemmas of a title that writes a noun and a verb as one word: 갓생살다 → 갓생, 살."""
    if not re.fullmatch("[가-힣]{4,}", surface) or not surface.endswith("다"):
        return []
    for cut in range(2, len(surface) - 1):
        noun, verb = surface[:cut], kiwi.tokenize(surface[cut:])
        if (
            [token.tag[:2] for token in verb] in (["VV", "EF"], ["VA", "EF"])
            and verb[0].form not in ("하", "되", "지")  # 고급지다 is no noun with a verb
            and all(token.tag[0] in "NMX" for token in kiwi.tokenize(noun))
        ):
            stem = verb[0].form
            stems = [stem, stem[:-1] + chr(ord(stem[-1]) - 8)] if ends_in_rieul(stem) else [stem]
            return [[(noun, "N"), (form, "V")] for form in stems]  # 갓생을 사는: the ㄹ is dropped
    return []


def _content_lemmas(kiwi: Any, surface: str, without: list[tuple[str, str]]) -> Lemmas:
    """Content morphemes as (form, first letter of the tag); the last ending dropped.

    Args:
        without: (word, tag) that the dictionary is read without.
    """
    lemmas = []
    for part in _parts(surface):
        if part == "\x00":
            lemmas.append(("", "*"))
        else:
            lemmas += [
                (token.form, _kind(token.tag))
                for token in kiwi.tokenize(part, blocklist=without)
                if is_content(token)
            ]
    while lemmas and lemmas[0][1] == "*":
        lemmas.pop(0)
    while lemmas and lemmas[-1][1] == "*":
        lemmas.pop()
    return lemmas


def surface_pattern(surface: str) -> re.Pattern:
    """Finds a spelling with any spacing inside it."""
    body: list[str] = []
    for part in _parts(surface):
        if part == "\x00":
            if body:
                body.append(r"\S{1,12}(?:\s\S{1,12}){0,2}?")
        elif part.strip():
            letters = [re.escape(character) for character in part if not character.isspace()]
            body.append(r"\s?".join(letters))
    pattern = r"\s?".join(body)
    first, last = surface[0], surface[-1]
    if "ㄱ" <= first <= "ㅣ":  # ㄹㅇ must not be found inside another run of jamo …
        pattern = r"(?<![ㄱ-ㅣ])" + pattern
    if "ㄱ" <= last <= "ㅣ":  # … though laughter may follow: ㄹㅇㅋㅋ
        pattern += rf"{last}*(?=[ㅋㅎㅠㅜ]|(?![ㄱ-ㅣ]))"
    if re.match(r"[A-Za-z]", first):
        pattern = r"(?<![A-Za-z])" + pattern
    if re.match(r"[A-Za-z]", last):
        pattern += r"(?![A-Za-z])"
    return re.compile(pattern, re.IGNORECASE)


def _contains(tokens: Lemmas, lemmas: Lemmas) -> bool:
    """Whether the lemmas stand in the tokens in order, gaps only at placeholders (≤ 6 tokens)."""

    def follow(position: int, index: int) -> bool:
        if index == len(lemmas):
            return True
        if lemmas[index][1] == "*":
            return any(follow(position + gap, index + 1) for gap in range(1, 7))
        return (
            position < len(tokens)
            and tokens[position] == lemmas[index]
            and follow(position + 1, index + 1)
        )

    return any(follow(start, 0) for start in range(len(tokens)))
