"""The options of infer.py: which model, what it is asked, how it answers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from infer_module import API_SAMPLING
from malmat.answer.open import room_for_thoughts
from malmat.answer.thinking import MARK
from malmat.cli import above_zero, api_options, batch_size, number, parser, part, positive, share
from malmat.errors import InputError
from malmat.lm.choice import NORMALIZATIONS
from malmat.lm.load import short_name
from malmat.lm.sampling import Sampling
from malmat.models import MODELS_FILE, answering_for
from tasks import TASKS

HERE = Path(__file__).parent
HOW = ("label", "text", "number")
"""How a local model answers a question with choices: by the logits of their labels or of their
texts, or by writing a number, as a model behind an API does."""

LOCAL_ONLY = ("adapter", "batch_size", "quantization", "trust_remote_code")
LOCAL_ONLY += ("score", "normalization", "permute", "until", "cot")
API_ONLY = ("base_url", "extra_body", "thinking_budget", "ask_blocked", "concurrency", "max_cost")

SAMPLING = {
    "seed": int,
    "max_new_tokens": positive,
    "temperature": number,
    "top_p": share,
    "top_k": positive,
    "min_p": part,
    "repetition_penalty": above_zero,
}
"""Settings of the sampling, and what reads a value of theirs."""


def arguments(doc: str):
    """The options of a run, with those of the model's row in models.json and all defaults.

    Raises:
        InputError: an option for another kind of model.
    """
    options = parser(doc)
    options.add_argument(
        "model", help="row of models.json, API name, hub id, folder, GGUF file, 'embedded'"
    )
    options.add_argument("type", choices=("api", "local"))
    options.add_argument("task", choices=tuple(TASKS), help="MALMAT_TASKS=FILE adds your own")
    options.add_argument("--questions", help="another file of questions")
    options.add_argument("--contexts", help="passages for the questions, by id (JSONL)")
    options.add_argument("--output", help="another file for the answers")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--models", help="another models.json")
    options.add_argument("--name", help="the model's name in file names and reports")
    options.add_argument("--limit", type=positive, help="only the first N questions")
    sampling_options(options)
    local = options.add_argument_group("local models")
    loading_options(local)
    local.add_argument("--batch_size", type=batch_size, help="default: auto, what fits in memory")
    local.add_argument("--score", choices=HOW, help="choices: default by the task")
    local.add_argument("--normalization", choices=NORMALIZATIONS, help="of texts: per_byte")
    local.add_argument("--permute", type=orders, help="of options: cyclic, all, or how many")
    local.add_argument("--cot", metavar="MARK", nargs="?", const=MARK, help=f"default: {MARK}")
    api = options.add_argument_group("API models")
    servers = {"help": "an OpenAI-compatible server, or several with commas"}
    unset = {"default": None, "help": "requests at a time: 8"}
    api_options(api, *API_ONLY, base_url=servers, concurrency=unset, ask_blocked={"default": None})
    api_options(options, "dry_run")
    return resolved(options.parse_args())


def loading_options(local) -> None:
    """How a model on this machine is loaded, and where its answers end."""
    local.add_argument("--adapter", help="a PEFT adapter folder on top of the model")
    local.add_argument("--quantization", choices=("4bit", "8bit"))
    local.add_argument("--trust_remote_code", action="store_true", default=None)
    local.add_argument("--until", choices=("turn", "line"), help="where an answer ends")


def sampling_options(options) -> None:
    """The settings of the sampling, without defaults."""
    helps = {
        "seed": "default: 42 local, none API",
        "max_new_tokens": "default: 256 local, 512 API",
        "temperature": "default: 0.7",
        "top_p": "default: 0.8 local",
    }
    for name, text in helps.items():
        options.add_argument(f"--{name}", type=SAMPLING[name], help=text)
    own = options.add_argument_group("local models and --base_url servers")
    helps = {"top_k": "20", "min_p": "0", "repetition_penalty": "1.15"}
    for name, text in helps.items():
        own.add_argument(f"--{name}", type=SAMPLING[name], help=f"default: {text} local")


def orders(text: str) -> int | str:
    return text if text in ("cyclic", "all") else positive(text)


def resolved(args):
    """The options with those of the model's row in models.json, and the defaults of its kind."""
    known = args.models or MODELS_FILE
    how = answering_for(args.model, kind=args.type, base_url=args.base_url, path=known)
    if not args.name:  # answers with contexts are a column of their own
        args.name = short_name(args.adapter) if args.adapter else how.name
        args.name += f"-{Path(args.contexts).stem}" if args.contexts else ""
    args.model = how.model
    for name, value in how.options.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in LOCAL_ONLY if args.type == "api" else API_ONLY:
        if getattr(args, name) is not None:
            raise InputError(f"is not for {args.type} models", field=name, fix="Leave it out.")
    task, args.thinking_room = TASKS[args.task], 0
    if args.type == "api":
        args.thinking_room = room_for_thoughts(args.model, args.thinking_budget)
    defaults = {"max_new_tokens": API_SAMPLING["max_tokens"], "temperature": 0.7, "concurrency": 8}
    if args.type == "local":
        defaults = {**asdict(Sampling()), "until": "turn", "batch_size": "auto"}
        defaults |= {"score": task.choose, "normalization": "per_byte"}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args
