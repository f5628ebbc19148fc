"""The processes of train_gpu.py: each makes or trains one model, and leaves the card empty.

    python bench/gpu_child.py make SIZE FOLDER [--output FILE]
    python bench/gpu_child.py time SCRIPT OPTION …      # it ends with its last step
    python bench/gpu_child.py whole SCRIPT OPTION …     # checkpoint, result and card, too
    python bench/gpu_child.py trl MODEL WAY STEPS BATCH_SIZE DATA OUTPUT

Writes  the model to FOLDER, and its numbers of parameters to sizes.json there (and to FILE); of a
        training, OUTPUT/timing.json: tokens a second from step 5 to the last, the peak memory
        beside its estimate, and the losses of all steps but the last. All are read before the
        last checkpoint is written.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

SHAPES = {  # hidden, feed-forward, layers, heads, key-value heads (Qwen2.5-1.5B and -7B, Qwen3-8B)
    "tiny": (64, 128, 2, 4, 2),
    "1.5B": (1536, 8960, 28, 12, 2),
    "7B": (3584, 18944, 28, 28, 4),
    "8B": (4096, 12288, 36, 32, 8),
}
TIED = ("tiny", "1.5B")
"""Sizes whose output head is their embedding."""
TIMING, SIZES = "timing.json", "sizes.json"
WARM = 5
"""The step that the time is taken from: kernels are compiled and memory is found by then."""


def main() -> None:
    what, *words = sys.argv[1:]
    if what == "make":
        make_model(words[0], Path(words[1]), [Path(word) for word in words[3:]])
    elif what in ("time", "whole"):
        time_script(*words, whole=what == "whole")
    else:
        folder, way, steps, batch_size, data, output = words
        train_with_trl(Path(folder), way, int(steps), int(batch_size), Path(data), Path(output))


def timer(output: Path, estimate: dict, *, whole: bool = True):
    """A callback that writes TIMING at the last step, before it is saved; the process goes on
    behind it only if it is to be ``whole``."""
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == WARM:
                self.start = reading(state)
            elif state.global_step == state.max_steps:
                (began, before), (end, after) = self.start, reading(state)
                speed = {
                    "tokens_per_s": (after - before) / (end - began),
                    "peak_memory_gib": peak_memory(),
                    "estimate_gib": estimate.get("total"),
                    "losses": [row["loss"] for row in state.log_history if "loss" in row],
                }
                output.mkdir(parents=True, exist_ok=True)
                (output / TIMING).write_text(json.dumps(speed))
                if not whole:
                    os._exit(0)

    def reading(state) -> tuple[float, int]:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), int(state.num_input_tokens_seen)

    from malmat.train.loop import peak_memory

    return Timer()


def time_script(script: str, *options: str, whole: bool) -> None:
    """Run a training script of ours with the timer beside its own callbacks."""
    if "unsloth" in script:
        import unsloth  # noqa: F401  # it has to come before transformers
    from malmat.train import run, trainers

    estimate, estimated = dict[str, Any](), run.memory

    def memory(*args, **kwargs):
        found = estimated(*args, **kwargs)
        estimate.update(found or {})
        return found

    run.memory = memory
    places = [n for n, word in enumerate(options) if word == "--output_dir"]
    clock = timer(Path(options[places[-1] + 1]), estimate, whole=whole)

    class Timed(trainers.Checkpoints):
        def on_step_end(self, *args, **kwargs):
            clock.on_step_end(*args, **kwargs)

    trainers.Checkpoints = Timed
    sys.path.insert(0, str(Path(script).parent))
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")


def make_model(size: str, folder: Path, copies: list[Path]) -> None:
    """Write a model with random weights in bf16; in SIZES its parameters without the embeddings
    (``body``), and those of the output head (``head``)."""
    import torch
    import transformers

    from malmat.lm.load import load_tokenizer

    tokenizer = load_tokenizer("embedded")
    hidden, inner, layers, heads, shared = SHAPES[size]
    torch.manual_seed(0)
    family = "Qwen2" if size == "7B" else "Qwen3"
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        head_dim=hidden // heads,
        max_position_embeddings=4096,
        tie_word_embeddings=size in TIED,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    torch.set_default_dtype(torch.bfloat16)  # in float32, 8B would not fit beside its copy
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = model.get_output_embeddings().weight.numel()
    body = model.num_parameters(exclude_embeddings=True) - (0 if size in TIED else head)
    for path in (folder / SIZES, *copies):
        path.write_text(json.dumps({"body": body, "head": head}))


def train_with_trl(folder: Path, way: str, steps: int, batch_size: int, data: Path, output: Path):
    """TRL's SFTTrainer as its examples use it: its own templating, padding and loss."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from malmat.lm.load import load_model, load_tokenizer
    from malmat.train.lora import MODULES

    rows = [json.loads(line) for line in data.read_text().splitlines()]
    talks = [
        [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]
        for r in rows
    ]
    output.mkdir()
    has_card = torch.cuda.is_available()
    SFTTrainer(
        model=load_model(str(folder)).train(),
        args=SFTConfig(
            output_dir=str(output), max_steps=steps, per_device_train_batch_size=batch_size,
            bf16=has_card, use_cpu=not has_card, optim="adamw_8bit" if has_card else "adamw_torch",
            report_to="none", save_strategy="no", max_length=512, logging_steps=1,
            gradient_checkpointing=False, include_num_input_tokens_seen="non_padding",
        ),
        train_dataset=Dataset.from_list([{"messages": talk} for talk in talks]),
        processing_class=load_tokenizer(str(folder)),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, target_modules=MODULES)
        if way == "trl-lora"
        else None,
        callbacks=[timer(output, {})],
    ).train()  # fmt: skip


if __name__ == "__main__":
    main()
