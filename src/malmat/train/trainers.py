"""Trainers whose loss looks at labelled positions only: no token of padding, no logit unused.

A mini-batch is laid end to end in one row (position ids restart at each example,
from which transformers builds a mask that keeps the examples apart), and the
output head is applied at labelled positions only. Over a vocabulary of 262 144
and answers that are a quarter of the tokens, that is most of a small model's cost.

TRL's trainers (1.15) do the like with Triton kernels, which need a GPU; this is
plain PyTorch and works on both.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Trainer,
    TrainerCallback,
)

from malmat.lm.chat import IGNORE
from malmat.train.checkpoints import is_whole, seal


def can_pack(model: torch.nn.Module) -> bool:
    """Whether examples can share a row: a model of transformers itself (whose masks know of
    position ids that restart), with attention that takes such a mask."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepts = inspect.signature(inner.forward).parameters
    return (
        type(inner).__module__.startswith("transformers.models.")
        and {"position_ids", "logits_to_keep"} <= set(accepts)
        and getattr(inner.config, "_attn_implementation", "") != "flex_attention"
    )


class AnswerTrainer(Trainer):
    """Supervised fine-tuning: the cross-entropy of a step's labelled tokens.

    Args:
        examples: ``{input_ids, labels}`` rows; labels are -100 where no loss is.
        held: rows for the held-out loss, or None.
        tokenizer: for padding, where the model cannot pack, and to be saved along.
        native_loss: take the loss that the model computes itself (Unsloth's fused one,
            whose forward gives no logits); rows are then padded.
    """

    def __init__(
        self, *, model, args, examples, held, tokenizer, native_loss=False, callbacks=None
    ):
        from datasets import Dataset

        self._native_loss = native_loss
        self.packed = not native_loss and can_pack(model)
        self.tokens = 0  # read in training by this process
        if self.packed:
            collator = DataCollatorWithFlattening(return_tensors="pt")
        else:
            if "input_ids" in examples[0]:  # what lengths are read from
                args.train_sampling_strategy = "group_by_length"
            collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE)
        super().__init__(
            model=model,
            args=args,
            data_collator=self.collator(collator),
            train_dataset=Dataset.from_list(examples),
            eval_dataset=Dataset.from_list(held) if held else None,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = True  # the loss below divides by the tokens of all batches

    @staticmethod
    def collator(flat: Any) -> Any:
        """Rows of the data set → a batch, by way of the collator of ``{input_ids, labels}``."""
        return flat

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The summed loss, divided by what there is in the whole step (all its mini-batches)."""
        total, count, outputs = self.summed_loss(model, inputs)
        if model.training:
            mask = inputs.get("attention_mask")
            self.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        if num_items_in_batch is None:
            loss = total / count.clamp(min=1)
        else:
            loss = total / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def summed_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """(loss summed over labelled tokens, their number, the model's outputs)."""
        if self._native_loss:
            outputs = model(**inputs)
            count = (inputs["labels"][:, 1:] != IGNORE).sum()
            return outputs.loss * count, count, outputs
        losses, _, outputs = self._token_losses(model, inputs)
        return losses.sum(), torch.tensor(len(losses), device=losses.device), outputs

    def _token_losses(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Negative log-likelihoods at labelled positions, the number of the example that each
        belongs to, and the model's outputs."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")[:, 1:]  # the token after each position
        if self.packed:
            places = (labels[0] != IGNORE).nonzero()[:, 0]
            # A cache would make transformers overlook that the row holds several examples.
            outputs = model(**inputs, logits_to_keep=places, use_cache=False)
            logits, targets = outputs.logits[0], labels[0, places]
            owners = (inputs["position_ids"][0] == 0).cumsum(0)[places] - 1
        else:
            outputs = model(**inputs, use_cache=False)
            kept = labels != IGNORE
            logits, targets = outputs.logits[:, :-1][kept], labels[kept]
            owners = kept.nonzero()[:, 0]
        return cross_entropy(logits.float(), targets, reduction="none"), owners, outputs

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Mean loss over the held-out rows, each counted once on any number of processes."""
        rows = list(eval_dataset or self.eval_dataset)
        size, processes = self.args.per_device_eval_batch_size, self.accelerator.num_processes
        self.model.eval()
        sums = torch.zeros(2, device=self.args.device, dtype=torch.double)
        for start in range(0, len(rows), size * processes):
            part = rows[start + self.accelerator.process_index * size :][:size]
            part = part if start + self.accelerator.process_index * size < len(rows) else []
            # Where the weights are split, every process has to take part in every pass.
            inputs = self._prepare_inputs(self.data_collator(part or rows[:1]))
            with self.compute_loss_context_manager():
                total, count, _ = self.summed_loss(self.model, inputs)
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


class PreferenceTrainer(AnswerTrainer):
    """Direct preference optimization of an adapter against the model under it.

    The sigmoid loss of Rafailov et al. (2023), *Direct Preference Optimization*, eq. 7:
    −log σ(β·(Δchosen − Δrejected)), where Δ is the answer's log-probability under the
    policy less that under the reference, which is the model with its adapter off.

    Args:
        beta: how far the policy may go from the reference.
        examples, held: ``{chosen, rejected}``, each ``{input_ids, labels}``.
    """

    def __init__(self, *, beta: float, args, **options):
        args.remove_unused_columns = False  # it would take 'chosen' and 'rejected' for unused
        self._beta = beta
        self._margins: dict[bool, list[torch.Tensor]] = {True: [], False: []}  # in training or not
        super().__init__(args=args, **options)
        self.model_accepts_loss_kwargs = False  # a mini-batch's mean, a pair being the unit

    @staticmethod
    def collator(flat: Any) -> Any:
        """Chosen and rejected answers side by side: rows 2i and 2i + 1."""
        return lambda rows: flat([row[side] for row in rows for side in ("chosen", "rejected")])

    def summed_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """(loss summed over pairs, their number, the model's outputs)."""
        policy, outputs = self._answer_scores(model, inputs)
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            reference, _ = self._answer_scores(model, inputs)
        chosen, rejected = (policy - reference).view(-1, 2).unbind(1)
        margins = self._beta * (chosen - rejected)
        self._margins[model.training].append(margins.detach())
        count = torch.tensor(len(margins), device=margins.device)
        return -logsigmoid(margins).sum(), count, outputs

    def _answer_scores(self, model: Any, inputs: dict) -> tuple[torch.Tensor, Any]:
        losses, owners, outputs = self._token_losses(model, inputs)
        scores = torch.zeros(int(owners[-1]) + 1, device=losses.device)
        return scores.index_add(0, owners, -losses), outputs

    def log(self, logs, start_time=None):
        """Reward margin and accuracy beside the loss that they belong to."""
        for prefix, training in (("", True), ("eval_", False)):
            if f"{prefix}loss" in logs and self._margins[training]:
                margins = torch.cat(self._margins[training])
                self._margins[training].clear()
                both = torch.stack([margins.mean(), (margins > 0).float().mean()])
                both = self.accelerator.reduce(both, "mean").tolist()
                logs |= dict(
                    zip((f"{prefix}reward_margin", f"{prefix}reward_accuracy"), both, strict=True)
                )
        super().log(logs, start_time)


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
