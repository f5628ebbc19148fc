"""Answer the evaluation questions with a model.

    python src/eval/infer.py embedded local usage --limit 20
    python src/eval/infer.py embedded local understand --adapter checkpoints/embedded-lora
    python src/eval/infer.py gpt-4o api understand
    python src/eval/infer.py my-model api usage --base_url http://localhost:8000/v1
    python src/eval/infer.py my-model api usage --base_url http://a:8000/v1,http://b:8000/v1

Reads   understand_questions.json or usage_questions.json (or --questions) and prompt.py.
Writes  results/<task>/infer_results/<model>_<task>_inference_results.json (or --output): a
        row a question with its status; beside it a journal, from which a killed run goes on,
        and .run.json: settings, versions, seconds, tokens and cost.

Sampling defaults are the published ones: 256 tokens, temperature 0.7, top_p 0.8, top_k 20,
repetition penalty 1.15 for local models; 512 tokens, temperature 0.7 for APIs, which are sent
nothing more than what is given here. OpenAI's reasoning models (o1, o3, o4; gpt-5 and later)
take neither temperature nor top_p and are sent none; their thinking counts among the tokens, so
give them more (--max_new_tokens 4096).

A half-done run goes on where its model, prompt and sampling are the same, whatever the batch size
or concurrency. Of several --base_url servers the first is part of the model's name, so servers
behind it can be added and taken away at will.

A local model answers in batches. Each question draws from its own seed, so its answer does not
depend on the batch, up to the rounding of the numbers: in float32 (CPU) it hardly ever shows, in
bfloat16 (GPU) answers of two batch sizes part after some words. A resumed run keeps its batches.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path

from infer_module import API_SAMPLING, answer_questions, api_door, api_sampling, local_door
from malmat.answer.prices import estimate_tokens, price
from malmat.answer.request import ASK_AGAIN
from malmat.cli import (
    COMPLETE,
    FAILURES,
    number,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
)
from malmat.errors import InputError
from malmat.formats import read_questions
from malmat.lm.generate import Sampling
from malmat.lm.load import short_name
from malmat.prompts import chat_messages, load_prompts

HERE = Path(__file__).parent
QUESTIONS = {"understand": "understand_questions.json", "usage": "usage_questions.json"}


def arguments():
    options = parser(__doc__)
    options.add_argument("model", help="API name, hub id, folder, or 'embedded'")
    options.add_argument("type", choices=("api", "local"))
    options.add_argument("task", choices=tuple(QUESTIONS))
    options.add_argument("--questions", help="another file of questions")
    options.add_argument("--output", help="another file for the answers")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--name", help="the model's name in file names and reports")
    options.add_argument("--limit", type=positive, help="only the first N questions")
    options.add_argument("--seed", type=int, help="default: 42 local, none API")
    options.add_argument("--max_new_tokens", type=positive, help="default: 256 local, 512 API")
    options.add_argument("--temperature", type=number, default=0.7)
    options.add_argument("--top_p", type=share, help="default: 0.8 local")
    own = options.add_argument_group("local models and --base_url servers")
    own.add_argument("--top_k", type=positive, help="default: 20 local")
    own.add_argument("--min_p", type=number, help="default: 0 local")
    own.add_argument("--repetition_penalty", type=above_zero, help="default: 1.15 local")
    local = options.add_argument_group("local models")
    local.add_argument("--adapter", help="a PEFT adapter folder on top of the model")
    local.add_argument(
        "--batch_size", type=batch, help="auto (default): what fits into memory; less when it ends"
    )
    local.add_argument("--quantization", choices=("4bit", "8bit"))
    local.add_argument("--trust_remote_code", action="store_true", default=None)
    api = options.add_argument_group("API models")
    api.add_argument("--base_url", help="an OpenAI-compatible server, or several with commas")
    api.add_argument("--concurrency", type=positive, help="requests at a time (default: 8)")
    api.add_argument("--max_cost", type=number, help="stop after this many US dollars")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    args = options.parse_args()
    for name in LOCAL_ONLY if args.type == "api" else API_ONLY:
        if getattr(args, name) is not None:
            raise InputError(f"is not for {args.type} models", field=name, fix="Leave it out.")
    defaults = {"max_new_tokens": API_SAMPLING["max_tokens"], "concurrency": 8}
    if args.type == "local":
        defaults = {**Sampling().as_dict(), "batch_size": "auto"}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


LOCAL_ONLY = ("adapter", "batch_size", "quantization", "trust_remote_code")
API_ONLY = ("base_url", "concurrency", "max_cost")
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


def above_zero(text: str) -> float:
    if not (value := number(text)):
        raise ArgumentTypeError("must be above 0")
    return value


def batch(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def main() -> int:
    args = arguments()
    prompts = load_prompts()
    questions = read_questions(args.questions or HERE / QUESTIONS[args.task])[: args.limit]
    name = args.name or short_name(args.adapter or args.model)
    output = Path(
        args.output
        or f"{args.results_dir}/{args.task}/infer_results/{name}_{args.task}_inference_results.json"
    )
    show_settings("infer", {**vars(args), "output": relative(output)})
    given = {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
    if args.type == "local":
        check_local(args)
        sampling = None
        door = local_door(
            args.model,
            Sampling(**given, max_new_tokens=args.max_new_tokens),
            None if args.batch_size == "auto" else args.batch_size,
            adapter=args.adapter,
            quantization=args.quantization,
            trust_remote_code=bool(args.trust_remote_code),
        )
    else:
        sampling = api_sampling(given, args.max_new_tokens, own_server=bool(args.base_url))
        door = api_door(args.model, args.base_url, args.concurrency, args.max_cost)
    plan(args, prompts, questions, output, sampling)
    if args.dry_run:
        return COMPLETE
    rows = answer_questions(
        questions,
        prompts,
        door,
        output,
        sampling=sampling,
        settings={**vars(args), "name": name},
        label=f"{name} {args.task}",
        cost_of=(lambda tokens: price(args.model, tokens)) if sampling else None,
    )
    counts = Counter(row["status"] for row in rows)
    print(f"answers: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    print(f"wrote {relative(output)}")
    return FAILURES if sum(counts[status] for status in ASK_AGAIN) else COMPLETE


def check_local(args) -> None:
    """Say now, before anything is loaded, what could not be loaded."""
    from malmat.lm.embedded import EMBEDDED
    from malmat.lm.load import base_of, resolve

    if args.model != EMBEDDED:
        resolve(args.model)
    if args.adapter and base_of(args.adapter) is None:
        raise InputError("no adapter_config.json in that folder", path=args.adapter)


def plan(args, prompts: dict, questions: list[dict], output: Path, sampling: dict | None) -> None:
    text = [chat_messages(prompts, q["question"])[0]["content"] for q in questions]
    tokens = {"input": sum(map(estimate_tokens, text)), "output": 60 * len(text)}
    cost = price(args.model, tokens) if sampling else None
    print(
        f"plan: {len(questions)} questions, about {tokens['input']:,} input tokens"
        + (f", about ${cost:.3f}" if cost is not None else "")
        + f" → {relative(output)}"
    )


if __name__ == "__main__":
    run(main)
