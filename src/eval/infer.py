"""Answer a task's questions with a model.

    python src/eval/infer.py embedded local usage --limit 20
    python src/eval/infer.py embedded local reply --adapter checkpoints/embedded-lora
    python src/eval/infer.py gpt-4o api understand
    python src/eval/infer.py Qwen3-8B-malmat-full local usage      # a row of src/train/models.json
    python src/eval/infer.py my-model api usage --base_url http://localhost:8000/v1
    python src/eval/infer.py my-model api usage --base_url http://a:8000/v1,http://b:8000/v1

Reads   the task's questions (or --questions) and its wording (prompt.py).
Writes  results/<task>/infer_results/<model>_<task>_inference_results.json (or --output): a
        row a question with its status; beside it a journal, from which a killed run goes on,
        and .run.json: settings, versions, seconds, tokens and cost.

Where a question has choices, a local model weighs them by their log-likelihoods (--score: of the
label's token, or of the whole text), and an API model answers with a number. What a model thinks
before it answers is kept apart, in ``thoughts``.

Sampling defaults are the published ones: 256 tokens, temperature 0.7, top_p 0.8, top_k 20,
repetition penalty 1.15 for local models; 512 tokens, temperature 0.7 for APIs, which are sent
nothing more than what is given here. OpenAI's reasoning models (o1, o3, o4; gpt-5 and later)
take neither temperature nor top_p and are sent none; their thinking counts among the tokens, so
give them more (--max_new_tokens 4096). A base model that was never taught to end its turn
writes on until it is cut; with --until line the first line break ends an answer, too.

A half-done run goes on where its model, prompt and sampling are the same, whatever the batch size
or concurrency. Of several --base_url servers the first is part of the model's name, so servers
behind it can be added and taken away at will.

A local model answers in batches. Each question draws from its own seed, so its answer does not
depend on the batch, up to the rounding of the numbers: in float32 (CPU) it hardly ever shows, in
bfloat16 (GPU) answers of two batch sizes part after some words. A resumed run keeps its batches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from infer_module import API_SAMPLING, answer_items, api_sampling, build_requests
from malmat.answer.api import ApiEngine
from malmat.answer.choices import ChoiceEngine
from malmat.answer.local import LocalEngine
from malmat.answer.open import open_model
from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.request import ASK_AGAIN, Engine
from malmat.cli import (
    COMPLETE,
    FAILURES,
    above_zero,
    api_options,
    batch_size,
    number,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
)
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.run_record import refuse_another_models
from malmat.evaluate.task import Item
from malmat.lm.choice import NORMALIZATIONS
from malmat.lm.load import check_model, short_name
from malmat.lm.sampling import Sampling
from malmat.models import answering_for
from tasks import TASKS

HERE = Path(__file__).parent
LOCAL_ONLY = ("adapter", "batch_size", "quantization", "trust_remote_code", "score")
LOCAL_ONLY += ("normalization", "until")
API_ONLY = ("base_url", "extra_body", "ask_blocked", "concurrency", "max_cost")
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


def arguments():
    options = parser(__doc__)
    options.add_argument("model", help="row of models.json, API name, hub id, folder, 'embedded'")
    options.add_argument("type", choices=("api", "local"))
    options.add_argument("task", choices=tuple(TASKS), help="MALMAT_TASKS=FILE adds your own")
    options.add_argument("--questions", help="another file of questions")
    options.add_argument("--output", help="another file for the answers")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--name", help="the model's name in file names and reports")
    options.add_argument("--limit", type=positive, help="only the first N questions")
    options.add_argument("--seed", type=int, help="default: 42 local, none API")
    options.add_argument("--max_new_tokens", type=positive, help="default: 256 local, 512 API")
    options.add_argument("--temperature", type=number, help="default: 0.7")
    options.add_argument("--top_p", type=share, help="default: 0.8 local")
    own = options.add_argument_group("local models and --base_url servers")
    own.add_argument("--top_k", type=positive, help="default: 20 local")
    own.add_argument("--min_p", type=number, help="default: 0 local")
    own.add_argument("--repetition_penalty", type=above_zero, help="default: 1.15 local")
    local = options.add_argument_group("local models")
    local.add_argument("--adapter", help="a PEFT adapter folder on top of the model")
    local.add_argument("--batch_size", type=batch_size, help="default: auto, what fits in memory")
    local.add_argument("--quantization", choices=("4bit", "8bit"))
    local.add_argument("--trust_remote_code", action="store_true", default=None)
    local.add_argument("--score", choices=("label", "text"), help="choices: default by the task")
    local.add_argument("--normalization", choices=NORMALIZATIONS, help="of texts: per_byte")
    local.add_argument("--until", choices=("turn", "line"), help="where an answer ends")
    api = options.add_argument_group("API models")
    servers = {"help": "an OpenAI-compatible server, or several with commas"}
    unset = {"default": None, "help": "requests at a time (default: 8)"}
    names = ("base_url", "extra_body", "ask_blocked", "concurrency", "max_cost")
    api_options(api, *names, base_url=servers, concurrency=unset, ask_blocked={"default": None})
    api_options(options, "dry_run")
    return resolved(options.parse_args())


def resolved(args):
    """The options with those of the model's row in models.json, and the defaults of its kind."""
    how = answering_for(args.model, kind=args.type, base_url=args.base_url)
    args.name = args.name or (short_name(args.adapter) if args.adapter else how.name)
    args.model = how.model
    for name, value in how.options.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in LOCAL_ONLY if args.type == "api" else API_ONLY:
        if getattr(args, name) is not None:
            raise InputError(f"is not for {args.type} models", field=name, fix="Leave it out.")
    task = TASKS[args.task]
    defaults = {"max_new_tokens": API_SAMPLING["max_tokens"], "temperature": 0.7, "concurrency": 8}
    if args.type == "local":
        defaults = {**asdict(Sampling()), "until": "turn", "batch_size": "auto"}
        defaults |= {"score": task.choose, "normalization": "per_byte"}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main() -> int:
    args = arguments()
    task = TASKS[args.task]
    items = task.read(Path(args.questions or task.questions))[: args.limit]
    output = Path(args.output or results.answers_path(args.results_dir, task, args.name))
    show_settings("infer", {**vars(args), "output": relative(output)})
    alike = not args.output and args.name == short_name(args.adapter or args.model)
    refuse_another_models(output, vars(args), named=not alike)
    given = {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
    engine, sampling, meter = open_engine(args, items, given)
    how = "number" if args.type == "api" else args.score
    prompts = task.prompts()
    requests = build_requests(task, prompts, items, how=how, sampling=sampling)
    for name in (name for name in task.slices if not any(name in item for item in items)):
        print(f"note: no question has a '{name}', a slice of {task.name}")
    plan(requests, meter, output)
    if args.dry_run:
        return COMPLETE
    rows = answer_items(
        task,
        items,
        prompts,
        engine,
        output,
        how=how,
        sampling=sampling,
        meter=meter,
        settings=vars(args) | ({"server": engine.model.server} if args.type == "api" else {}),
        ask_blocked=bool(args.ask_blocked),
        label=f"{args.name} {task.answered_as}",
    )
    counts = Counter(row["status"] for row in rows)
    listed = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    print(f"answers: {listed}", f"wrote {relative(output)}", sep="\n")
    return FAILURES if sum(counts[status] for status in ASK_AGAIN) else COMPLETE


def open_engine(args, items: list[Item], given: dict) -> tuple[Engine, dict | None, Meter | None]:
    """What answers, what an API is sent, and what counts its cost."""
    if args.type == "api":
        sampling = api_sampling(given, args.max_new_tokens, own_server=bool(args.base_url))
        model = open_model(args.model, base_url=args.base_url, extra_body=args.extra_body)
        meter = Meter(args.model, max_cost=args.max_cost)
        return ApiEngine(model, args.concurrency), sampling, meter
    check_model(args.model, args.adapter)
    common = {"adapter": args.adapter, "quantization": args.quantization}
    common["trust_remote_code"] = bool(args.trust_remote_code)
    common["batch_size"] = None if args.batch_size == "auto" else args.batch_size
    if any(item.get("choices") for item in items):
        common |= {"score": args.score, "normalization": args.normalization}
        return ChoiceEngine(args.model, **common), None, None
    until = None if args.until == "turn" else args.until
    sampling = Sampling(**given, max_new_tokens=args.max_new_tokens, until=until)
    return LocalEngine(args.model, sampling, **common), None, None


def plan(requests: list, meter: Meter | None, output: Path) -> None:
    text = (message["content"] for request in requests for message in request.messages)
    tokens = {"input": sum(map(estimate_tokens, text)), "output": 60 * len(requests)}
    cost = meter.cost_of(tokens) if meter else None
    price = "" if cost is None else f", about ${cost:.3f}"
    said = f"{len(requests)} questions, about {tokens['input']:,} input tokens{price}"
    print(f"plan: {said} → {relative(output)}")


if __name__ == "__main__":
    run(main)
