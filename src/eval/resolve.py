"""Find out for exp.sh what each model is: a row of models.json, an API model or a local one.

    python src/eval/resolve.py "gpt-4o checkpoints/Qwen3-8B-full embedded-malmat-lora"
    python src/eval/resolve.py Qwen/Qwen3-8B --args="--adapter checkpoints/my-lora"

Reads   src/train/models.json.
Prints  MODEL<tab>TYPE<tab>NAME a line. NAME is the model's name in files and reports. Two models
        of one name, and options in --args that scoring would not know of, are refused.
"""

from __future__ import annotations

from collections import Counter

from malmat.cli import parser, run
from malmat.errors import InputError
from malmat.lm.load import short_name
from malmat.models import answering_for


def arguments():
    options = parser(__doc__)
    options.add_argument("models", help="one or more, with blanks between them")
    options.add_argument("--type", choices=("api", "local", ""), default="")
    options.add_argument("--name", default="", help="the model's name")
    options.add_argument("--args", default="", help="the options that infer.py will get")
    return options.parse_args()


def main() -> None:
    args = arguments()
    given = options_in(args.args)
    if not args.models.split():
        raise InputError("no model is named", field="models")
    lines = []
    for model in args.models.split():
        how = answering_for(model, kind=args.type or None, base_url=given.base_url)
        name = args.name or (short_name(given.adapter) if given.adapter else how.name)
        lines.append((model, how.kind, name))
    name, count = Counter([name for *_, name in lines]).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"two models would write as '{name}'",
            fix="Run them one by one, with a MODEL_NAME each.",
        )
    for line in lines:
        print(*line, sep="\t")


def options_in(words: str):
    """The options of infer.py that matter here."""
    options = parser("", add_help=False)
    for name in ("--adapter", "--base_url", "--name", "--output", "--results_dir"):
        options.add_argument(name)
    given, _ = options.parse_known_args(words.split())
    for name in ("name", "output", "results_dir"):
        if getattr(given, name) is not None:
            raise InputError(
                f"ARGS holds --{name}, which scoring would not know",
                fix=f"Set {'MODEL_NAME' if name == 'name' else 'RESULTS'}.",
            )
    return given


if __name__ == "__main__":
    run(main)
