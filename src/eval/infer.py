"""Answer a task's questions with a model.

    python src/eval/infer.py embedded local usage --limit 20
    python src/eval/infer.py embedded local reply --adapter checkpoints/embedded-lora
    python src/eval/infer.py exports/my-model/my-model-f16.gguf local usage
    python src/eval/infer.py gpt-4o api understand
    python src/eval/infer.py Qwen3-8B-malmat-full local usage      # a row of src/train/models.json
    python src/eval/infer.py my-model api usage --base_url http://localhost:8000/v1
    python src/eval/infer.py my-model api usage --base_url http://a:8000/v1,http://b:8000/v1

Reads   the task's questions (or --questions), its wording (prompt.py) and, where there are some,
        the passages found for each question (--contexts, as retrieve.py writes them).
Writes  results/<task>/infer_results/<model>_<task>_inference_results.json (or --output): a
        row a question with its status; beside it a journal, from which a killed run goes on,
        and .run.json: settings, versions, seconds, tokens and cost.

Where a question has choices, a local model weighs them by their log-likelihoods (--score: of the
label's token, or of the whole text) or writes a number (--score number), as an API model does. With
--permute the options are put in several orders (``cyclic``, ``all`` or a number of them) and the
probabilities averaged; the run says how often the pick follows the position instead of the text.
With --cot it writes first, as the wording asks it to, and its labels are weighed behind the mark
(정답) that it writes; a reply without one is ``parse_error``. What a model thinks before it answers
is kept apart, in ``thoughts``.

Sampling defaults are the published ones: 256 tokens, temperature 0.7, top_p 0.8, top_k 20,
repetition penalty 1.15 for local models; 512 tokens, temperature 0.7 for APIs, which are sent
nothing more than what is given here. OpenAI's reasoning models (o1, o3, o4; gpt-5 and later)
take neither temperature nor top_p and are sent none. A model that thinks gets 8,192 tokens more
for it (--thinking_budget: another number, which Gemini keeps to; 0 for no thinking). A base model
that was never taught to end its turn writes on until it is cut; with --until line the first line
break ends an answer, too.

A half-done run goes on where its model, prompt and sampling are the same, whatever the batch size
or concurrency. Of several --base_url servers the first is part of the model's name, so servers
behind it can be added and taken away at will.

A local model answers in batches. Each question draws from its own seed, so its answer does not
depend on the batch, up to the rounding of the numbers: in float32 (CPU) it hardly ever shows, in
bfloat16 (GPU) answers of two batch sizes part after some words. A resumed run keeps its batches.
A GGUF file is computed by llama.cpp (requirements-gguf.txt), with the same sampling and choices.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from infer_choices import Asking
from infer_module import answer_items, api_sampling, cut_in_thought
from infer_options import arguments
from malmat.answer.api import ApiEngine
from malmat.answer.choices import ChoiceEngine
from malmat.answer.local import LocalEngine
from malmat.answer.open import open_model, sent_budget
from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.request import ASK_AGAIN, Engine
from malmat.answer.thinking import ThinkingEngine
from malmat.cli import COMPLETE, FAILURES, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.confidence import choice_figures, choice_lines
from malmat.evaluate.contexts import with_contexts
from malmat.evaluate.run_record import refuse_another_models
from malmat.evaluate.task import Item
from malmat.lm.load import check_model, short_name
from malmat.lm.sampling import Sampling
from malmat.train.record import wording_note
from tasks import TASKS

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


def main() -> int:
    args = arguments(__doc__)
    task = TASKS[args.task]
    items = task.read(Path(args.questions or task.questions))[: args.limit]
    if not items:
        raise InputError(f"no question of {task.name} in it", path=args.questions, field="task")
    items, passages = with_contexts(items, args.contexts) if args.contexts else (items, {})
    output = Path(args.output or results.answers_path(args.results_dir, task, args.name))
    show_settings("infer", {**vars(args), "output": relative(output)})
    alike = not args.output and args.name == short_name(args.adapter or args.model)
    refuse_another_models(output, vars(args), named=not alike)
    given = {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
    engine, sampling, meter = open_engine(args, items, given)
    how = "number" if args.type == "api" else args.score
    asking = Asking(task, task.prompts(), how, args.permute, passages)
    asked = {"ask_blocked": bool(args.ask_blocked), "room": args.thinking_room}
    requests = [asking.requests(item, sampling, **asked) for item in items]
    for name in (name for name in task.slices if not any(name in item for item in items)):
        print(f"note: no question has a '{name}', a slice of {task.name}")
    if args.type == "local" and list(task.wording.values()) == [{"question"}]:
        # The one constant that a bare question is put into; rows of other tasks are trained on as
        # their own render words them.
        wording = {name: asking.prompts[name] for name in task.wording}
        if note := wording_note(args.adapter or args.model, wording):
            print(note)
    plan([request for some in requests for request in some], meter, output)
    if args.dry_run:
        return COMPLETE
    rows = answer_items(
        asking,
        items,
        requests,
        engine,
        output,
        sampling=sampling,
        meter=meter,
        settings=vars(args) | ({"server": engine.model.server} if args.type == "api" else {}),
        label=f"{args.name} {task.answered_as}",
    )
    counts = Counter(row["status"] for row in rows)
    listed = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    hint = cut_in_thought(rows)
    said = [f"  {hint}"] if hint else choice_lines(choice_figures(rows))
    print(f"answers: {listed}", *said, f"wrote {relative(output)}", sep="\n")
    return FAILURES if sum(counts[status] for status in ASK_AGAIN) else COMPLETE


def open_engine(args, items: list[Item], given: dict) -> tuple[Engine, dict | None, Meter | None]:
    """What answers, what an API is sent, and what counts its cost."""
    if args.type == "api":
        given = given | sent_budget(args.thinking_budget, args.model, args.base_url)
        sampling = api_sampling(given, args.max_new_tokens, own_server=bool(args.base_url))
        model = open_model(args.model, base_url=args.base_url, extra_body=args.extra_body)
        meter = Meter(args.model, max_cost=args.max_cost)
        return ApiEngine(model, args.concurrency), sampling, meter
    check_model(args.model, args.adapter)
    common = {"adapter": args.adapter, "quantization": args.quantization}
    common["trust_remote_code"] = bool(args.trust_remote_code)
    common["batch_size"] = None if args.batch_size == "auto" else args.batch_size
    has_choices = any(item.get("choices") for item in items)
    if weighs := has_choices and args.score != "number":
        chooser = ChoiceEngine(
            args.model, **common, score=args.score, normalization=args.normalization
        )
        if not args.cot:
            return chooser, None, None
    for name in ("permute", "cot"):
        if getattr(args, name) and not weighs:
            what = "no choices are weighed" if has_choices else "no question has choices"
            raise InputError(what, field=name, fix="Leave it out.")
    until = None if args.until == "turn" else args.until
    sampling = Sampling(**given, max_new_tokens=args.max_new_tokens, until=until)
    writer = LocalEngine(args.model, sampling, **common)
    return ThinkingEngine(writer, chooser, args.cot) if args.cot else writer, None, None


def plan(requests: list, meter: Meter | None, output: Path) -> None:
    text = (message["content"] for request in requests for message in request.messages)
    tokens = {"input": sum(map(estimate_tokens, text)), "output": 60 * len(requests)}
    cost = meter.cost_of(tokens) if meter else None
    price = "" if cost is None else f", about ${cost:.3f}"
    said = f"{len(requests)} questions, about {tokens['input']:,} input tokens{price}"
    print(f"plan: {said} → {relative(output)}")


if __name__ == "__main__":
    run(main)
