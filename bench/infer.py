"""Generation: batches of malmat against transformers' generate, one question at a time.

    python bench/infer.py                       # the embedded model, CPU or GPU
    python bench/infer.py --model_name Qwen/Qwen3-8B --questions 256 --batch_size 64

Both answer the same prompts with the same sampling settings (the published ones) and the same
length limit, in turns within one process; tokens are counted as they come. Prints tokens a
second of each and their ratio.
"""

from __future__ import annotations

import time

from malmat.chat import encode_prompt, terminators
from malmat.cli import ROOT, parser, positive, run
from malmat.generate import Sampling, answer_all
from malmat.models import load_model, load_tokenizer
from malmat.prompts import chat_messages, load_prompts
from malmat.records import read_questions


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--questions", type=positive, default=64)
    options.add_argument("--alone", type=positive, default=8, help="questions asked one at a time")
    options.add_argument("--batch_size", type=positive, default=64)
    options.add_argument("--max_new_tokens", type=positive, default=32)
    options.add_argument("--rounds", type=positive, default=3)
    args = options.parse_args()
    import torch
    from transformers import GenerationConfig

    prompts = load_prompts()
    questions = read_questions(ROOT / "src/eval/usage_questions.json")[: args.questions]
    tokenizer, model = load_tokenizer(args.model_name), load_model(args.model_name)
    sampling = Sampling(max_new_tokens=args.max_new_tokens)
    requests = [
        {"key": q["id"], "id": q["id"], "messages": chat_messages(prompts, q["question"])}
        for q in questions
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

    def one_at_a_time() -> tuple[int, float]:
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
        for request in requests[: args.alone]:
            ids = torch.tensor([encode_prompt(tokenizer, request["messages"])])
            with torch.inference_mode():
                output = model.generate(ids.to(model.device), generation_config=settings)
            tokens += output.shape[1] - ids.shape[1]
        return tokens, time.perf_counter() - start

    ratios = []
    for number in range(1, args.rounds + 1):
        alone, together = one_at_a_time(), batched()
        slow, fast = alone[0] / alone[1], together[0] / together[1]
        ratios.append(fast / slow)
        print(
            f"round {number}: one at a time {slow:.1f} tokens/s ({alone[0]} tokens), batches of "
            f"{args.batch_size} {fast:.1f} tokens/s ({together[0]} tokens), ratio {fast / slow:.2f}"
        )
    print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f} on {model.device}")


if __name__ == "__main__":
    run(main)
