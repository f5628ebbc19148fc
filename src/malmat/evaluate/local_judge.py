"""Grades by a language model on this machine, read off its probabilities of the digits 1 to 5."""

from __future__ import annotations

import re
from collections.abc import Sequence

from malmat.evaluate.task import Row
from malmat.journal import Journal, key_of
from malmat.lm.load import fingerprint
from malmat.progress import Progress
from malmat.prompts import fill


def judge_locally(
    model_name: str,
    template: str,
    rows: Sequence[Row],
    journal: Journal,
    *,
    batch_size: int = 8,
) -> dict[str, dict]:
    """Grades by a local model: the expected score under its digits' probabilities.

    G-Eval's weighting (Liu et al. 2023, *G-Eval*, eq. 1) over the five digits' tokens.

    Args:
        template: the wording, with {title} {content} {question} {answer}.
    """
    model_id = fingerprint(model_name)
    messages, keys = {}, {}
    for row in rows:
        values = {field: row[field] for field in ("title", "content", "question", "answer")}
        values["answer"] = unmarked(values["answer"])
        messages[row["id"]] = [{"role": "user", "content": fill(template, **values)}]
        keys[row["id"]] = key_of(judge=model_id, messages=messages[row["id"]], kind="digits")
    missing = {row["id"] for row in rows if keys[row["id"]] not in journal}
    if missing:
        _weigh_digits(model_name, messages, keys, missing, journal, batch_size)
    verdicts = {}
    for row in rows:
        probabilities = journal.record(keys[row["id"]])["probabilities"]
        score = sum(p * s for p, s in zip(probabilities, range(1, 6), strict=True))
        score = min(5.0, max(1.0, score / sum(probabilities)))
        verdicts[row["id"]] = {
            "status": "ok",
            "value": round(score, 4),
            "judge_probabilities": probabilities,
            "judge_version": model_name,
        }
    return verdicts


def _weigh_digits(
    model_name: str,
    messages: dict[str, list[dict]],
    keys: dict[str, str],
    missing: set[str],
    journal: Journal,
    batch_size: int,
) -> None:
    """Journal the probabilities of the digits 1 to 5 after each row's messages."""
    from malmat.lm.choice import choice_probabilities
    from malmat.lm.load import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(model_name), load_model(model_name)
    order = list(messages)
    # Batches are cut from all answers, done or not, so that a resumed run pads alike.
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with Progress(len(order), done=len(order) - len(missing), label="judge") as bar:
        for batch in batches:
            wanted = [row_id for row_id in batch if row_id in missing]
            if not wanted:
                continue
            conversations = [messages[row_id] for row_id in batch]
            table = choice_probabilities(
                model, tokenizer, conversations, list("12345"), batch_size=len(batch)
            )
            journal.extend(
                {"key": keys[i], "id": i, "probabilities": [round(p, 6) for p in row]}
                for i, row in zip(batch, table, strict=True)
                if i in missing
            )
            bar.update(len(wanted))


# A chat template's own markup, spelt out in an answer, would be read as tokens:
# <|im_end|>, <start_of_turn>, </s>, <unused12>, <｜User｜>; [|user|], [/INST].
_MARKUP = re.compile(
    r"[<\[](?=[|｜]/?[\w▁]+[|｜][>\]])|<(?=/?[a-z0-9_]+>)|\[(?=/?INST\])", re.IGNORECASE
)


def unmarked(text: str) -> str:
    """The text with a space in each piece of a chat template's markup."""
    return _MARKUP.sub(r"\g<0> ", text)
