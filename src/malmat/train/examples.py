"""Training rows as examples: worded, rendered and masked as inference sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_dataset
from malmat.formats import read_pairs, read_preferences
from malmat.lm import chat
from malmat.messages import trained_turns
from malmat.prompts import fill, load_prompts
from malmat.sources.licences import licence_gate


def read_wording(source: str) -> str:
    """The text of a ``FILE:CONSTANT`` with the placeholder ``{question}``.

    Raises:
        InputError: not of that form, no such file or constant, or other placeholders.
    """
    path, colon, constant = source.rpartition(":")
    if not colon or not constant.isidentifier():
        raise InputError(
            f"'{source}' is not FILE:CONSTANT", field="wording", fix="Give, say, prompt.py:CHAT."
        )
    return load_prompts(ROOT / path, {constant: {"question"}})[constant]


def read_training_rows(path: str, *, preferences: bool, limit: int | None = None) -> list[dict]:
    """Pairs or preference rows of a file (``formats``), the first ``limit`` of them."""
    return (read_preferences if preferences else read_pairs)(path)[:limit]


def refuse_evaluation_only(path: str) -> None:
    """Stop at training rows that may be used for evaluation alone (``sources.licences``).

    Raises:
        InputError: there are some.
    """
    file = Path(path)
    if (
        file.is_file()
        and file.suffix in (".jsonl", ".json", ".csv")
        and not NAMED(file.read_bytes())
    ):
        return  # most files name no licence, and are not read twice
    licence_gate((row for _, row in read_dataset(path) if isinstance(row, dict)), path)


NAMED = re.compile(rb"evaluation_only|licence").search


def is_bare(row: dict) -> bool:
    """Whether a row asks by a question alone, which needs a wording; messages stand as they are."""
    return "question" in row and ("chosen" in row or "messages" not in row)


class Examples:
    """Training rows, encoded.

    Attributes:
        rows: as read.
        encoded: ``{input_ids, labels}``; of preference rows ``{chosen, rejected}``, each so.
        conversations: the messages of each text (of a preference row: two), with ``weight: 0``
            at the answers that are not trained in it.
        kept: the rows of ``encoded``.
        origins: of each text its row's number in ``rows``, from 1.
        skipped: rows left out because a text is longer than the limit; a cut one would
            end without its terminator, so none is cut.
        shortened: conversations whose later answers are left out because they end beyond it.
    """

    def __init__(
        self,
        rows: list[dict],
        tokenizer: Any,
        max_length: int,
        *,
        wording: str | None = None,
        path: str | None = None,
    ):
        """Encode the rows.

        Args:
            max_length: tokens that a text may have.
            wording: what a bare question is put into; None: it is the message itself.
            path: the rows' file, for the message.

        Raises:
            InputError: no row is short enough, or one cannot be rendered: what the template
                refuses of it alone, if it takes a plain question and answer.
        """
        self.rows, self._path = rows, path
        self.kept: list[dict] = []
        self.encoded: list[dict] = []
        self.conversations: list[list[dict]] = []
        self.origins: list[int] = []
        self.skipped = self.shortened = 0
        for number, row in enumerate(rows, 1):
            add = self._add_preference if "chosen" in row else self._add_conversation
            try:
                found = add(conversations(row, wording), tokenizer, max_length)
            except ValueError as error:
                raise self.fault(number, str(error)) from None
            self.skipped += not found
            self.origins += [number] * (len(self.conversations) - len(self.origins))
            self.kept += [row] * (len(self.encoded) - len(self.kept))
        if not self.encoded:
            raise InputError(
                f"no example is {max_length} tokens or shorter",
                path=path,
                field="max_seq_length",
                fix="Raise --max_seq_length.",
            )

    def fault(self, number: int, problem: str, fix: str | None = None) -> InputError:
        """What is wrong with the row of that number, which begins as the message quotes."""
        asked, *_ = conversations(self.rows[number - 1])[0][-2:]
        fix = fix or "Mend the row or leave it out, or train another model."
        return InputError(
            f"row {number} ({asked['content'][:40]!r}): {problem}", path=self._path, fix=fix
        )

    def _add_preference(self, texts: list[list[dict]], tokenizer: Any, max_length: int) -> bool:
        """Add a preference row; False where one of its texts is too long."""
        encoded = [chat.encode_example(tokenizer, messages) for messages in texts]
        if max(len(example["input_ids"]) for example in encoded) > max_length:
            return False
        self.conversations += texts
        self.encoded.append(dict(zip(("chosen", "rejected"), encoded, strict=True)))
        return True

    def _add_conversation(self, texts: list[list[dict]], tokenizer: Any, max_length: int) -> bool:
        """Add the examples of a conversation; False where each of its answers ends too late."""
        [messages] = texts
        turns = trained_turns(messages)
        parts = chat.encode_conversation(tokenizer, messages, turns, max_length)
        for example, inside in parts:
            self.encoded.append(example)
            self.conversations.append(
                [
                    {**one, "weight": 0} if one["role"] == "assistant" and n not in inside else one
                    for n, one in enumerate(messages[: inside[-1] + 1])
                ]
            )
        self.shortened += 0 < sum(len(inside) for _, inside in parts) < len(turns)
        return bool(parts)

    def texts(self) -> list[dict]:
        """Every ``{input_ids, labels}``, of a preference row two."""
        return [
            text
            for row in self.encoded
            for text in ([row["chosen"], row["rejected"]] if "chosen" in row else [row])
        ]


def conversations(row: dict, wording: str | None = None) -> list[list[dict]]:
    """A row's conversations, each ending with an answer to be trained or compared."""
    if is_bare(row):
        content = fill(wording, question=row["question"]) if wording else row["question"]
        prompt = [{"role": "user", "content": content}]
    else:
        prompt = row["messages"] if "chosen" in row else row["messages"][:-1]
    answers = [row[name] for name in ("chosen", "rejected", "answer") if name in row]
    return [[*prompt, {"role": "assistant", "content": text}] for text in answers]
