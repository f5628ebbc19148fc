"""The project's own files (terms, pairs, preferences, questions), in every shape the field uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import check_fields, read_json, read_rows, row_id

STATUSES = (
    "ok",
    "api_error",
    "blocked",
    "refused",
    "truncated",
    "empty",
    "parse_error",
    "out_of_range",
    "leaked",
)
"""What can have happened to a row. Only ``ok`` rows enter an average."""


def read_terms(path: str | Path) -> list[dict]:
    """Slang terms from ``terms.csv``, ``merged_final.json`` or ``meme_sample…jsonl``.

    Returns:
        ``[{title, content, example_q, example_a, forms: [str], …}]``, a term once.
        ``forms`` are regular expressions on text without spaces that show the term
        (the optional ``forms`` column, separated by ``;``); empty where the file
        has none.
    """
    terms, seen = [], {}
    for line, row in read_rows(path):
        if isinstance(row, dict) and "content" not in row and "description" in row:
            row = {**row, "content": row["description"]}
        check_fields(row, {"title": str, "content": str}, path=path, line=line)
        title = row["title"].strip()
        if title in seen:
            if Path(path).suffix == ".csv":
                raise InputError(
                    f"'{title}' stands on line {seen[title]} already",
                    path=path,
                    line=line,
                    field="title",
                )
            continue
        seen[title] = line
        forms = [part.strip() for part in str(row.get("forms") or "").split(";") if part.strip()]
        for form in forms:
            try:
                re.compile(form)
            except re.error as error:
                raise InputError(
                    f"not a regular expression ({error})", path=path, line=line, field="forms"
                ) from None
        term = {key: value for key, value in row.items() if key != "conversations"}
        terms.append(
            {
                **term,
                "title": title,
                "content": row["content"].strip(),
                "example_q": str(row.get("example_q") or row.get("question") or ""),
                "example_a": str(row.get("example_a") or row.get("answer") or ""),
                "forms": forms,
            }
        )
    if not terms:
        raise InputError("no terms in it", path=path)
    return terms


def read_pairs(path: str | Path) -> list[dict]:
    """Dialogue pairs from any shape this field uses, flattened.

    Nested ``merged_final.json`` (``title, description, conversations: [{context, q,
    a, model}]``), flat rows (``title, question, answer``) in JSON, JSONL, CSV or
    Parquet, ``messages`` rows, prompt/completion rows (text, or lists of messages),
    or the name of a Hugging Face data set (its ``train`` split). Keys beyond these
    are passed over. Of a conversation of several turns the last answer is the one
    to be trained (see ``chat.encode_example``).

    Returns:
        ``[{id, title, question, answer, …}]``; a row of messages keeps its
        ``messages`` (its ``title`` may be empty). Exact repeats of a row share an
        id and are returned once.
    """
    pairs: dict[str, dict] = {}
    for line, row in _read_numbered(path):
        for pair in _flatten(row, path, line):
            kept = pairs.setdefault(pair["id"], pair)
            if kept.get("messages") != pair.get("messages"):
                raise InputError(
                    f"{pair['id']!r} is the id of another row already",
                    path=path,
                    line=line,
                    field="id",
                )
    if not pairs:
        raise InputError("no dialogue pairs in it", path=path)
    return list(pairs.values())


def read_preferences(path: str | Path) -> list[dict]:
    """Preference rows: a prompt, the answer to be preferred and the one to be avoided.

    In JSON, JSONL, CSV, Parquet or a Hugging Face data set, as TRL defines them:
    ``prompt, chosen, rejected`` as text or as lists of messages, or, without a
    prompt, ``chosen`` and ``rejected`` as two whole conversations that differ in
    their last answer.

    Returns:
        ``[{id, title, messages, chosen, rejected, …}]``; ``messages`` is the prompt,
        ``chosen`` and ``rejected`` are text. A row whose prompt was plain text has it
        as ``question``, too, to be worded as the questions of pairs are. Exact repeats
        are returned once.
    """
    rows: dict[str, dict] = {}
    for line, row in _read_numbered(path):
        preference = _preference(row, path, line)
        kept = rows.setdefault(preference["id"], preference)
        if kept != preference:
            raise InputError(
                f"{preference['id']!r} is the id of another row already",
                path=path,
                line=line,
                field="id",
            )
    if not rows:
        raise InputError("no preference rows in it", path=path)
    return list(rows.values())


def _preference(row: Any, path: str | Path, line: int) -> dict:
    kinds = (str, list)
    check_fields(row, {"chosen": kinds, "rejected": kinds}, path=path, line=line)
    prompt = row.get("prompt")
    if prompt is None and not isinstance(row["chosen"], list):
        raise InputError(
            "missing",
            path=path,
            line=line,
            field="prompt",
            fix="Only whole conversations (lists of messages) need no prompt.",
        )
    before = [] if prompt is None else _messages(row, "prompt", "user", path, line)
    chosen = before + _messages(row, "chosen", "assistant", path, line)
    rejected = before + _messages(row, "rejected", "assistant", path, line)
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        _ends_on_answer(messages, path, line, name)
    if chosen[:-1] != rejected[:-1]:
        raise InputError(
            "is not the conversation of 'chosen' up to the last answer",
            path=path,
            line=line,
            field="rejected",
            fix="The two may differ in the last answer only.",
        )
    good, bad = chosen[-1]["content"].strip(), rejected[-1]["content"].strip()
    if good == bad:
        raise InputError("is the same text as 'chosen'", path=path, line=line, field="rejected")
    question = {"question": prompt.strip()} if isinstance(prompt, str) else {}
    return {
        "id": str(row.get("id") or row_id("preference", chosen[:-1], good, bad)),
        "title": str(row.get("title") or ""),
        "messages": chosen[:-1],
        "chosen": good,
        "rejected": bad,
        **question,
    }


def _read_numbered(path: str | Path) -> list[tuple[int, Any]]:
    """``read_rows`` of a file, or the rows of the Hugging Face data set ``owner/name``."""
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not Path(path).exists()
    if is_name and Path(path).suffix.lower() not in (".json", ".jsonl", ".csv", ".parquet"):
        return _read_hub(str(path))
    return read_rows(path)


def _read_hub(name: str) -> list[tuple[int, Any]]:
    from datasets import load_dataset

    try:
        return list(enumerate(load_dataset(name, split="train"), 1))
    except Exception as error:
        raise InputError(
            f"no such file, and no such Hugging Face data set could be loaded "
            f"({type(error).__name__}: {error})",
            path=name,
            fix="Check the name, or the network.",
        ) from None


ROLES = ("system", "user", "assistant", "tool")


def _messages(row: dict, field: str, role: str, path: str | Path, line: int) -> list[dict]:
    """A field that is text (of ``role``) or a list of messages, as ``[{role, content}]``."""
    value = row[field]
    if isinstance(value, str):
        return [{"role": role, "content": value.strip()}]
    check_fields(row, {field: list}, path=path, line=line)
    for index, message in enumerate(value):
        where = f"{field}[{index}]."
        check_fields(message, {"role": str, "content": str}, path=path, line=line, where=where)
        if message["role"] not in ROLES:
            raise InputError(
                f"unknown role {message['role']!r}",
                path=path,
                line=line,
                field=f"{where}role",
                fix=f"One of {', '.join(ROLES)}.",
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _ends_on_answer(messages: list[dict], path: str | Path, line: int, field: str) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        problem = "the last message must be the assistant's"
    elif len(messages) < 2 or messages[-2]["role"] not in ("user", "tool"):
        problem = "the last answer must follow a message of the user"
    else:
        return
    raise InputError(problem, path=path, line=line, field=field)


def _flatten(row: Any, path: str | Path, line: int) -> Iterator[dict]:
    if isinstance(row, dict) and "messages" in row:
        check_fields(row, {"messages": list}, path=path, line=line)
        yield _conversation(row, _messages(row, "messages", "user", path, line), path, line)
    elif isinstance(row, dict) and "conversations" in row:
        check_fields(row, {"title": str, "conversations": list}, path=path, line=line)
        for index, turn in enumerate(row["conversations"]):
            where = f"conversations[{index}]."
            check_fields(turn, {"q": str, "a": str}, path=path, line=line, where=where)
            yield _pair(row["title"], turn["q"], turn["a"], turn)
    elif isinstance(row, dict) and "prompt" in row and "question" not in row:
        kinds = (str, list)
        check_fields(row, {"prompt": kinds, "completion": kinds}, path=path, line=line)
        if isinstance(row["prompt"], str) and isinstance(row["completion"], str):
            yield _pair(str(row.get("title") or ""), row["prompt"], row["completion"], row)
        else:
            messages = _messages(row, "prompt", "user", path, line)
            messages += _messages(row, "completion", "assistant", path, line)
            yield _conversation(row, messages, path, line, field="completion")
    else:
        check_fields(row, {"question": str, "answer": str}, path=path, line=line)
        yield _pair(str(row.get("title") or ""), row["question"], row["answer"], row)


def _conversation(
    row: dict, messages: list[dict], path: str | Path, line: int, field: str = "messages"
) -> dict:
    _ends_on_answer(messages, path, line, field)
    return {
        "id": str(row.get("id") or row_id("messages", messages)),
        "title": str(row.get("title") or ""),
        "question": messages[-2]["content"],
        "answer": messages[-1]["content"],
        "messages": messages,
    }


def _pair(title: str, question: str, answer: str, source: dict) -> dict:
    pair = {"title": title.strip(), "question": question.strip(), "answer": answer.strip()}
    extra = {key: source[key] for key in ("context", "model") if source.get(key)}
    return {"id": row_id("pair", *pair.values()), **pair, **extra}


def read_questions(path: str | Path) -> list[dict]:
    """Evaluation questions: ``{"questions": [str]}`` (usage) or ``[{title, question}]``.

    Returns:
        ``[{id, question, title?, …}]`` in file order; ids are unique.
    """
    path = Path(path)
    rows: list[dict] = []
    value = read_json(path) if path.suffix.lower() == ".json" else None
    if isinstance(value, dict):
        check_fields(value, {"questions": list}, path=path, line=1)
        for index, question in enumerate(value["questions"]):
            where = f"questions[{index}]"
            if not isinstance(question, str) or not question.strip():
                raise InputError("expected a question's text", path=path, field=where)
            rows.append({"id": row_id("question", question), "question": question})
    else:
        for line, row in read_rows(path):
            check_fields(row, {"question": str}, path=path, line=line)
            rows.append({"id": row_id("question", row["question"]), **row})
    if not rows:
        raise InputError("no questions in it", path=path)
    if len({row["id"] for row in rows}) != len(rows):
        repeated = next(row for row in rows if sum(r["id"] == row["id"] for r in rows) > 1)
        raise InputError(
            f"the same question stands in it twice: {repeated['question'][:40]!r}", path=path
        )
    return rows
