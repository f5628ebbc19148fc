"""Generation: batches of malmat against transformers' generate, one question at a time.

    python bench/infer.py                       # the embedded model, CPU or GPU
    python bench/infer.py --model_name Qwen/Qwen3-8B --questions 256

Both answer questions of usage_questions.json (repeated where there are too few) with the published
sampling and one limit of new tokens, in turns within one process; both run once before it counts.
Prints items a second of each, the tokens an item came to, and the ratio of items (and of tokens,
which it is to be compared with where the answers of the two differ in length).
"""

from __future__ import annotations

import statistics
import time

from malmat.cli import ROOT, parser, positive, run
from malmat.files import write_json
from malmat.formats import read_questions
from malmat.lm.chat import encode_prompt, terminators
from malmat.lm.generate import Sampling, answer_all
from malmat.lm.load import load_model, load_tokenizer
from malmat.prompts import load_prompts, user_message


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--questions", type=positive, default=64)
    options.add_argument("--alone", type=positive, default=8, help="questions asked one at a time")
    options.add_argument("--batch_size", type=positive, help="default: found")
    options.add_argument("--max_new_tokens", type=positive, default=32)
    options.add_argument("--rounds", type=positive, default=3)
    options.add_argument("--output", help="a JSON file for the figures")
    args = options.parse_args()
    import torch
    from transformers import GenerationConfig

    chat = load_prompts()["CHAT"]
    known = read_questions(ROOT / "src/eval/usage_questions.json")
    questions = (known * -(-args.questions // len(known)))[: args.questions]
    tokenizer, model = load_tokenizer(args.model_name), load_model(args.model_name)
    sampling = Sampling(max_new_tokens=args.max_new_tokens)
    requests = [
        {
            "key": str(n),
            "id": str(n),
            "messages": user_message(chat, question=q["question"]),
        }
        for n, q in enumerate(questions)
    ]

    def batched() -> tuple[int, float]:
        start, tokens = time.perf_counter(), 0
        for records in answer_all(
            model,
            tokenizer,
            requests,
            sampling,
            batch_size=args.batch_size,
            done=lambda key: False,
        ):
            tokens += sum(record["output_tokens"] for record in records)
        return tokens, time.perf_counter() - start

    def one_at_a_time(count: int) -> tuple[int, float]:
        settings = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=terminators(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
        start, tokens = time.perf_counter(), 0
        for request in requests[:: max(1, len(requests) // count)][:count]:
            ids = torch.tensor([encode_prompt(tokenizer, request["messages"])])
            with torch.inference_mode():
                output = model.generate(ids.to(model.device), generation_config=settings)
            tokens += output.shape[1] - ids.shape[1]
        return tokens, time.perf_counter() - start

    one_at_a_time(1)
    batched()
    ratios, speeds = [], []
    for number in range(1, args.rounds + 1):
        (few, slow), (many, fast) = one_at_a_time(args.alone), batched()
        alone, together = args.alone / slow, args.questions / fast
        ratios.append(together / alone)
        speeds.append((alone, together, many / fast))
        print(
            f"round {number}: one at a time {alone:.3f} items/s ({few / args.alone:.1f} tokens "
            f"each), batches {together:.3f} items/s ({many / args.questions:.1f} tokens each), "
            f"ratio {ratios[-1]:.2f} (tokens {many / fast / (few / slow):.2f})",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f} on {model.device}")
    if args.output:
        names = ("alone_items_per_s", "batched_items_per_s", "batched_tokens_per_s")
        figures = dict(zip(names, map(statistics.median, zip(*speeds, strict=True)), strict=True))
        write_json(args.output, {"ratio": statistics.median(ratios), "ratios": ratios, **figures})


if __name__ == "__main__":
    run(main)
