"""Training rows as examples: worded, rendered and masked as inference sees them."""

from __future__ import annotations

from typing import Any

from malmat.errors import InputError
from malmat.formats import read_pairs, read_preferences
from malmat.lm import chat
from malmat.prompts import chat_messages, load_prompts


class Rows:
    """Training rows as read, and encoded as examples.

    Attributes:
        examples: ``{input_ids, labels}``; of preference rows ``{chosen, rejected}``, each so.
        conversations: the messages of each text (of a preference row: two).
        skipped: rows left out because a text is longer than the limit; a cut one would
            end without its terminator, so none is cut.

    Raises:
        InputError: no row, or none short enough.
    """

    def __init__(
        self,
        path: str,
        tokenizer: Any,
        max_length: int,
        *,
        preferences: bool = False,
        limit: int | None = None,
    ):
        prompts = load_prompts()
        self.rows = (read_preferences if preferences else read_pairs)(path)[:limit]
        self.examples: list[dict] = []
        self.conversations: list[list[dict]] = []
        for row in self.rows:
            # A question by itself gets the wording that inference gives it; messages stand as are.
            asked = "question" in row if preferences else "messages" not in row
            if asked:
                prompt = chat_messages(prompts, row["question"])
            else:
                prompt = row["messages"] if preferences else row["messages"][:-1]
            answers = [row[name] for name in ("chosen", "rejected", "answer") if name in row]
            texts = [[*prompt, {"role": "assistant", "content": text}] for text in answers]
            encoded = [chat.encode_example(tokenizer, messages) for messages in texts]
            if max(len(example["input_ids"]) for example in encoded) > max_length:
                continue
            self.conversations += texts
            self.examples.append(
                dict(zip(("chosen", "rejected"), encoded, strict=True))
                if preferences
                else encoded[0]
            )
        self.skipped = len(self.rows) - len(self.examples)
        if not self.examples:
            raise InputError(
                f"no example is {max_length} tokens or shorter",
                path=path,
                field="max_seq_length",
                fix="Raise --max_seq_length.",
            )

    def texts(self) -> list[dict]:
        """Every ``{input_ids, labels}``."""
        sides = ("chosen", "rejected")
        return [
            text
            for example in self.examples
            for text in ([example[side] for side in sides] if "chosen" in example else [example])
        ]
