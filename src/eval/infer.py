"""Answer the evaluation questions with a model.

    python src/eval/infer.py embedded local usage --limit 20
    python src/eval/infer.py embedded local understand --adapter checkpoints/embedded-lora
    python src/eval/infer.py gpt-4o api understand
    python src/eval/infer.py my-model api usage --base_url http://localhost:8000/v1

Reads   understand_questions.json or usage_questions.json (or --questions) and prompt.py.
Writes  results/<task>/infer_results/<model>_<task>_inference_results.json (or --output): a
        row a question with its status; beside it a journal, from which a killed run goes on.

Sampling defaults are the published ones: 256 tokens, temperature 0.7, top_p 0.8, top_k 20,
repetition penalty 1.15 for local models; 512 tokens, temperature 0.7 for APIs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from infer_module import API_SAMPLING, answer_questions, api_door, local_door
from malmat.cli import COMPLETE, FAILURES, parser, positive, relative, run, show_settings
from malmat.generate import Sampling
from malmat.llm import ASK_AGAIN, estimate_tokens, price
from malmat.models import short_name
from malmat.prompts import chat_messages, load_prompts
from malmat.records import InputError, read_questions

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
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--max_new_tokens", type=positive, help="default: 256 local, 512 API")
    options.add_argument("--temperature", type=float, default=0.7)
    local = options.add_argument_group("local models")
    local.add_argument("--adapter", help="a PEFT adapter folder on top of the model")
    local.add_argument("--batch_size", type=positive, default=32)
    local.add_argument("--top_p", type=float, default=0.8)
    local.add_argument("--top_k", type=positive, default=20)
    local.add_argument("--min_p", type=float, default=0.0)
    local.add_argument("--repetition_penalty", type=float, default=1.15)
    local.add_argument("--quantization", choices=("4bit", "8bit"))
    local.add_argument("--trust_remote_code", action="store_true")
    api = options.add_argument_group("API models")
    api.add_argument("--base_url", help="an OpenAI-compatible server, or several with commas")
    api.add_argument("--concurrency", type=positive, default=8)
    api.add_argument("--max_cost", type=float, help="stop after this many US dollars")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


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
    sampling = None
    if args.type == "local":
        if args.base_url:
            raise InputError("is for API models", field="base_url", fix="Use 'api'.")
        ask = local_door(
            args.model,
            Sampling(
                max_new_tokens=args.max_new_tokens or 256,
                temperature=args.temperature,
                top_p=args.top_p,
                top_k=args.top_k,
                min_p=args.min_p,
                repetition_penalty=args.repetition_penalty,
                seed=args.seed,
            ),
            args.batch_size,
            adapter=args.adapter,
            quantization=args.quantization,
            trust_remote_code=args.trust_remote_code,
        )
        check_local(args)
    else:
        sampling = {**API_SAMPLING, "temperature": args.temperature}
        if args.max_new_tokens:
            sampling["max_tokens"] = args.max_new_tokens
        ask = api_door(args.model, args.base_url, args.concurrency, args.max_cost)
    plan(args, prompts, questions, output, sampling)
    if args.dry_run:
        return COMPLETE
    rows = answer_questions(
        questions,
        prompts,
        ask,
        output,
        sampling=sampling,
        settings={**vars(args), "name": name},
        label=f"{name} {args.task}",
    )
    counts = Counter(row["status"] for row in rows)
    print(f"answers: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    print(f"wrote {relative(output)}")
    return FAILURES if sum(counts[status] for status in ASK_AGAIN) else COMPLETE


def check_local(args) -> None:
    """Say now, before anything is loaded, what could not be loaded."""
    from malmat.models import EMBEDDED, base_of, resolve

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
