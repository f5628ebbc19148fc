"""Full fine-tuning in bfloat16: how much of an update is written, and what that costs.

    python bench/bf16.py                                  # the embedded model: about half an hour
    python bench/bf16.py --learning_rates 6e-5 --steps 10

Needs torchao (requirements-gpu.txt). Every way begins with the embedded model's
weights, rounded to bfloat16, and takes the same batches of merged_final.json at a constant rate.
Forward and backward passes are computed in float32 from the weights as they are stored, so that
the ways differ in one thing, the rounding of what the optimizer writes. The embeddings, two thirds
of this model and of the work, stay as they are.

    float32     float32 weights, torch's AdamW
    nearest     bfloat16 weights, torchao's AdamW with 8-bit states, rounded to the nearest
                (as by adamw_8bit, whose CPU code takes minutes a step)
    stochastic  the same, rounded up or down by chance (the default of full fine-tuning)

Prints  over the weights of the projections, of AdamW's first step by arithmetic alone (seconds) and
        of each way's last step: the share whose change was lost whole, and the change as written
        over the change that was meant (AdamW's in float32, from the same states and gradient); and
        the loss on the answers of held rows at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from malmat.cli import parser, positive, run, show_table  # noqa: E402
from malmat.files import write_json  # noqa: E402
from malmat.train.optimizer import ROUNDED  # noqa: E402

WAYS = {"float32": ("adamw_torch", None), "nearest": (ROUNDED[0], None), "stochastic": ROUNDED}
DECAY = 0.01


def arguments():
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--data_path", default=str(ROOT / "merged_final.json"))
    options.add_argument("--learning_rates", nargs="+", type=float, default=[6e-5, 6e-6])
    options.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    options.add_argument("--steps", type=positive, default=50)
    options.add_argument("--batch_size", type=positive, default=4)
    options.add_argument("--held", type=positive, default=32, help="rows for the loss at the end")
    options.add_argument("--seed", type=int, default=3407)
    options.add_argument("--device", help="default: the card where there is one")
    options.add_argument("--output", help="a JSON file for the figures")
    return options.parse_args()


def main() -> None:
    import torch

    args = arguments()
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    first_step(args)
    batches, held = read_batches(args)
    found = []
    lines = [("rate", "weights", "lost", "written / meant", f"held loss, step {args.steps}")]
    for rate in args.learning_rates:
        for way in args.ways:
            lost, written, before, after = train(args, way, rate, batches, held)
            figures = (f"{lost:.1%}", f"{written:.1%}", f"{after:.4f} (before {before:.4f})")
            lines.append((f"{rate:g}", way, *figures))
            print("  ".join(lines[-1]), flush=True)
            one = {"rate": rate, "way": way, "lost": lost, "written": written}
            found.append({**one, "before": before, "after": after})
    print()
    show_table(lines)
    if args.output:
        write_json(args.output, {"steps": args.steps, "figures": found})


def first_step(args) -> None:
    """AdamW's first step, which is the rate up or down for every weight, rounded both ways."""
    import torch
    from torchao.optim.quant_utils import _fp32_to_bf16_sr

    from malmat.lm.load import load_model

    named = load_model(args.model_name, dtype="float32", device="cpu").named_parameters()
    weights = torch.cat([p.detach().flatten() for n, p in named if "_proj" in n]).bfloat16().float()
    for rate in args.learning_rates:
        change = rate * (torch.randint(0, 2, weights.shape) * 2 - 1) - rate * DECAY * weights
        for way, rounded in (("nearest", torch.Tensor.bfloat16), ("stochastic", _fp32_to_bf16_sr)):
            made = rounded(weights + change).float() - weights
            kept = (made * change.sign()).sum().item() / change.abs().sum().item()
            lost = (made == 0).float().mean().item()
            print(f"first step, {rate:g}, {way}: lost {lost:.1%}, written {kept:.1%}", flush=True)


def read_batches(args) -> tuple[list[list[dict]], list[dict]]:
    """The batches of the steps, and the held rows, spread over the data."""
    from malmat.lm.load import load_tokenizer
    from malmat.train.examples import Examples, read_training_rows, read_wording

    rows = read_training_rows(args.data_path, preferences=False)
    need = args.steps * args.batch_size + args.held
    tokenizer, wording = load_tokenizer(args.model_name), read_wording("src/eval/prompt.py:CHAT")
    rows = rows[:: max(1, len(rows) // need)]
    examples = Examples(rows, tokenizer, 512, wording=wording).encoded[:need]
    held = examples[:: need // args.held][: args.held]
    rest = [example for example in examples if example not in held]
    size = args.batch_size
    return [rest[n : n + size] for n in range(0, args.steps * size, size)], held


def train(args, way: str, rate: float, batches: list, held: list) -> tuple[float, ...]:
    """(share of changes lost, written over meant, held loss before and after)."""
    import torch
    from transformers import Trainer, TrainingArguments

    from malmat.lm.load import load_model

    torch.compile = lambda step, **options: step  # compiling takes longer than 50 plain steps
    torch.manual_seed(args.seed)
    model = load_model(args.model_name, dtype="float32", device=args.device).eval()  # no dropout
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    model.get_input_embeddings().weight.requires_grad_(False)
    stored = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if way != "float32":
        stored = {name: torch.nn.Parameter(p.detach().bfloat16()) for name, p in stored.items()}
    optim, more = WAYS[way]
    config = TrainingArguments(
        "unused", optim=optim, optim_args=more, learning_rate=rate, report_to="none"
    )
    kind, options = Trainer.get_optimizer_cls_and_kwargs(config)
    optimizer = kind(list(stored.values()), **options, weight_decay=DECAY)
    before, figures = held_loss(model, held), (0.0, 0.0)
    for step, batch in enumerate(batches, 1):
        summed_loss(model, batch, mean=True).backward()
        for name, weight in stored.items():
            computed = model.get_parameter(name)
            gradient, computed.grad = computed.grad, None
            weight.grad = gradient.to(weight.dtype)
        seen = [n for n in stored if "_proj" in n] if step == len(batches) else []
        changes = {n: meant(optimizer, stored[n], rate, options, step) for n in seen}
        old = {n: stored[n].detach().clone() for n in seen}
        optimizer.step()
        optimizer.zero_grad()
        if seen:
            figures = compare(changes, old, stored)
        with torch.no_grad():
            for name, weight in stored.items():
                if (computed := model.get_parameter(name)) is not weight:
                    computed.copy_(weight)
    return *figures, before, held_loss(model, held)


def meant(optimizer, weight, rate: float, options: dict, step: int):
    """AdamW's change of a weight in float32, from its states and gradient before the step."""
    import torch

    (beta1, beta2), gradient = options["betas"], weight.grad.float()
    state, moments = optimizer.state[weight], []
    for name in ("exp_avg", "exp_avg_sq"):
        moment = state[name] if state else torch.zeros_like(gradient)
        moments.append((moment.dequantize() if hasattr(moment, "codes") else moment).float())
    first = moments[0].lerp(gradient, 1 - beta1) / (1 - beta1**step)
    second = moments[1].lerp(gradient.square(), 1 - beta2) / (1 - beta2**step)
    change = first / (second.sqrt() + options["eps"])
    return -rate * (change + DECAY * weight.detach().float())


def compare(changes: dict, before: dict, stored: dict) -> tuple[float, float]:
    """(share of weights whose change is lost, change written over change meant)."""
    lost = count = 0
    written = whole = 0.0
    for name, change in changes.items():
        made = stored[name].detach().float() - before[name].float()
        lost += ((made == 0) & (change != 0)).sum().item()
        count += (change != 0).sum().item()
        written += (made * change.sign()).sum().item()
        whole += change.abs().sum().item()
    return lost / count, written / whole


def summed_loss(model, batch: list[dict], *, mean: bool = False):
    """Cross-entropy of the labelled tokens, the examples side by side."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    ids, labels = (
        pad_sequence(
            [torch.tensor(row[key], device=model.device) for row in batch],
            batch_first=True,
            padding_value=pad,
        )
        for key, pad in (("input_ids", 0), ("labels", -100))
    )
    hidden = model.model(ids).last_hidden_state[:, :-1]  # right padding: nothing reads it
    live = labels[:, 1:] != -100
    logits = model.get_output_embeddings()(hidden[live])
    return cross_entropy(logits, labels[:, 1:][live], reduction="mean" if mean else "sum")


def held_loss(model, held: list[dict]) -> float:
    """Mean loss a labelled token."""
    import torch

    count = sum(label != -100 for row in held for label in row["labels"])
    with torch.no_grad():
        total = sum(summed_loss(model, held[n : n + 8]).item() for n in range(0, len(held), 8))
    return total / count


if __name__ == "__main__":
    run(main)
