"""The rating page of ``human.py``: one answer at a time, big buttons, each press saved at once."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from human_session import Session
from malmat.errors import InputError

HERE = Path(__file__).parent
HINT = "키보드 숫자 1~{}로 고를 수 있습니다. 0은 '모르겠어요', ←와 →는 이전과 다음입니다."

# 1–5 and 0 press the rating buttons, the arrows turn the pages. What changes is read out.
KEYS = """
  for (const part of document.querySelectorAll(".told")) part.ariaLive = "polite";
  document.addEventListener("keydown", (event) => {
    const id = {ArrowLeft: "back", ArrowRight: "forth"}[event.key] || "rate-" + event.key;
    if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat)
      document.getElementById(id)?.click();
  });
"""
KOREAN = '<script>document.documentElement.lang = "ko"</script>'

# Gradio fades its buttons in and out whatever the reader has asked of the system.
STILL = """@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { transition: none !important; animation: none !important; }
}"""


def page(session: Session):
    """The page as Gradio blocks."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    def rating(value: Any) -> Callable[[int], int]:
        return lambda place: session.rate(place, value)

    def pressed(step: Callable[[int], int]) -> Callable[[int], list]:
        return lambda place: view(session, step(place))

    labels = session.asked.labels
    with gr.Blocks(title="평가", analytics_enabled=False) as blocks:
        place = gr.State(0)
        bar, shown, ask = gr.HTML(), gr.HTML(elem_classes="told"), gr.HTML(elem_classes="told")
        with gr.Row(elem_classes=["rates", "grades" if len(labels) > 3 else "few"]):
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
        outputs = [place, bar, shown, ask, *buttons, back, forth]
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
        session.question(place),
        *(gr.Button(interactive=not over, elem_classes=["chosen"] if on else []) for on in chosen),
        gr.Button(interactive=place > 0),
        gr.Button(interactive=record is not None),
    ]


def serve(blocks, host: str, port: int | None, css: str = "human.css", js: str = KEYS) -> None:
    """Serve a page until it is interrupted.

    Args:
        css: a file beside this one.
        js: what the browser runs when the page is there.

    Raises:
        InputError: the port is taken.
    """
    import gradio as gr

    # A theme's own fonts would be fetched from the network by the rater's browser, and text in its
    # amber and light grey is too pale to be read by all.
    fonts = ["Pretendard", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "sans-serif"]
    theme = gr.themes.Soft(primary_hue="amber", font=fonts, font_mono=["monospace"]).set(
        body_text_color_subdued="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        button_primary_text_color="*neutral_950",
        button_primary_text_color_dark="*neutral_950",
    )
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            theme=theme,
            css=STILL,
            css_paths=[HERE / css],
            js=f"() => {{{js}}}",
            head=KOREAN,
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
