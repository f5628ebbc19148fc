"""Supervised fine-tuning on answers: no token of padding, no logit without a label.

A mini-batch is laid end to end in one row (position ids restart at each example,
from which transformers builds a mask that keeps the examples apart), and the
output head is applied at labelled positions only. Over a vocabulary of 262 144
and answers that are a quarter of the tokens, that is most of a small model's cost.

TRL's ``SFTTrainer`` (1.15) does the like with Triton kernels, which need a GPU;
this is plain PyTorch and works on both.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, Trainer

from malmat.chat import IGNORE


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
    """Trainer whose loss looks at labelled positions only.

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
        self._packed = not native_loss and can_pack(model)
        if self._packed:
            collator = DataCollatorWithFlattening(return_tensors="pt")
        else:
            args.train_sampling_strategy = "group_by_length"
            collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE)
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=Dataset.from_list(examples),
            eval_dataset=Dataset.from_list(held) if held else None,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = True  # the loss below divides by the tokens of all batches

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross-entropy summed over labelled tokens, divided by their number in the whole step."""
        total, count, outputs = self._answer_loss(model, inputs)
        loss = total / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _answer_loss(self, model: Any, inputs: dict) -> tuple[torch.Tensor, torch.Tensor, Any]:
        inputs = dict(inputs)
        if self._native_loss:
            outputs = model(**inputs)
            count = (inputs["labels"][:, 1:] != IGNORE).sum()
            return outputs.loss * count, count, outputs
        labels = inputs.pop("labels")[:, 1:]  # the token after each position
        if self._packed:
            places = (labels[0] != IGNORE).nonzero()[:, 0]
            # A cache would make transformers overlook that the row holds several examples.
            outputs = model(**inputs, logits_to_keep=places, use_cache=False)
            logits, targets = outputs.logits[0], labels[0, places]
        else:
            outputs = model(**inputs, use_cache=False)
            kept = labels != IGNORE
            logits, targets = outputs.logits[:, :-1][kept], labels[kept]
        total = cross_entropy(logits.float(), targets, reduction="sum")
        return total, torch.tensor(len(targets), device=total.device), outputs

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Mean loss a labelled token over the held-out rows, exact over batches and processes."""
        loader = self.get_eval_dataloader(eval_dataset)
        self.model.eval()
        sums = torch.zeros(2, device=self.args.device, dtype=torch.double)
        for inputs in loader:
            with self.compute_loss_context_manager():
                total, count, _ = self._answer_loss(self.model, self._prepare_inputs(inputs))
            sums += torch.stack([total.double(), count.double()])
        sums = self.accelerator.reduce(sums)
        self.model.train()
        metrics = {f"{metric_key_prefix}_loss": (sums[0] / sums[1]).item()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
