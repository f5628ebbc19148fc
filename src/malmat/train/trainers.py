"""TRL's trainers on our rendered and masked rows, with the output head at labelled positions only.

TRL brings the trainers, their arguments, the padding-free collator, and DPO's formula, reference
and figures. Three things are ours, because TRL 1.14 does not have them:

- The output head is applied at labelled positions of a packed row and nowhere else. Over a
  vocabulary of 262,144 and answers that are a quarter of the tokens, that is most of a small
  model's cost; TRL's ``chunked_nll`` does the like, but computes each logit twice
  (``bench/train.py`` compares them).
- A step's loss is the mean over its labelled tokens for every model; TRL leaves that to models
  whose forward takes ``num_items_in_batch``.
- The held-out loss counts every row once. transformers' evaluation loop weighs batches by their
  first dimension, which is 1 for a packed row, and counts some rows twice on several processes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import selective_log_softmax_and_entropy

from malmat.lm.chat import IGNORE
from malmat.progress import Log
from malmat.train.checkpoints import is_whole, seal
from malmat.train.order import ByEpoch
from malmat.train.packing import why_padded


def can_pack(model: torch.nn.Module) -> bool:
    """Whether examples can share a row (``packing.why_padded``)."""
    return why_padded(model) is None


@dataclass
class LabelledPositions(DataCollatorForLanguageModeling):
    """TRL's padding-free batch, and the positions that the output head is needed at.

    Args:
        return_flash_attn_kwargs: adds where each example begins and ends, as transformers'
            ``DataCollatorWithFlattening`` does, so that FlashAttention need not find it in the
            position ids anew in each layer (a wait for the GPU each).
    """

    return_flash_attn_kwargs: bool = False

    def torch_call(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """Add ``logits_to_keep`` (positions before a labelled token) and ``shift_labels`` (those
        tokens, of shape (1, labelled))."""
        batch = super().torch_call(examples)
        following = batch["labels"][:, 1:]
        places = (following[0] != IGNORE).nonzero()[:, 0]
        batch |= {"logits_to_keep": places, "shift_labels": following[:, places]}
        if self.return_flash_attn_kwargs:
            lengths = [len(example["input_ids"]) for example in examples]
            bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
            batch |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), bounds)
            batch |= dict.fromkeys(("max_length_q", "max_length_k"), max(lengths))
        return batch


def data_set(examples: list[dict]) -> Dataset:
    """Encoded examples in the columns of TRL's trainers: ``input_ids, labels``, and of preference
    rows ``prompt_ids, chosen_ids, rejected_ids``."""
    return Dataset.from_list([_columns(row) if "chosen" in row else row for row in examples])


def _columns(row: dict) -> dict[str, list[int]]:
    """A preference row as TRL has it tokenized: prompt, chosen and rejected answer."""
    chosen, rejected = row["chosen"], row["rejected"]["input_ids"]
    start = next(place for place, label in enumerate(chosen["labels"]) if label != IGNORE)
    prompt = chosen["input_ids"][:start]
    if rejected[:start] != prompt:
        raise ValueError("the chosen and the rejected answer have different prompts")
    answers = {"chosen_ids": chosen["input_ids"][start:], "rejected_ids": rejected[start:]}
    return {"prompt_ids": prompt, **answers}


class _Counted:
    """A trainer that counts each token or pair of a step alike, and each held-out row once, on
    any number of processes, and whose rows come in the order of ``order.ByEpoch``."""

    args: Any
    accelerator: Any
    state: Any
    train_dataset: Any
    padded_because: str | None = None
    """Why rows are padded where they could be packed (``packing.why_padded``)."""

    def _get_train_sampler(self, train_dataset=None) -> ByEpoch:
        rows = self.train_dataset if train_dataset is None else train_dataset
        args, lengths = self.args, None
        if args.train_sampling_strategy == "group_by_length":
            lengths = [len(ids) for ids in rows["input_ids"]]
        return ByEpoch(
            len(rows),
            args.seed if args.data_seed is None else args.data_seed,
            lambda: int(self.state.epoch or 0),
            lengths=lengths,
            together=args.train_batch_size * args.gradient_accumulation_steps,
        )

    def _of_step(self, total: torch.Tensor, count: torch.Tensor, in_step: Any) -> torch.Tensor:
        """The part of a step's mean loss that is summed over one of its mini-batches.

        Args:
            total, count: the mini-batch's sum, and the number of tokens or pairs in it.
            in_step: their number in the whole step, on all processes; None: this is all of it.
        """
        if in_step is None:
            return total / count.clamp(min=1)
        # The gradients of the processes are averaged, not added.
        shares = self.args.average_tokens_across_devices
        return total / in_step * (self.accelerator.num_processes if shares else 1)

    def held_loss(self, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss summed over a batch, the number of tokens or pairs it is summed over)."""
        raise NotImplementedError

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Mean loss over the held-out rows."""
        rows, processes = list(eval_dataset or self.eval_dataset), self.accelerator.num_processes
        self.model.eval()
        sums = torch.zeros(2, device=self.args.device, dtype=torch.double)
        start = 0
        while start < len(rows):
            # Every process has to take part in every pass, with as many rows: weights may be split
            # among them, and figures are gathered. In a last pass of one row each, some have none.
            share = (len(rows) - start) // processes
            size = max(1, min(share, self.args.per_device_eval_batch_size))
            part = rows[start + self.accelerator.process_index * size :][:size]
            start += size * processes
            inputs = self._prepare_inputs(self.data_collator(part or rows[:1]))
            with self.compute_loss_context_manager():
                total, count = self.held_loss(inputs)
            if part:
                sums += torch.stack([total.double(), count.double()])
        sums = self.accelerator.reduce(sums)
        metrics = {f"{metric_key_prefix}_loss": (sums[0] / sums[1]).item()}
        self.log(metrics)
        self.model.train()
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run's own is written when it is done."""

    def _send_telemetry(self) -> None:
        """Send none: a run reaches the network for nothing that was not asked for."""


class _TokenLoss(_Counted):
    """The cross-entropy of a step's labelled tokens, all its mini-batches together."""

    model: Any

    def summed_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """(loss summed over labelled tokens, their number, the model's outputs)."""
        raise NotImplementedError

    def held_loss(self, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        return self.summed_loss(self.model, inputs)[:2]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The summed loss, divided by the labelled tokens of the whole step."""
        total, count, outputs = self.summed_loss(model, inputs)
        loss = self._of_step(total, count, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


class AnswerTrainer(_TokenLoss, SFTTrainer):
    """Supervised fine-tuning on ``{input_ids, labels}`` rows; labels are -100 where no loss is.

    Rows of a batch are laid end to end where the model can tell them apart, else padded.
    """

    def __init__(self, *, model: Any, args: SFTConfig, processing_class: Any, **options: Any):
        self.padded_because = why_padded(model)
        self.packed = self.padded_because is None
        if self.packed:
            # Another one is given where the rows are packed already (``cluster_batches``).
            options.setdefault(
                "data_collator",
                LabelledPositions(
                    pad_token_id=processing_class.pad_token_id,
                    padding_free=True,
                    return_flash_attn_kwargs=model.config._attn_implementation
                    == "flash_attention_2",
                ),
            )
            args.include_num_input_tokens_seen = "all"  # there is no padding to leave out
        else:
            args.train_sampling_strategy = "group_by_length"
        super().__init__(model=model, args=args, processing_class=processing_class, **options)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the tokens of all batches
        _keep_float32(self.model)

    def summed_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        inputs = dict(inputs)
        labels, targets = inputs.pop("labels"), inputs.pop("shift_labels", None)
        # A cache would make transformers overlook that a packed row holds several examples.
        outputs = model(**inputs, use_cache=False)
        logits = outputs.logits
        if targets is None:
            labelled = labels[:, 1:] != IGNORE
            logits, targets = logits[:, :-1][labelled], labels[:, 1:][labelled]
        logits, targets = logits.flatten(0, -2).float(), targets.flatten()
        count = torch.tensor(len(targets), device=targets.device)
        return cross_entropy(logits, targets, reduction="sum"), count, outputs


class OwnLossTrainer(_TokenLoss, Trainer):
    """Supervised fine-tuning with the loss that the model computes itself, on padded rows.

    For Unsloth, whose fused loss gives no logits, and which replaces TRL's trainers by generated
    ones at its import: what those do with rows like ours cannot be shown without a GPU.
    """

    packed = False

    def __init__(self, *, args: TrainingArguments, processing_class: Any, **options: Any):
        pad = processing_class.pad_token_id
        options["data_collator"] = DataCollatorForLanguageModeling(pad_token_id=pad)
        args.train_sampling_strategy = "group_by_length"
        super().__init__(args=args, processing_class=processing_class, **options)
        self.model_accepts_loss_kwargs = True

    def summed_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        outputs = model(**inputs)
        count = (inputs["labels"][:, 1:] != IGNORE).sum()
        return outputs.loss * count, count, outputs


class PreferenceTrainer(_Counted, DPOTrainer):
    """Direct preference optimization of an adapter against the model under it.

    The loss, the reference (the adapter off) and the figures are TRL's. Where rows can be packed,
    its log-probabilities come from the answers' positions only: TRL has this seam for its chunked
    head, which needs a package for GPUs and refuses an adapted output head.
    """

    def __init__(self, *, model: Any, args: DPOConfig, **options: Any):
        super().__init__(model=model, args=args, **options)
        self.padded_because = why_padded(self.model)
        self.packed = self.padded_because is None
        if self.packed:
            self.use_liger_kernel = True  # that is: ask _get_per_token_logps_and_entropies
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the pairs of all batches
        _keep_float32(self.model)
        _without_dropout(self.model)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """As they are: rendered and tokenized already."""
        return dataset

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """The pairs of a step: transformers counts labels, which pairs have none of."""
        pairs = sum(len(batch["input_ids"]) // 2 for batch in batch_samples)
        return self.accelerator.gather(torch.tensor(pairs, device=device)).sum()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's loss, in which every pair of a step weighs alike, also those of a last mini-batch
        that is smaller. Its detour around the wrapper of DDP or FSDP is for a head that is read
        directly; here the model is called as it is."""
        found = self._compute_loss(model, inputs, return_outputs)
        loss, *outputs = found if return_outputs else (found,)
        pairs = torch.tensor(len(inputs["input_ids"]) // 2, device=loss.device)
        loss = self._of_step(loss * pairs, pairs, num_items_in_batch)
        return (loss, *outputs) if return_outputs else loss

    def _get_per_token_logps_and_entropies(self, model, model_kwargs, input_ids, completion_mask):
        """Log-probabilities and entropies of the answers' tokens; both have the shape of
        ``completion_mask`` without its first column, and are 0 beside the answers."""
        kwargs = dict(model_kwargs)
        read, answer = kwargs.pop("attention_mask").bool(), completion_mask.bool()
        kwargs["input_ids"] = input_ids[read][None]
        kwargs["position_ids"] = (read.cumsum(1) - 1)[read][None]
        kwargs["logits_to_keep"] = answer[read][1:].nonzero()[:, 0]
        outputs = model(**kwargs)
        figures = selective_log_softmax_and_entropy(
            outputs.logits[0], input_ids[answer], entropy_requires_grad=False
        )
        empty = outputs.logits.new_zeros(answer[:, 1:].shape, dtype=figures[0].dtype)
        return *(empty.masked_scatter(answer[:, 1:], values) for values in figures), outputs

    def held_loss(self, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        count = torch.tensor(len(inputs["input_ids"]) // 2, device=self.args.device)
        return self.compute_loss(self.model, inputs) * count, count


def _keep_float32(model: torch.nn.Module) -> None:
    """Undo TRL's cast of adapters on quantized weights to bfloat16, which would round away the
    steps of a small learning rate (DPO's is 5e-7)."""
    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def _without_dropout(model: torch.nn.Module) -> None:
    """Switch off what is random in training mode, so that the policy begins as its reference.

    TRL does so with modules (``nn.Dropout``). transformers' models hold their attention's and
    layers' dropout and the noise of their routers as numbers, in modules and in the config.
    """
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    for place in (*model.modules(), *configs.values()):
        for name, value in vars(place).items():
            if isinstance(value, float) and re.search("drop|jitter", name):
                setattr(place, name, 0.0)
        if isinstance(place, torch.nn.modules.dropout._DropoutNd):
            place.p = 0.0


class Lines(TrainerCallback):
    """In a log file, the steps done with their rate and the time left."""

    def on_train_begin(self, args, state, control, **kwargs):
        self._log = Log(state.max_steps, done=state.global_step, label="train", unit="step")

    def on_step_end(self, args, state, control, **kwargs):
        self._log.update()


class Checkpoints(TrainerCallback):
    """Seals each checkpoint, and finds the best one again where the folder was moved."""

    def __init__(self, output: Path):
        self._output = output

    def on_train_begin(self, args, state, control, **kwargs):
        if state.best_global_step:
            best = self._output / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best) if is_whole(best) else None

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            seal(self._output / f"checkpoint-{state.global_step}")
