"""A conversation as HTML for the page of ``chat.py``."""

from __future__ import annotations

import functools
import html

from malmat.answer.talk import STOPPED
from malmat.text.marks import Marker

ENDS = {
    **{"truncated": "길이 제한에서 끊겼습니다", "blocked": "제공자가 막았습니다"},
    **{"empty": "빈 답입니다", "leaked": "차례를 넘겨 썼습니다", "refused": "거절했습니다"},
}
HELLO = (
    "메시지를 보내면 답이 여기에 나타납니다. "
    "밑줄 친 말에 마우스를 올리거나 손을 대면 뜻이 보입니다."
)


class Transcript:
    """A conversation as HTML: each turn the message, and under it the models' answers abreast."""

    def __init__(self, names: list[str], marker: Marker):
        self._names = names
        self._marker = marker
        self._marked = functools.lru_cache(512)(self._mark)

    def html(self, turns: list[dict]) -> str:
        if not turns:
            return f'<div class="hello">{HELLO}</div>'
        return f'<div class="talk" role="log">{"".join(map(self._turn, turns))}</div>'

    def _turn(self, turn: dict) -> str:
        answers = "".join(self._answer(name, turn["answers"].get(name)) for name in self._names)
        asked = self._marked(turn["question"])
        return f'<div class="mine">{asked}</div><div class="answers">{answers}</div>'

    def _answer(self, name: str, record: dict | None) -> str:
        text, note = "…", ""
        if record is not None and "status" not in record:  # it is being written
            text = html.escape(record["text"]) or "…"
        elif record is not None:
            text, note = self._marked(record["text"]), _note(record)
        note = f'<div class="note">{html.escape(note)}</div>' if note else ""
        label = f'<div class="name">{html.escape(name)}</div>'
        return f'<div class="model">{label}<div class="bubble">{text}</div>{note}</div>'

    def _mark(self, text: str) -> str:
        pieces = []
        for piece, mark in self._marker.pieces(text):
            shown = html.escape(piece)
            if mark is not None:
                meaning = html.escape(f"{mark.title}: {mark.meaning}", quote=True)
                shown = (
                    f'<span class="slang" tabindex="0" role="note" aria-label="{meaning}" '
                    f'data-meaning="{meaning}">{shown}</span>'
                )
            pieces.append(shown)
        return "".join(pieces)


def _note(record: dict) -> str:
    if record["status"] == "ok":
        return ""
    if record["finish_reason"] == STOPPED:
        return "멈췄습니다"
    return ENDS.get(record["status"]) or str(record.get("error") or record["status"])
