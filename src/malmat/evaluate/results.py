"""Answers, verdicts and ratings on disk: the one place that knows their paths and field names.

    results/<task>/infer_results/<model>_<task>_inference_results.json
    results/<task>/score_results/<model>_<task>_<scorer>_score_results.json
    results/<task>/human_results/<rater>_<task>_ratings.jsonl
    results/<task>/calibration_results/<scorer>_calibration.json

A score file is a ``Run``: one model's rows on one task under one scorer. All runs of a task are
its table, and everything that compares, reports or votes stands on it. Older files are read too.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from malmat.answer.replies import thoughts_apart
from malmat.dialogues import as_answer
from malmat.errors import InputError
from malmat.evaluate import stats
from malmat.evaluate.items import complete, items_of
from malmat.evaluate.task import Named, Row, Task, cluster
from malmat.files import check_fields, plain_name, read_json, read_rows, row_id, write_json
from malmat.formats import STATUSES
from malmat.lm.chat import run_on
from malmat.lm.load import short_name


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def answers_path(root: str | Path, task: Task, model: str) -> Path:
    """Where a model's answers to a task lie."""
    folder, name = Path(root) / task.answered_as / "infer_results", plain_name(model)
    return folder / f"{name}_{task.answered_as}_inference_results.json"


def scores_path(root: str | Path, task: Task, model: str, scorer: str) -> Path:
    """Where a scorer's verdicts on a model's answers lie."""
    judge = _safe(short_name(scorer.replace("local:", "local-")))
    folder = Path(root) / task.name / "score_results"
    return folder / f"{plain_name(model)}_{task.name}_{judge}_score_results.json"


def ratings_path(root: str | Path, task: Named, rater: str) -> Path:
    """Where a rater's ratings lie, whatever letters the name has.

    Raises:
        InputError: a name without a letter or digit.
    """
    name = _safe(unicodedata.normalize("NFC", rater)).strip(".-")[:40]
    if not name:
        raise InputError("no letter or digit in the name", field="rater")
    return Path(root) / task.name / "human_results" / f"{name}_{task.name}_ratings.jsonl"


def ratings_files(root: str | Path, task: Named) -> list[Path]:
    """The files of all raters."""
    return sorted((Path(root) / task.name / "human_results").glob(f"*_{task.name}_ratings.jsonl"))


def calibration_path(root: str | Path, task: Task, scorer: str) -> Path:
    """Where a scorer's agreement with the anchors lies."""
    judge = _safe(short_name(scorer.replace("local:", "local-")))
    return Path(root) / task.name / "calibration_results" / f"{judge}_calibration.json"


def run_record(answers: str | Path) -> Path:
    """Where the settings, time and cost of answers are stored: ``x.json`` → ``x.run.json``."""
    return Path(answers).with_suffix(".run.json")


# ------------------------------------------------------------------------------ answers


def status_of(answer: str) -> str:
    """What an older row, that does not say it itself, holds: an answer, or what became of it."""
    if not answer.strip():
        return "empty"
    if re.match(r"\s*Error in \w+", answer):
        return "api_error"
    return "ok" if run_on(answer.strip()) is None else "leaked"


def read_answers(path: str | Path, *, unique: bool = False) -> list[Row]:
    """Answers written by ``infer.py``, or the older ``{question, answer}`` rows.

    Older rows get an id from their question and are ``ok`` unless the answer is
    empty, runs on past the end of its turn, or is an error message that an older
    script saved as an answer. Conjoining jamo come out as they are typed, thoughts as ``thoughts``.

    Raises:
        InputError: not rows of answers; with ``unique`` also where an id stands twice.
    """
    rows = []
    for line, row in ((number, as_answer(one)) for number, one in read_rows(path)):
        check_fields(row, {"question": str}, path=path, line=line)
        if not isinstance(row.get("answer"), (str, type(None))):
            raise InputError("expected text or null", path=path, line=line, field="answer")
        row = thoughts_apart({**row, "answer": row.get("answer") or ""})
        row.setdefault("id", row_id("question", row["question"]))
        if "status" not in row:
            row["status"] = status_of(row.get("answer") or "")
        elif row["status"] not in STATUSES:
            raise InputError(
                f"unknown status {row['status']!r}",
                path=path,
                line=line,
                field="status",
                fix=f"One of {', '.join(STATUSES)}.",
            )
        elif row["status"] == "ok" and not (row.get("answer") or "").strip():
            raise InputError("no answer, though the status is ok", path=path, line=line)
        rows.append(row)
    if not rows:
        raise InputError("no answers in it", path=path)
    counts = Counter(row["id"] for row in rows) if unique else {}
    if twice := next((one for one, count in counts.items() if count > 1), None):
        problem = f"the row {twice} (in older files: a question) stands in it twice"
        fix = "Verdicts are joined by id: keep one row of each."
        raise InputError(problem, path=path, field="id", fix=fix)
    return rows


def with_meanings(
    rows: Iterable[Row], terms: list[dict], path: str | Path, terms_path: str | Path
) -> list[Row]:
    """Each row with the meaning (``content``) of the term that it is about.

    Raises:
        InputError: a row without a term, or with one that the list does not hold.
    """
    meanings = {term["title"]: term["content"] for term in terms}
    found = []
    for row in rows:
        title = row.get("title")
        if not title:
            raise InputError(
                f"no term is known for the question {row['question'][:30]!r}",
                path=path,
                field="title",
                fix="Give the questions that were answered with --questions.",
            )
        if title not in meanings:
            raise InputError(
                f"the term '{title}' is not in the term list",
                path=terms_path,
                field="title",
                fix="Give the right list with --terms.",
            )
        found.append({**row, "content": meanings[title]})
    return found


# ------------------------------------------------------------------------------ verdicts


def join(answers: Iterable[Row], verdicts: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Answers with their verdicts, by id; ``stage`` says where a status other than ok arose.

    ``value`` is None wherever the status is not ok.
    """
    rows = []
    for answer in answers:
        if answer["status"] != "ok":
            rows.append({**answer, "value": None, "stage": "answer"})
        else:
            rows.append({**answer, "value": None, **verdicts[answer["id"]], "stage": "judge"})
    return rows


@dataclass(frozen=True)
class Run:
    """One model's rows on one task under one scorer.

    Args:
        model: its name in tables, told apart from others of the same name.
        rows: id → row; ``value`` is None where the row has none.
        record: what else the score file holds (settings, trust, cost …).
        path: of the file.
        answered_by: the model's own name.
    """

    task: Task
    model: str
    scorer: str
    rows: dict[str, Row]
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    answered_by: str = ""

    def where(self, **wanted: Any) -> list[Row]:
        """The rows whose fields have the wanted values."""
        rows = self.rows.values()
        return [r for r in rows if all(r.get(name) == value for name, value in wanted.items())]

    def only(self, **wanted: Any) -> Run:
        """The run with no more rows than ``where`` finds."""
        return replace(self, rows={row["id"]: row for row in self.where(**wanted)})

    def values(self, **wanted: Any) -> dict[str, float | None]:
        """Id → value of the rows ``where`` finds."""
        return {row["id"]: row["value"] for row in self.where(**wanted)}

    def summary(self, **wanted: Any) -> dict:
        """The mean of ``where``'s rows with interval and bounds (``stats.summarize``)."""
        return summarize(self.task, self.where(**wanted))

    def slices(self) -> dict[str, dict[Any, dict]]:
        """Field → its values → the summary of their rows, for the fields that the rows have."""
        found = {}
        for name in self.task.slices:
            values = dict.fromkeys(r[name] for r in self.rows.values() if r.get(name) is not None)
            if values:
                found[name] = {value: self.summary(**{name: value}) for value in values}
        return found

    def figures(self) -> dict[str, dict]:
        """The task's figures of all scored rows, each with a bootstrap interval over clusters."""
        scored = [row for row in self.rows.values() if row["value"] is not None]
        clusters, found = [cluster(row) for row in scored], {}
        for name, figure in self.task.figures.items() if scored else ():
            try:
                found[name] = stats.figure_interval(scored, figure, clusters)
            except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
                raise InputError(repr(error), path=self.task.name, field=name) from None
        return found

    def statuses(self) -> Counter[str]:
        return Counter(row["status"] for row in self.rows.values())

    def judgements(self) -> Counter[str]:
        """How many judgements came to which status."""
        known = [Counter[str](row.get("judge_statuses", {})) for row in self.rows.values()]
        return sum(known, Counter[str]())

    def missing(self) -> int:
        """How many judgements were not made; one off the scale was."""
        return sum(n for s, n in self.judgements().items() if s not in ("ok", "out_of_range"))


def headline(summary: dict) -> str:
    """``3.42 [3.20, 3.61] (98/100 scored; bounds 3.37–3.45)``."""
    mean = summary["mean"]
    text = "no row could be scored" if mean is None else f"{mean:.3f}"
    if summary["interval"]:
        text += f" [{summary['interval'][0]:.3f}, {summary['interval'][1]:.3f}]"
    text += f" ({summary['n_scored']}/{summary['n_total']} scored"
    if summary["n_scored"] < summary["n_total"]:
        ends = ("–" if end is None else f"{end:.3f}" for end in summary["bounds"])
        text += f"; bounds {'–'.join(ends)}"
    return text + ")"


def summarize(task: Task, rows: list[Row]) -> dict:
    """The mean of rows on the task's scale, clustered by what the rows are about."""
    scale = task.scale
    return stats.summarize(
        [row["value"] for row in rows],
        low=scale.low,
        high=scale.high,
        clusters=[cluster(row) for row in rows],
        rate=scale.kind == "rate",
    )


def published(run: Run) -> list[Row]:
    """A run's rows as they stand in files: with the value under its published name."""
    rows = []
    for row in run.rows.values():
        value = row["value"]
        if run.task.legacy and run.task.scale.kind == "rate" and value is not None:
            value = bool(value)  # as published files spell it
        kept = {name: item for name, item in row.items() if name not in ("value", "content")}
        rows.append({**kept, run.task.value_field: value})
    return rows


def save(path: str | Path, run: Run, more: Mapping[str, Any]) -> dict:
    """Write a score file under the published names; what is in it comes back.

    A file that would say the same but for the seconds is left as it is.
    """
    task, summary = run.task, run.summary()
    result = {
        "model_name": run.model,
        "task": task.name,
        "scorer_name": run.scorer,
        task.mean_field: summary["mean"],
        **{name: summary[name] for name in ("n_scored", "n_total", "interval", "bounds")},
        "slices": {
            name: {str(value): part for value, part in parts.items()}
            for name, parts in run.slices().items()
        },
        "figures": run.figures(),
        "statuses": dict(run.statuses()),
        **more,
        "results": published(run),
    }
    try:
        old = read_json(path)
    except InputError:
        old = None
    if isinstance(old, dict) and {**old, "seconds": None} == {**result, "seconds": None}:
        result["seconds"] = old.get("seconds")
    write_json(path, result)
    return result


def load(path: str | Path, tasks: Mapping[str, Task]) -> Run:
    """A score file with every row checked.

    Older files are read too: rows without an id get it from their question, rows without a
    status theirs from the answer (a score given to a failure is dropped), and the task is known
    by the name of the mean.

    Raises:
        InputError: not a score file, naming the field.
    """
    path = Path(path)
    value = check_fields(read_json(path), {"model_name": str, "results": list}, path=path, line=1)
    if not isinstance(value.get("settings", {}), dict):
        raise InputError("expected an object", path=path, field="settings")
    task = tasks.get(str(value.get("task") or value.get("score_mode")))
    if task is None:
        known = (one for one in tasks.values() if one.legacy and one.mean_field in value)
        task = next(known, None)
    if task is None or task.mean_field not in value:
        figures = " nor ".join(dict.fromkeys(one.mean_field for one in tasks.values()))
        raise InputError(f"not a score file: no {figures} in it", path=path)
    rows: dict[str, Row] = {}
    for index, row in enumerate(value["results"]):
        row = _row(task, row, path, f"results[{index}]")
        if row["id"] in rows:
            raise InputError(
                "the same id stands in it twice", path=path, field=f"results[{index}].id"
            )
        rows[row["id"]] = row
    if "split" in task.slices and not any("split" in row for row in rows.values()):
        rows = {row["id"]: row for row in complete(rows.values(), items_of(task))}
    record = {name: item for name, item in value.items() if name != "results"}
    record.setdefault("settings", {})
    name, scorer = value["model_name"], str(value.get("scorer_name") or "unnamed judge")
    return Run(task, name, scorer, rows, record, path, name)


def _row(task: Task, row: Any, path: Path, where: str) -> Row:
    """A row of a score file, checked, with ``id``, ``status`` and ``value``."""
    check_fields(row, {"question": str}, path=path, line=1, where=f"{where}.")
    row = {"id": row_id("question", row["question"]), **row}
    score = row.pop(task.value_field, None)
    if "status" not in row:
        status = status_of(str(row.get("answer") or ""))
        row["status"] = "parse_error" if status == "ok" and score is None else status
    if row["status"] not in STATUSES:
        raise InputError("unknown status", path=path, field=f"{where}.status")
    if score is not None and not task.scale.holds(score):
        high = "on" if task.scale.high is None else f"to {task.scale.high:g}"
        raise InputError(
            f"expected a score from {task.scale.low:g} {high}, found {score!r}",
            path=path,
            field=f"{where}.{task.value_field}",
        )
    if row["status"] == "ok" and score is None:
        raise InputError("no score, though the status is ok", path=path, field=where)
    return {**row, "value": float(score) if row["status"] == "ok" else None}


def load_folder(root: str | Path, task: Task) -> list[Run]:
    """All score files of a task: ``<root>/<task>/score_results/*.json``.

    Two files of one model by one scorer are told apart by their file names.
    """
    paths = sorted((Path(root) / task.name / "score_results").glob("*.json"))
    runs = [load(path, {task.name: task}) for path in paths if not path.match("*.run.json")]
    return distinct(runs)


def distinct(runs: list[Run]) -> list[Run]:
    """The same runs, with names that differ where a scorer scored one name twice."""
    named: dict[tuple, list[Run]] = defaultdict(list)
    for run in runs:
        named[run.task.name, run.model, run.scorer].append(run)
    renamed = []
    for run in runs:
        same = named[run.task.name, run.model, run.scorer]
        if len(same) > 1:
            stems = {Path(str(one.path)).stem for one in same}
            extra = Path(str(run.path)).stem if len(stems) == len(same) else str(run.path)
            run = replace(run, model=f"{run.model} ({extra})")
        renamed.append(run)
    return renamed
