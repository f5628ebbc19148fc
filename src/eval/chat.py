"""Talk with a model, or with two side by side.

    python src/eval/chat.py embedded
    python src/eval/chat.py checkpoints/embedded-lora --compare               # beside its base
    python src/eval/chat.py checkpoints/embedded-lora --compare embedded --web
    python src/eval/chat.py Qwen/Qwen3-8B --adapter checkpoints/my-lora --compare gpt-4o
    python src/eval/chat.py my-model --base_url http://localhost:8000/v1

Reads   the models (rows of models.json, API names, hub ids, folders, 'embedded'), the wording in
        the tuned model's run.json, and the term list (--terms).
Writes  nothing but what you save: /save FILE or --save FILE in the terminal, the button on the
        page: JSON with the models, each turn's wording and sampling, and the answers.

In the terminal an answer appears as it is written; Ctrl-C ends the answer, not the program. /help
lists the commands. --web serves a page on this machine (--host 0.0.0.0 opens it to the network,
where anyone who knows the address can use it). Models behind an API answer all at once.

Each message is put into the wording that the tuned model was trained with (--wording TEXT with
{question}, or FILE:CONSTANT, is another one); a model that nothing is known of gets it as it is.
All models get one sampling, an API what it knows of it. The same conversation with the same seed
has the same answers.
"""

from __future__ import annotations

import threading
from argparse import ArgumentTypeError
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from chat_models import BASE, checked, first_wording, open_models
from infer_options import SAMPLING, loading_options, sampling_options
from malmat.answer.talk import ChatModel, Conversation, stopped
from malmat.cli import api_options, parser, positive, provenance, relative, run, show_settings
from malmat.errors import InputError
from malmat.files import write_json
from malmat.formats import read_terms
from malmat.journal import valid_text
from malmat.lm.sampling import Sampling
from malmat.text.marks import Marker

HERE = Path(__file__).parent
COMMANDS = """\
/new                  forget what was said
/set NAME VALUE       temperature, top_p, top_k, min_p, repetition_penalty, max_new_tokens, seed
/wording [TEXT]       show the wording, or take TEXT, with {question} in it
/save [FILE]          write the conversation as JSON
/help  /quit          Ctrl-C ends an answer, Ctrl-D the program"""


def arguments():
    options = parser(__doc__)
    options.add_argument("model")
    options.add_argument(
        "--compare", nargs="?", const=BASE, metavar="OTHER", help="without OTHER: its base"
    )
    options.add_argument("--type", choices=("api", "local"), help="default: by the name")
    options.add_argument("--models", help="another models.json")
    options.add_argument("--wording", help="TEXT with {question}, or FILE:CONSTANT")
    options.add_argument("--system", default="", help="a system message")
    options.add_argument("--terms", default=str(HERE.parent / "data/terms.csv"))
    options.add_argument("--save", help="write the conversation there in the end (terminal)")
    options.add_argument("--web", action="store_true", help="a page instead of the terminal")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=positive, help="default: the first free one from 7860")
    sampling_options(options)
    loading_options(options.add_argument_group("local models"))
    api = options.add_argument_group("API models")
    api_options(api, "base_url", "extra_body", "thinking_budget")
    return options.parse_args()


def main() -> None:
    args = arguments()
    if args.save:
        check_save(args.save)
    marker = Marker(read_terms(args.terms))
    models, row = open_models(args)
    given = {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
    of_row = {name: row[name] for name in SAMPLING if name in row}
    until = args.until or row.get("until")
    sampling = Sampling(**(of_row | given), until=None if until == "turn" else until)
    wording = first_wording(args.wording, models)
    shown = {"models": " | ".join(model.name for model in models), "wording": wording}
    show_settings("chat", shown | sampling.as_dict())
    for model in models:
        model.prepare()
    conversation = Conversation(wording, sampling, args.system)
    if args.web:
        from chat_page import page
        from human_page import serve

        blocks = page(models, conversation, marker, saved)
        serve(blocks, args.host, args.port, css="chat.css", js="")
        return
    print(COMMANDS)
    terminal(models, conversation, marker)
    if args.save and conversation.turns:
        print(f"wrote {save(args.save, models, conversation)}")


def terminal(models: list[ChatModel], conversation: Conversation, marker: Marker) -> None:
    """Read messages and commands until the input ends."""
    while True:
        try:
            said = valid_text(input("\n> ")).strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit ends the program)")
            continue
        if said == "/quit":
            return
        if said.startswith("/"):
            try:
                print(obey(said, models, conversation))
            except (InputError, ValueError, ArgumentTypeError) as error:
                print(f"error: {error}")
        elif said:
            answer(said, models, conversation, marker)


def answer(
    question: str, models: list[ChatModel], conversation: Conversation, marker: Marker
) -> None:
    """Print the models' answers to a message, and the listed terms in them."""
    turn = conversation.begin(question)
    for model in models:
        print(f"\n{model.name}: ", end="", flush=True)
        stop, printed = threading.Event(), ""
        record = stopped(printed)
        try:
            for record in model.stream(
                conversation.messages(model.name), conversation.sampling, stop
            ):
                new = record["text"]
                fresh = new[len(printed) :] if new.startswith(printed) else f"\n{new}"
                print(fresh, end="", flush=True)
                printed = new
        except KeyboardInterrupt:
            record = stopped(printed)
        finally:
            stop.set()
        turn["answers"][model.name] = record
        print()
        if record["status"] != "ok":
            print(f"  ({record.get('error') or record['finish_reason'] or record['status']})")
        for mark in {mark.title: mark for mark in marker.marks(record["text"])}.values():
            print(f"  {mark.title}: {mark.meaning}")


def obey(command: str, models: list[ChatModel], conversation: Conversation) -> str:
    """Do what a command says; what there is to say of it comes back.

    Raises:
        InputError, ValueError: an unknown command, setting or value.
    """
    name, _, rest = command.partition(" ")
    rest = rest.strip()
    if name == "/new":
        conversation.turns.clear()
        return "a new conversation"
    if name == "/wording":
        conversation.wording = checked(rest) if rest else conversation.wording
        return conversation.wording
    if name == "/save":
        path = rest or f"chat-{datetime.now():%Y%m%d-%H%M%S}.json"
        check_save(path)
        return f"wrote {save(path, models, conversation)}"
    if name == "/set":
        setting, _, value = rest.partition(" ")
        if setting not in SAMPLING:
            raise InputError(f"no setting '{setting}'", fix=f"One of {', '.join(SAMPLING)}.")
        conversation.sampling = replace(
            conversation.sampling, **{setting: SAMPLING[setting](value)}
        )
        return str(conversation.sampling.as_dict())
    return COMMANDS


def check_save(path: str) -> None:
    if Path(path).exists():
        raise InputError("is there already", path=path, fix="Name another file.")


def saved(models: list[ChatModel], conversation: Conversation) -> dict:
    return {**conversation.record(models), "provenance": provenance()}


def save(path: str, models: list[ChatModel], conversation: Conversation) -> str:
    write_json(path, saved(models, conversation))
    return relative(path)


if __name__ == "__main__":
    run(main)
