"""Korean text: normal form, final consonants, particles."""

from __future__ import annotations

import re
import unicodedata

# Conjoining jamo (ᄋ U+110B) → compatibility jamo (ㅇ U+3147). NFKC and NFKD, which some tokenizers
# apply, decompose the latter to the former.
_JAMO = {ord(unicodedata.normalize("NFKD", chr(code))): chr(code) for code in range(0x3131, 0x3164)}
_JAMO |= {  # trailing consonants, U+11A8…, by the name they share with the leading ones
    code: unicodedata.lookup("HANGUL LETTER " + unicodedata.name(chr(code)).split()[-1])
    for code in range(0x11A8, 0x11C3)
    if "-" not in unicodedata.name(chr(code)).split()[-1]
}


_DOTS = re.compile("[\u318d\u119e]")


EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]")
"""Pictographs and their joiners (not ♥-free typing habits such as ㅋㅋ or ^^)."""


_PICTURE = "[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]"


# Characters without width: soft hyphen, joiners, marks of direction, invisible operators, byte
# order mark, fillers of conjoining jamo. A joiner between two pictographs makes them one.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
    f"|(?<!{_PICTURE})\u200d|\u200d(?!{_PICTURE})"
)


_BLANKS = re.compile("[\u2800\u3164\uffa0]")
"""Empty letters, typed for a space: a Braille pattern without dots, the Hangul fillers."""


_ODD = re.compile(
    "[\u00ad\u034f\u061c\u1100-\u11ff\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\u2800"
    "\u3164\uffa0\ufeff]"
)
"""What ``normalize`` may change beyond NFC: it spares most texts the slower steps."""


def normalize(text: str) -> str:
    """The text in the one form in which all texts are compared and trained.

    Characters without width go, empty letters become spaces, the rest is NFC, and conjoining
    jamo that stand alone are turned back: ᄋᄋ ᄅᄋ → ㅇㅇ ㄹㅇ. Idempotent. Composed syllables,
    Latin letters and symbols stay as they are.
    """
    if text.isascii():
        return text
    if not _ODD.search(text):
        return unicodedata.normalize("NFC", text)
    text = _BLANKS.sub(" ", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", text).translate(_JAMO)


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: spaces, empty letters, characters without width."""
    return not normalize(text).strip()


def fold(text: str) -> str:
    """The text for comparison: ``normalize``, and compatibility forms such as Ｔ and ① as T and 1.

    Jamo are spared: under NFKC ㅋㅠ would become 큐. The vowel ㆍ (arae-a), which people type for a
    middle dot, becomes one.
    """
    text = _DOTS.sub("·", normalize(text)).replace("ᆢ", "··")
    if unicodedata.is_normalized("NFKC", text):
        return text
    return normalize(re.sub("[^ㄱ-ㅣ]+", lambda m: unicodedata.normalize("NFKC", m[0]), text))


def hangul_share(text: str) -> float:
    """Share of letters that are Hangul syllables or jamo, 0 where there are no letters."""
    letters = [character for character in normalize(text) if character.isalpha()]
    if not letters:
        return 0.0
    hangul = sum("가" <= c <= "힣" or "ㄱ" <= c <= "ㅣ" for c in letters)
    return hangul / len(letters)


def last_sounded(word: str) -> str:
    """The last letter that is read aloud: closing brackets, quotes and marks are passed over."""
    return normalize(word).rstrip("\"'”’)]」』》〉~!?. ")[-1:]


def has_final(word: str) -> bool:
    """Whether the last syllable has a final consonant (digits as they are read in Korean)."""
    last = last_sounded(word)
    if "가" <= last <= "힣":
        return (ord(last) - 0xAC00) % 28 != 0
    return last in set("013678LMNRlmnr") or "ㄱ" <= last <= "ㅎ"


def with_particle(word: str, pair: str) -> str:
    """The word with the fitting particle of a pair, as ``with_particle("갓생", "은/는")``."""
    closed, opened = pair.split("/")
    takes_closed = has_final(word)
    if takes_closed and closed == "으로":  # 로 follows ㄹ too: 서울로
        takes_closed = not ends_in_rieul(word) and last_sounded(word) not in set("ㄹ178LRlr")
    return word + (closed if takes_closed else opened)


def ends_in_rieul(word: str) -> bool:
    """Whether the last syllable ends in ㄹ, as in 서울."""
    return unicodedata.normalize("NFD", last_sounded(word))[-1:] == "\u11af"
