"""The page of ``chat.py``: the models' answers side by side, listed terms marked with meanings."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from chat_models import checked
from chat_transcript import Transcript
from malmat.answer.talk import ChatModel, Conversation
from malmat.errors import InputError, StopRunning
from malmat.files import write_json
from malmat.text.marks import Marker

SLIDERS = {
    "temperature": ("온도", 0.0, 2.0, 0.05),
    "top_p": ("top_p", 0.05, 1.0, 0.05),
    "top_k": ("top_k", 1, 200, 1),
    "min_p": ("min_p", 0.0, 1.0, 0.01),
    "repetition_penalty": ("반복 벌점", 0.8, 2.0, 0.05),
    "max_new_tokens": ("최대 토큰 수", 8, 2048, 8),
    "seed": ("시드", 0, 9999, 1),
}
"""Settings of the sampling: their labels and ranges, which a value from outside them widens."""


class Session:
    """What the page's buttons do. A visitor's conversation is the page's own.

    Args:
        saved: models and conversation → what is saved of it.
    """

    def __init__(
        self,
        models: list[ChatModel],
        marker: Marker,
        saved: Callable[[list[ChatModel], Conversation], dict],
    ):
        self.models, self._saved = models, saved
        self.transcript = Transcript([model.name for model in models], marker)
        self._stops: dict[str, threading.Event] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="malmat-chat-")

    def say(
        self, visitor: str, said: str, conversation: Conversation, wording: str, values: dict
    ) -> Iterator[str]:
        """Ask the models in turn; the transcript comes back as it grows.

        Raises:
            InputError, StopRunning: a wording without a place for the message; no request can
                succeed.
        """
        conversation.wording = checked(wording)
        conversation.sampling = replace(conversation.sampling, **values)
        stop = self._stops[visitor] = threading.Event()
        turn = conversation.begin(said)
        yield self.transcript.html(conversation.turns)
        try:
            for model in self.models:
                messages = conversation.messages(model.name)
                for record in model.stream(messages, conversation.sampling, stop):
                    turn["answers"][model.name] = record
                    yield self.transcript.html(conversation.turns)
        finally:
            stop.set()

    def stop(self, visitor: str) -> None:
        if visitor in self._stops:
            self._stops[visitor].set()

    def file(self, visitor: str, conversation: Conversation) -> str:
        """The conversation as a JSON file."""
        path = Path(self._folder.name) / (visitor or "visitor") / "chat.json"
        write_json(path, self._saved(self.models, conversation))
        return str(path)


def settings_of(first: Conversation) -> tuple:
    """The box of the wording and the sliders of the sampling, folded away."""
    import gradio as gr

    with gr.Accordion("설정", open=False):
        wording = gr.Textbox(first.wording, label="메시지를 넣을 문구 ({question} 자리)", lines=3)
        with gr.Row():
            sliders = []
            for name, (label, low, high, step) in SLIDERS.items():
                value = getattr(first.sampling, name)
                ends = min(low, value), max(high, value)
                slider = gr.Slider(*ends, value, step=step, label=label, min_width=200)
                sliders.append(slider)
    return wording, sliders


def page(
    models: list[ChatModel],
    first: Conversation,
    marker: Marker,
    saved: Callable[[list[ChatModel], Conversation], dict],
):
    """The page as Gradio blocks. ``first`` is how each visitor's conversation begins."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    session = Session(models, marker, saved)

    def say(visitor: str, said: str, talk: Conversation, wording: str, *values):
        settings = {}
        for name, value in zip(SLIDERS, values, strict=True):
            usual = getattr(first.sampling, name)
            settings[name] = usual if value is None else type(usual)(value)  # an emptied box
        if not said.strip():
            yield said, talk, gr.skip(), gr.skip()
            return
        try:
            for shown in session.say(visitor, said.strip(), talk, wording, settings):
                yield "", talk, shown, gr.skip()
        except (InputError, StopRunning, RuntimeError, MemoryError) as error:
            raise gr.Error(str(error)) from None
        path = session.file(visitor, talk)
        yield (
            "",
            talk,
            session.transcript.html(talk.turns),
            gr.DownloadButton(value=path, interactive=True),
        )

    def new(visitor: str):
        session.stop(visitor)
        talk = replace(first, turns=[])
        return talk, session.transcript.html([]), gr.DownloadButton(value=None, interactive=False)

    title = " · ".join(model.name for model in models)
    with gr.Blocks(title=f"말맛 대화: {title}", analytics_enabled=False) as blocks:
        visitor, talk = gr.State(""), gr.State(first)
        shown = gr.HTML(session.transcript.html([]))
        box = gr.Textbox(
            label="메시지", placeholder="메시지를 쓰고 Enter", lines=1, elem_id="message"
        )
        with gr.Row(elem_classes="buttons"):
            send = gr.Button("보내기", variant="primary", elem_id="send")
            halt = gr.Button("멈추기", elem_id="stop")
            anew = gr.Button("새 대화", elem_id="new")
            download = gr.DownloadButton("JSON 저장", interactive=False, elem_id="save")
        wording, sliders = settings_of(first)
        inputs, outputs = [visitor, box, talk, wording, *sliders], [box, talk, shown, download]
        gr.on(
            [box.submit, send.click], say, inputs, outputs, api_name="say", show_progress="hidden"
        )
        halt.click(session.stop, visitor, api_name="stop", show_progress="hidden")
        anew.click(new, visitor, [talk, shown, download], api_name="new", show_progress="hidden")
        blocks.load(lambda: uuid.uuid4().hex, None, visitor, api_visibility="private")
    return blocks
