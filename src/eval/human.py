"""Rate by hand: models' answers, mixed and without names, or two sets of dialogues side by side.

    python src/eval/human.py "embedded kanana" understand --rater 지민
    python src/eval/human.py "embedded kanana" usage --rater jimin --limit 50
    python src/eval/human.py --prefer merged_final.json THEIRS.json --rater 지민 --limit 50
    python src/eval/human.py --summary

Reads   results/<task>/infer_results/<model>_<task>_inference_results.json (only the answers
        whose status is ok), the term list (--terms), and how the task asks a rater.
        With --prefer: two sets of dialogues in any shape of docs/data-formats.md.
Writes  results/<task>/human_results/<rater>_<task>_ratings.jsonl: a line a rating, as it is
        given (with --prefer <task> is prefer). Stopped at any point, the same command goes on
        where the rater was; of several ratings of one answer the last holds. A rater is a
        scorer like any other: score.py --scorer_name human:RATER makes a score file.

--summary reads the ratings of all raters and the judges' scores, and writes
results/<task>/human_results/summary.json: each model's mean, how far the raters agree with
one another, and how far each judge agrees with them. Of --prefer it shows, for each question, the
share of pairs in which a set is preferred (ties half) and how far the raters agree.

--prefer shows two dialogues, one of each set, without names and with the sides shuffled. They are
of one term where the sets share terms; a pair a term is drawn, with --limit N so many.

The page is served on this machine only (--host 0.0.0.0 opens it to the network, where
anyone who knows the address can rate). Nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import human_prefer
from human_page import page, serve
from human_session import Session
from malmat.cli import parser, positive, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate import ratings, results
from malmat.evaluate.agreement import text_of
from malmat.evaluate.items import complete, items_of
from malmat.evaluate.task import Row, Task
from malmat.files import digest, write_json
from malmat.formats import read_terms
from malmat.journal import Journal
from tasks import TASKS

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="?", help="names in results, in one pair of quotes")
    options.add_argument("task", nargs="?", choices=tuple(TASKS))
    options.add_argument(
        "--prefer", nargs=2, metavar="SET", help="two sets of dialogues instead of answers"
    )
    options.add_argument("--rater", help="who rates (the file is named after it)")
    options.add_argument("--summary", action="store_true", help="what the ratings say so far")
    options.add_argument(
        "--limit", type=positive, help="only N questions or pairs, the same for all"
    )
    options.add_argument("--seed", type=int, default=42, help="of the order of the answers")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--terms", default=str(HERE.parent / "data/terms.csv"))
    options.add_argument("--questions", help="the items of answers that do not name their term")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=positive, help="default: the first free one from 7860")
    return options.parse_args()


def main() -> None:
    args = arguments()
    if args.summary:
        summary(args)
        return
    for name in ("rater",) if args.prefer else ("models", "task", "rater"):
        if not getattr(args, name):
            raise InputError(
                "missing", field=name, fix='As in: human.py "model-a model-b" TASK --rater NAME'
            )
    if args.prefer and args.models:
        raise InputError("not with --prefer", field="models", fix="Rate one or the other.")
    asked = human_prefer.PREFER if args.prefer else TASKS[args.task]
    path = results.ratings_path(args.results_dir, asked, args.rater)
    show_settings("human", {**vars(args), "ratings": relative(path)})
    session_of = human_prefer.prepared(args) if args.prefer else answers(args)
    with Journal(path) as journal:
        ratings.check_rater(map(journal.get, journal), args.rater, path)
        session = session_of(journal)
        print(f"plan: {len(session.items)} questions, {session.rated} answered")
        serve(page(session), args.host, args.port)
    print(f"ratings are in {relative(path)}")


def answers(args) -> Callable[[Journal], Session]:
    """The models' answers drawn for a rater: a journal → their session."""
    task = TASKS[args.task]
    if task.asked is None:
        known = " or ".join(one.name for one in TASKS.values() if one.asked)
        raise InputError("is not rated by hand", field="task", fix=f"Take {known}.")
    terms, rules = read_terms(args.terms), task.asked.rules(task.prompts())
    drawn = read_items(args, terms)
    items = [item for item in drawn if item["status"] == "ok"]
    if not items:
        raise InputError("no answer whose status is ok", field="models")

    def session(journal: Journal) -> Session:
        journal.extend(
            record_of(args, item) | {"rating": None, "status": item["status"]}
            for item in drawn
            if item["status"] != "ok" and journal.get(item["key"]) is None
        )
        return Session(task.asked, rules, items, journal, lambda item: record_of(args, item), terms)

    return session


def read_items(args, terms: list[dict]) -> list[Row]:
    """What was drawn, in this rater's own order: answers to be rated, and failed ones."""
    task, items = TASKS[args.task], []
    questions = items_of(task, args.questions)
    for model in args.models.split():
        path = results.answers_path(args.results_dir, task, model)
        answers = complete(results.read_answers(path), questions)
        if task.asked and task.asked.shows_meaning:
            answers = results.with_meanings(answers, terms, path, args.terms)
        for row in answers:
            items.append({**row, "model": model, "key": ratings.rating_key(task, model, row)})
    if args.limit:
        # Drawn by id, not cut from the file's head: raters and models share the questions,
        # whichever of their answers failed.
        drawn = sorted({item["id"] for item in items}, key=lambda i: digest([args.seed, i]))
        items = [item for item in items if item["id"] in set(drawn[: args.limit])]
    return sorted(items, key=lambda item: digest([args.seed, args.rater, item["key"]]))


def record_of(args, item: Row) -> dict:
    """What a line of the ratings' file says of the answer."""
    kept = {name: item.get(name) for name in ("key", "id", "model", "title")}
    return {**kept, "task": args.task, "rater": args.rater, "answer": digest(item["answer"])}


# ------------------------------------------------------------------------------- summary


def summary(args) -> None:
    """Means, agreement between raters and with the judges, of each task that has ratings."""
    found = not args.models and human_prefer.summary(args)
    tasks = () if args.prefer else TASKS.values() if args.task is None else (TASKS[args.task],)
    for task in tasks:
        files = results.ratings_files(args.results_dir, task)
        raters = [ratings.read_ratings(path, task) for path in files]
        if args.models is not None:
            raters = [one.of_models(args.models.split()) for one in raters]
        if raters := [one for one in raters if one.records]:
            found = True
            summarize(args, task, raters)
    if not found:
        raise InputError("no ratings in it", path=args.results_dir, field="results_dir")


def summarize(args, task: Task, raters: list[ratings.Ratings]) -> None:
    models = sorted({record["model"] for one in raters for record in one.records.values()})
    questions = items_of(task, args.questions)
    answers = {}
    for model in models:
        path = results.answers_path(args.results_dir, task, model)
        answers[model] = complete(results.read_answers(path), questions)
    given = sum(len(one.records) for one in raters)
    fresh = sum(len(one.drawn(model, answers[model])) for one in raters for model in models)
    if given > fresh:
        print(
            f"{given - fresh} ratings left out: the model has been asked again and says "
            "otherwise now"
        )
    runs = results.load_folder(args.results_dir, task)
    result = ratings.summarize(task, answers, raters, runs)
    show(result)
    output = results.ratings_files(args.results_dir, task)[0].with_name("summary.json")
    write_json(output, result)
    print(f"wrote {relative(output)}")


def show(result: dict) -> None:
    print(f"{result['task']}, rated by hand")
    for rater, part in result["raters"].items():
        print(f"  rater {rater}: {part['n_rated']} rated, {part['n_skipped']} skipped")
    for model, part in result["models"].items():
        print(f"  model {model}: {text_of(part)} ({part['n_scored']}/{part['n_total']} rated)")
    human_prefer.show_agreement(result, "answers")
    for judge, part in result["judges"].items():
        print(
            f"  judge {judge}: weighted kappa {text_of(part, 'kappa')}, exact "
            f"{text_of(part['exact'])} ({part['n_scored']} answers)"
        )


if __name__ == "__main__":
    run(main)
