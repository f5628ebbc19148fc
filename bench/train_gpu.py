"""Training on a GPU: malmat's and Unsloth's scripts against plain TRL, on random weights.

    python bench/train_gpu.py                            # 1.5B and 8B, all ways: about 20 minutes
    python bench/train_gpu.py --sizes 1.5B --ways lora trl-lora unsloth-lora --steps 20

Needs a card and requirements-gpu.txt; no network: the models are made on the spot, with Qwen's
shapes, random weights and the embedded model's tokenizer. Every way trains the same rows of
merged_final.json in a process of its own, in turns, so that one that runs out of memory costs only
its own line.

Prints  tokens a second (of the data, padding not counted), the share of the card's bf16 peak, and
        the peak memory. Useful operations a token: 6 × parameters for full fine-tuning, 4 × for
        adapters (no weight gradients), without attention and embeddings (Kaplan et al. 2020,
        *Scaling Laws*, 2.1); the output head counts at labelled tokens only, for all ways alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from malmat.cli import parser, positive, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402
from malmat.formats import read_pairs  # noqa: E402

SHAPES = {  # hidden, feed-forward, layers, heads, key-value heads (Qwen2.5-1.5B, Qwen3-8B)
    "tiny": (64, 128, 2, 4, 2),
    "1.5B": (1536, 8960, 28, 12, 2),
    "8B": (4096, 12288, 36, 32, 8),
}
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "3090": 71}
"""Dense bf16 TFLOP/s by the makers' data sheets."""
SCRIPTS = {
    "lora": ("train_lora_fine_tuning.py",),
    "4bit": ("train_lora_fine_tuning.py", "--option_4bit"),
    "full": ("train_transformers_full_fine_tuning.py",),
    "unsloth-lora": ("train_unsloth_fine_tuning.py",),
    "unsloth-4bit": ("train_unsloth_fine_tuning.py", "--option_4bit"),
    "unsloth-full": ("train_unsloth_fine_tuning.py", "--option_full"),
}
WAYS = [*SCRIPTS, "trl-lora", "trl-full"]


def arguments():
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SHAPES), default=["1.5B", "8B"])
    options.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options.add_argument("--steps", type=positive, default=30)
    options.add_argument("--batch_size", type=positive, default=16)
    options.add_argument("--peak_tflops", type=float, help="of a card that is not in the table")
    options.add_argument("--trl", metavar="FOLDER", help="(the child that runs TRL)")
    return options.parse_args()


def main() -> None:
    args = arguments()
    if args.trl:
        train_with_trl(args)
    else:
        compare(args)


def compare(args) -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError("no GPU here", field="bench/train_gpu.py", fix="Run it on a GPU box.")
    card = torch.cuda.get_device_name()
    peak = args.peak_tflops or next((t for name, t in PEAKS.items() if name in card), None)
    lines = [("size", "way", "tokens/s", "of bf16 peak", "GiB", "seconds")]
    with tempfile.TemporaryDirectory() as folder:
        rows = read_pairs(ROOT / "merged_final.json")[: args.steps * args.batch_size]
        data = Path(folder) / "rows.jsonl"
        data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        for size in args.sizes:
            model, parameters = make_model(size, Path(folder) / size, labelled_share(rows))
            for way in args.ways:
                began = time.monotonic()
                speed = measure(args, way, model, data, Path(folder) / f"{size}-{way}")
                line = (size, way, "failed (its last lines are above)", "", "", "")
                if speed:
                    work = speed["tokens_per_s"] * parameters * (6 if "full" in way else 4)
                    line = (
                        size,
                        way,
                        f"{speed['tokens_per_s']:,.0f}",
                        f"{work / peak / 1e12:.1%}" if peak else "?",
                        f"{speed['peak_memory_gib']:.1f}",
                        f"{time.monotonic() - began:.0f}",
                    )
                lines.append(line)
                print("  ".join(line), flush=True)
    print(f"\n{card}, {peak or '?'} TFLOP/s, batches of {args.batch_size}, {args.steps} steps")
    show_table(lines)


def labelled_share(rows: list[dict]) -> float:
    """The share of tokens that carry loss."""
    from malmat.lm.load import load_tokenizer
    from malmat.train.examples import Examples, read_wording

    wording = read_wording("src/eval/prompt.py:CHAT")
    texts = Examples(rows, load_tokenizer("embedded"), 4096, wording=wording).texts()
    labels = [label for text in texts for label in text["labels"]]
    return sum(label != -100 for label in labels) / len(labels)


def make_model(size: str, folder: Path, labelled: float) -> tuple[Path, float]:
    """A folder with random weights in bf16, and the parameters that a token meets on average."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from malmat.lm.load import load_tokenizer

    tokenizer = load_tokenizer("embedded")
    hidden, inner, layers, heads, shared = SHAPES[size]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        head_dim=hidden // heads,
        max_position_embeddings=4096,
        tie_word_embeddings=size != "8B",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    with torch.device("cuda"):
        model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = model.get_output_embeddings().weight.numel()
    body = model.num_parameters(exclude_embeddings=True) - (0 if size != "8B" else head)
    return folder, body + labelled * head


def measure(args, way: str, model: Path, data: Path, output: Path) -> dict | None:
    """``{tokens_per_s, peak_memory_gib}`` of a way, None where it failed."""
    if way in SCRIPTS:
        script, *options = SCRIPTS[way]
        words = [ROOT / "src/train" / script, "--model_name", model, "--data_path", data]
        words += ["--output_dir", output, "--max_steps", args.steps, "--report_to", "none"]
        words += ["--batch_size", args.batch_size, "--gradient_accumulation_steps", 1]
        words += ["--save_steps", args.steps, "--allow_leaks", "--gradient_checkpointing", "off"]
        words += options
    else:
        words = [__file__, "--trl", model, "--ways", way, "--steps", args.steps]
        words += ["--batch_size", args.batch_size]
        output.mkdir()
        (output / "rows.jsonl").write_bytes(data.read_bytes())
    result = subprocess.run(
        [sys.executable, *map(str, words)], cwd=data.parent if way in SCRIPTS else output,
        capture_output=True, text=True,
    )  # fmt: skip
    if result.returncode:
        print("\n".join(result.stderr.strip().splitlines()[-5:]), flush=True)
        return None
    return json.loads((output / "run.json").read_text())["speed"]


def train_with_trl(args) -> None:
    """TRL's SFTTrainer as its examples use it: its own templating, padding and loss."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from malmat.lm.chat import encode_example
    from malmat.lm.load import load_model, load_tokenizer
    from malmat.train.lora import MODULES

    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    talks = [
        [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]
        for r in rows
    ]
    tokenizer = load_tokenizer(args.trl)
    tokens = sum(len(encode_example(tokenizer, talk)["input_ids"]) for talk in talks)
    trainer = SFTTrainer(
        model=load_model(args.trl).train(),
        args=SFTConfig(
            output_dir="trl", max_steps=args.steps, per_device_train_batch_size=args.batch_size,
            bf16=True, optim="adamw_8bit", report_to="none", save_steps=args.steps, max_length=512,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"messages": talk} for talk in talks]),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, target_modules=MODULES)
        if args.ways == ["trl-lora"]
        else None,
    )  # fmt: skip
    torch.cuda.synchronize()
    began = time.perf_counter()
    trainer.train()
    torch.cuda.synchronize()
    speed = {
        "tokens_per_s": tokens / (time.perf_counter() - began),
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30,
    }
    Path("run.json").write_text(json.dumps({"speed": speed}))


if __name__ == "__main__":
    run(main)
