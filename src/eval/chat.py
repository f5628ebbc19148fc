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

from pathlib import Path

from chat_models import BASE, first_wording, open_models
from chat_terminal import check_save, save, saved, terminal
from infer_options import SAMPLING, loading_options, sampling_options
from malmat.answer.talk import Conversation
from malmat.cli import api_options, parser, positive, run, show_settings
from malmat.formats import read_terms
from malmat.lm.sampling import Sampling
from malmat.text.marks import Marker

HERE = Path(__file__).parent


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
    try:
        terminal(models, conversation, marker)
    finally:
        if args.save and conversation.turns:
            print(f"wrote {save(args.save, models, conversation)}")


if __name__ == "__main__":
    run(main)
