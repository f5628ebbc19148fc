"""Text whose UTF-8 bytes were read as another encoding: 안녕 as "ìëë" or "�븞�뀞"."""

from __future__ import annotations

import re

_ENOUGH = 0.6
"""Share of the bytes beyond ASCII that must form Hangul when they are read as UTF-8 again."""

_FEWEST = 2
"""Hangul syllables below which a text is too short to tell."""


_ASCII = bytes(range(128))


_UNREAD = re.compile(f"[^\\x00-\\xff{bytes(range(128, 160)).decode('cp1252', 'ignore')}]+")
"""Letters that neither Latin-1 nor Windows' form of it gives."""


_LOST = 0.2
"""Share of U+FFFD in the letters beyond ASCII from which a text is lost."""


_COMMON = 0.9
"""Share of everyday syllables in the letters beyond ASCII from which a text is as it was written,
though its bytes may form Hangul once more (보통보통보통): what CP949 makes of UTF-8 is Hanja and
syllables that nobody writes."""


def damage(text: str) -> str | None:
    """How the letters of a Korean text came to harm, in words; None for a sound text."""
    if encoding := misread_as(text):
        return f"UTF-8 that was read as {encoding}"
    beyond = [letter for letter in text if not letter.isascii()]
    if beyond and beyond.count("\ufffd") >= max(_FEWEST, _LOST * len(beyond)):
        return "some were lost (U+FFFD)"
    if any("가" <= letter <= "힣" for letter in text):
        return None
    hangul = len(re.findall("[가-힣]", _as_latin_1(text).decode("cp949", "ignore")))
    if hangul > _FEWEST and 2 * hangul >= _ENOUGH * len(beyond):
        return "CP949 that was read as Latin-1"
    return None


def misread_as(text: str) -> str | None:
    """The encoding that UTF-8 Korean was read in by mistake: ``CP949``, ``Latin-1`` (or
    twice so), ``Mac Roman``, or None.

    The text is turned back into bytes and read as UTF-8. Real Korean gives no Hangul that way:
    its CP949 bytes do not begin as UTF-8 does, and Latin-1 does not have it.
    """
    if text.isascii():
        return None
    once = _as_latin_1(text)
    if _is_korean(once) or _is_korean(_as_latin_1(once.decode("utf-8", "ignore"))):
        return "Latin-1"
    if _is_korean(text.encode("mac_roman", "ignore")):
        return "Mac Roman"
    if _common_share(text) > _COMMON:
        return None
    # What CP949 could not read became U+FFFD or "?": one byte, or two, by the reader.
    parts = [part.encode("cp949", "ignore") for part in re.split("[\ufffd?]", text)]
    for lost in (b"", b"\xec", b"\xec\x95") if len(parts) > 1 else (b"",):
        if _is_korean(lost.join(parts)):
            return "CP949"
    return None


def _as_latin_1(text: str) -> bytes:
    """The bytes that Latin-1, or Windows' form of it, reads as ``text``; "?" for letters of
    neither."""
    return b"".join(
        run.encode("latin-1") if ord(run[0]) < 256 else run.encode("cp1252")
        for run in re.findall("[\\x00-\\xff]+|[^\\x00-\\xff]+", _UNREAD.sub("?", text))
    )


def _common_share(text: str) -> float:
    """Share of the syllables of KS X 1001 in the letters beyond ASCII, without those lost."""
    letters = [letter for letter in text if not letter.isascii() and letter != "\ufffd"]
    data = "".join(letter for letter in letters if "가" <= letter <= "힣").encode("cp949")
    pairs = zip(data[::2], data[1::2], strict=True)
    common = sum(0xB0 <= first <= 0xC8 and second >= 0xA1 for first, second in pairs)
    return common / max(1, len(letters))


def _is_korean(data: bytes) -> bool:
    beyond = len(data.translate(None, _ASCII))
    hangul = len(re.findall("[가-힣]", data.decode("utf-8", "ignore")))
    return hangul >= _FEWEST and 3 * hangul >= _ENOUGH * beyond
