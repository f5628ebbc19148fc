"""The reference of preference training, checked before the first step.

The policy is its reference there: their log-ratio is 0 on every pair, unless the reference is
another model than the one that the adapter stands on. An adapter of an earlier stage that was not
merged, an adapter that begins with weights of its own and a policy with dropout each train towards
something else than DPO does, and the loss alone does not tell.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback
from trl.trainer.utils import selective_log_softmax

from malmat.errors import StopRunning

LOG_RATIO = 1e-4
"""Nats a token beyond which a policy is not its reference. Both are one computation before the
first step, so that they agree to the last bit but where a kernel adds in no fixed order."""

SIDES = ("chosen", "rejected")


class BeginsAsReference(TrainerCallback):
    """Stops a run of ``trainers.PreferenceTrainer`` that does not begin as its reference.

    What was found is logged: ``log_ratio`` (the largest, in nats a token), and the mean tokens of
    an answer, ``chosen_tokens`` and ``rejected_tokens``.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            return
        rows, gather = rows_read(self.trainer), self.trainer.accelerator.gather
        ratios = log_ratios(self.trainer, rows).abs().to(args.device)
        # Not "ratios > LOG_RATIO": a log-ratio that is no number is none of 0 either.
        wrong = int(gather((~(ratios <= LOG_RATIO)).any(1).sum()).sum())
        worst = gather(ratios.max() if len(ratios) else ratios.new_zeros(())).max().item()
        if wrong:
            raise StopRunning(
                f"before the first step the policy is not its reference on {wrong} of {len(rows)} "
                f"pairs (a log-ratio of up to {worst:.3g} a token, not 0): the adapter does not "
                "stand on the model that it is compared with"
            )
        mean = {side: sum(map(len, rows[f"{side}_ids"])) / len(rows) for side in SIDES}
        found = {"log_ratio": worst} | {f"{side}_tokens": mean[side] for side in SIDES}
        self.trainer.log(found)
        lengths = ", ".join(f"{mean[side]:.1f} {side}" for side in SIDES)
        print(
            f"  reference: log-ratio at most {worst:.1g} on {len(rows)} pairs before the first "
            f"step; mean tokens {lengths}",
            flush=True,
        )


def rows_read(trainer: Any) -> Any:
    """The pairs that the run reads: all, unless its steps end within the first epoch."""
    rows, args = trainer.train_dataset, trainer.args
    a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if not 0 < args.max_steps * a_step < len(rows):
        return rows
    return rows.select(list(trainer._get_train_sampler())[: args.max_steps * a_step])


@torch.no_grad()
def log_ratios(trainer: Any, rows: Any) -> torch.Tensor:
    """Of every answer of some pairs, in nats a token: the log-probability that the policy gives
    it less the reference's.

    Returns:
        Shape (pairs, 2), chosen before rejected; of this process's share of the pairs, in the
        mode in which training reads them.
    """
    model, found = trainer.model_wrapped.train(), []
    rank, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
    size = trainer.args.per_device_train_batch_size
    for start in range(0, len(rows), processes * size):
        # Every process has to take part in every pass: weights may be split among them.
        first = start + rank * size
        part = [rows[n] for n in range(first, min(first + size, len(rows)))]
        inputs = trainer._prepare_inputs(trainer.data_collator(part or [rows[0]]))
        with trainer.compute_loss_context_manager():
            policy = answer_logps(trainer, model, inputs)
            reference = torch.cat(trainer._compute_ref_log_probs(model, inputs))
        if part:
            ratios = (policy - reference).float() / inputs["completion_mask"].sum(1)
            found.append(ratios.reshape(2, -1).T)
    return torch.cat(found) if found else torch.zeros(0, 2)


def answer_logps(trainer: Any, model: Any, inputs: dict) -> torch.Tensor:
    """The summed log-probability that the policy gives each answer, as TRL's
    ``_compute_ref_log_probs`` sums the reference's: shape (2 × pairs,), all chosen ones first."""
    ids, mask = inputs["input_ids"], inputs["completion_mask"]
    kwargs = {name: value for name, value in inputs.items() if name != "completion_mask"}
    kwargs["use_cache"] = False
    if trainer.packed:
        logps = trainer._get_per_token_logps_and_entropies(model, kwargs, ids, mask)[0]
    else:
        logits = model(**kwargs).logits[:, :-1]
        logps = selective_log_softmax(logits, ids[:, 1:], row_mask=mask[:, 1:])
    return logps.sum(1)
