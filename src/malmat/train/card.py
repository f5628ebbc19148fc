"""What a finished training run shows of itself: the model card and the loss curve."""

from __future__ import annotations

from pathlib import Path

from malmat.lm.load import short_name

CARD_SETTINGS = (
    "method",
    "num_epochs",
    "max_steps",
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_ratio",
    "weight_decay",
    "optim",
    "max_seq_length",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_modules",
    "use_rslora",
    "beta",
    "seed",
)


def model_card(record: dict) -> str:
    """A model card filled from the run (sections as on published KoCulture cards)."""
    settings, data, speed = record["settings"], record["data"], record["speed"]
    licence, versions = record["licence"], record["provenance"]["versions"]
    full = settings["method"].endswith("full")
    own = record["base"] != settings["model_name"]  # the adapter stands on a merged model
    rows = "\n".join(
        f"| {name} | {', '.join(v) if isinstance(v := settings[name], list) else v} |"
        for name in CARD_SETTINGS
        if name in settings
    )
    base = [row["eval_loss"] for row in record["losses"] if "eval_loss" in row and not row["step"]]
    held = record["heldout_loss"]
    heldout = "not measured"
    if held is not None:
        heldout = f"{held:.4f}" + (f" (before training {base[0]:.4f})" if base else "")
    over = f" (a tuned `{record['base']}`)" if own else ""
    name = short_name(settings["model_name"])
    terms = licence["licence"] or "see the base model's page"
    use = "; NOT for commercial use" if licence["commercial"] is False else ""
    load = 'model = AutoModelForCausalLM.from_pretrained("THIS", dtype="auto")'
    if not full:
        base = f'"{record["base"]}"' if not own else '"THIS", subfolder="base"'
        load = load.replace("model =", "base =").replace('"THIS"', base)
        load += '\nmodel = PeftModel.from_pretrained(base, "THIS")'
    imports = "" if full else "from peft import PeftModel\n"
    return f"""---
base_model: {record["base"]}
language: ko
library_name: {"transformers" if full else "peft"}
pipeline_tag: text-generation
license: other
license_name: {terms!r}
tags: [korean, slang, malmat]
---

# {name}, tuned on Korean slang ({settings["method"]})

A fine-tune of `{settings["model_name"]}`{over} on single-turn Korean chat with slang and memes,
made with malmat.

## Direct use

Answers everyday messages in Korean chat style.

## Out of scope

Factual, medical or legal advice, and anything that the base model's licence excludes. The weights
stand under that licence: {terms}{use}.

## Bias, risks, limitations

The data does not cover all slang, and slang ages: a term can change its meaning or go out of use.
Answers can be wrong or out of place, above all for terms that were not trained on.

## Recommendations

Read answers before you publish them, and tell the people who chat with it that it is a model.

## How to start

```python
{imports}from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS")  # this folder or repository
{load}
messages = [{{"role": "user", "content": "..."}}]  # the wording of CHAT in src/eval/prompt.py
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, enable_thinking=False, return_dict=True,
    return_tensors="pt",
).to(model.device)
output = model.generate(
    **inputs, max_new_tokens=256, do_sample=True, temperature=0.7, top_p=0.8, top_k=20, min_p=0.0
)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

## Training data

{data["examples"]:,} examples, {data["tokens"]:,} tokens, loss on the {data["labelled_tokens"]:,}
tokens of answers and turn ends; {data["skipped"]} rows were too long and left out. Source:
`{data["source"][:71]}`.

## Hyper-parameters

| setting | value |
|---|---|
{rows}

{speed["seconds"]:,.0f} s for {speed["steps"]:,} steps, {speed["tokens_per_s"]:,.0f} tokens/s, peak
memory {speed["peak_memory_gib"]} GiB; torch {versions["torch"]}, transformers
{versions["transformers"]}; commit {record["provenance"]["commit"] or "unknown"}.

## Evaluation

Loss on held-out terms: {heldout}. Scores: see the report made by `src/eval/report.py`.

![loss](loss_curve.png)
"""


def loss_curve(losses: list[dict], path: Path) -> None:
    """Plot training and held-out loss over steps into a PNG (none without a logged loss)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    for name, label, color in (
        ("loss", "training", "#2f6fab"),
        ("eval_loss", "held out", "#c2571a"),
    ):
        points = [(row["step"], row[name]) for row in losses if name in row]
        if points:
            marker = "o" if name == "eval_loss" or len(points) < 3 else None
            axes.plot(*zip(*points, strict=True), label=label, color=color, marker=marker, ms=4)
    if axes.lines:
        axes.set(xlabel="step", ylabel="loss a token of the answers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(path)
    pyplot.close(figure)
