"""The rating page of ``human.py``: one answer at a time, big buttons, each press saved at once."""

from __future__ import annotations

import datetime
import html
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.task import Asked, Row
from malmat.journal import Journal
from malmat.text.candidates import Candidates, listing

HERE = Path(__file__).parent
HINT = "키보드 숫자 1~{}로 고를 수 있습니다. 0은 '모르겠어요', ←와 →는 이전과 다음입니다."
DONE = '<div class="done">모두 마쳤습니다. 고맙습니다!<br>이제 창을 닫으셔도 됩니다.</div>'

# 1–5 and 0 press the rating buttons, the arrows turn the pages.
KEYS = """() => document.addEventListener("keydown", (event) => {
  const id = {ArrowLeft: "back", ArrowRight: "forth"}[event.key] || "rate-" + event.key;
  if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat)
    document.getElementById(id)?.click();
})"""


@dataclass
class Session:
    """What a rater is shown, and where the ratings go. A visitor's place in it is the page's.

    Args:
        asked: how the task asks.
        rules: Markdown that says when to choose what.
        items: the answers in the rater's order, each with its ``key``.
        journal: of the ratings.
        record: an item → what a line of the ratings' file says of it.
        terms: the term list.
    """

    asked: Asked
    rules: str
    items: list[Row]
    journal: Journal
    record: Callable[[Row], dict]
    terms: list[dict]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._candidates = Candidates(self.terms) if self.asked.shows_terms else None

    @property
    def rated(self) -> int:
        return sum(self.journal.get(item["key"]) is not None for item in self.items)

    def first_open(self) -> int:
        """The place of the first answer that is not rated; behind the last where all are."""
        places = enumerate(self.items)
        open_ones = (n for n, item in places if self.journal.get(item["key"]) is None)
        return next(open_ones, len(self.items))

    def rating(self, place: int) -> dict | None:
        return self.journal.get(self.items[place]["key"]) if place < len(self.items) else None

    def rate(self, place: int, value: Any) -> int:
        """Save a rating (None skips the answer); the next place comes back."""
        if place < len(self.items):
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            with self._lock:
                more = {"rating": value, "time": now}
                self.journal.append(self.record(self.items[place]) | more)
        return min(place + 1, len(self.items))

    def card(self, place: int) -> str:
        """An answer as HTML, with what belongs to it."""
        if place >= len(self.items):
            return DONE
        item = self.items[place]
        text = {name: html.escape(str(value).strip()) for name, value in item.items()}
        term = f'<div class="term"><b>{text.get("title")}</b><p>{text.get("content")}</p></div>'
        return (
            f"{term if item.get('content') else ''}"
            f'<div class="chat"><div class="question">{text["question"]}</div>'
            f'<div class="answer">{text["answer"]}</div></div>{self._meanings(item)}'
        )

    def _meanings(self, item: Row) -> str:
        """The listed terms that may stand in the answer, as a judge is given them."""
        if self._candidates is None:
            return ""
        lines = html.escape(listing(self._candidates.of(item["answer"]))).replace("\n", "<br>")
        return f'<div class="term">답변에 쓰였을 수 있는 신조어<p>{lines}</p></div>'

    def progress(self) -> str:
        rated, total = self.rated, len(self.items)
        return (
            f'<div class="progress">{total}개 중 {rated}개를 평가했습니다'
            f'<div class="bar"><i style="width:{100 * rated / total:.1f}%"></i></div></div>'
        )


def page(session: Session):
    """The page as Gradio blocks."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    def rating(value: Any) -> Callable[[int], int]:
        return lambda place: session.rate(place, value)

    def pressed(step: Callable[[int], int]) -> Callable[[int], list]:
        return lambda place: view(session, step(place))

    labels = session.asked.labels
    with gr.Blocks(title="답변 평가", analytics_enabled=False) as blocks:
        place = gr.State(0)
        bar, shown = gr.HTML(), gr.HTML()
        gr.HTML(f'<div class="ask">{session.asked.question}</div>')
        with gr.Row(elem_classes=["rates", "grades" if len(labels) > 2 else "pair"]):
            buttons = [
                gr.Button(label, elem_id=f"rate-{number}")
                for number, label in enumerate(labels.values(), 1)
            ]
        with gr.Row(elem_classes="rates"):
            back = gr.Button("← 이전", size="sm", elem_id="back")
            buttons.append(gr.Button("모르겠어요", size="sm", elem_id="rate-0"))
            forth = gr.Button("다음 →", size="sm", elem_id="forth")
        with gr.Accordion("평가 기준"):
            gr.Markdown(f"{session.rules}\n\n{HINT.format(len(labels))}")
        if session.asked.shows_terms:
            with gr.Accordion("신조어 목록", open=False):
                gr.HTML(" · ".join(html.escape(term["title"]) for term in session.terms))
        outputs = [place, bar, shown, *buttons, back, forth]
        blocks.load(lambda: view(session, session.first_open()), None, outputs, api_name="start")
        presses = {back: ("back", lambda n: max(n - 1, 0))}
        presses[forth] = ("forth", lambda n: min(n + 1, len(session.items)))
        for value, button in zip((*labels, None), buttons, strict=True):
            presses[button] = ("skip" if value is None else f"rate_{value}".lower(), rating(value))
        for button, (name, step) in presses.items():
            button.click(pressed(step), place, outputs, api_name=name, show_progress="hidden")
    return blocks


def view(session: Session, place: int) -> list:
    """What the page shows at a place: its outputs in their order."""
    import gradio as gr

    record, over = session.rating(place), place >= len(session.items)
    chosen = [record is not None and record["rating"] == v for v in (*session.asked.labels, None)]
    return [
        place,
        session.progress(),
        session.card(place),
        *(gr.Button(interactive=not over, elem_classes=["chosen"] if on else []) for on in chosen),
        gr.Button(interactive=place > 0),
        gr.Button(interactive=record is not None),
    ]


def serve(
    blocks, host: str, port: int | None, css: str = "human.css", js: str | None = KEYS
) -> None:
    """Serve a page until it is interrupted.

    Args:
        css: a file beside this one.
        js: what the browser runs when the page is there.

    Raises:
        InputError: the port is taken.
    """
    import gradio as gr

    # A theme's own fonts would be fetched from the network by the rater's browser.
    fonts = ["Pretendard", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "sans-serif"]
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            theme=gr.themes.Soft(primary_hue="amber", font=fonts, font_mono=["monospace"]),
            css_paths=[HERE / css],
            js=js,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(str(error).splitlines()[0], field="port") from None
    print(f"open {blocks.local_url} in a browser; Ctrl-C here when done", flush=True)
    blocks.block_thread()
