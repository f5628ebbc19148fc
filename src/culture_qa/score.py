"""Score answers as the contest does, with other figures beside its own, and compare models.

    python src/culture_qa/score.py --gold test.json --model_name embedded
    python src/culture_qa/score.py --gold test.json --predictions submission.json --name mine
    python src/culture_qa/score.py --gold test.json --name routed \\
        --route 선다형=base 단답형=tuned 서술형=tuned
    python src/culture_qa/score.py --compare base tuned routed

Reads   --gold: questions with their answers; the answers of infer.py or postprocess.py to the
        three tasks (results/<task>/infer_results), those of another model a type (--route), or
        --predictions: files of answers, or a submission. They are joined by id.
Writes  results/culture_qa/<name>_scores.json (or --output): the final score and each metric by
        type, category and domain, with n_scored/n_total, interval and bounds; and the score files
        of the three tasks, for compare.py and report.py.

Official: 선다형 accuracy of the string; 단답형 exact match with one of the # alternatives; 서술형
the mean of ROUGE-1 (MeCab-ko), BERTScore and BLEURT-20; final: the mean of the types. A metric
whose weights are not here is missing, and the final score is then named after what it lacks.
Our own: accuracy_read (the number is read from a sentence), exact_relaxed (without spacing, case,
quotes, brackets, 한자 in brackets, with a particle), ROUGE-1 by Kiwi. Answers that failed have no
score: the lower bound counts them as wrong, as the contest would. With --keep_cut an answer that
was cut at its token limit is scored as what was written, as submission.py --keep_cut submits it.
--route prints the gain over the best of its models on all types, paired.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

from malmat.cli import parser, provenance, relative, run, show_settings
from malmat.contests import typed_scores
from malmat.contests.predictions import joined, out_of_order, read_predictions
from malmat.contests.typed_questions import LONG, TYPES, item_of, read_typed
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.neural_metrics import BERT, bert_scores, bleurt_scores
from malmat.evaluate.task import Item, Row
from malmat.files import write_json
from score_tables import compare, compare_rows, scores_file, show, with_values
from submission import kept
from task import BY_TYPE

RESULTS = Path(__file__).parents[1] / "eval" / "results"


def arguments():
    options = parser(__doc__)
    options.add_argument("--gold", help="questions with their answers")
    options.add_argument("--model_name", nargs="+", help="whose answers (names in results)")
    options.add_argument("--predictions", nargs="+", help="files of answers, or a submission")
    options.add_argument("--route", nargs="+", metavar="TYPE=NAME", help="a model a type")
    options.add_argument("--name", help="of the scores; default: --model_name")
    options.add_argument("--keep_cut", action="store_true", help="score cut answers as they are")
    options.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    options.add_argument("--compare", nargs="+", metavar="NAME", help="the first with the others")
    options.add_argument("--bertscore", default=BERT, help="a folder, or a name in the cache")
    options.add_argument("--bleurt", default="", help="the folder of BLEURT-20")
    options.add_argument("--kiwi", choices=("auto", "on", "off"), default="auto")
    options.add_argument("--results_dir", default=str(RESULTS))
    options.add_argument("--output", help="another file")
    args = options.parse_args()
    sources = [args.model_name, args.predictions, args.route]
    if bool(args.compare) == bool(args.gold) or sum(map(bool, sources)) != bool(args.gold):
        problem = "give --gold with --model_name, --predictions or --route; or --compare"
        raise InputError(problem, field="gold")
    if args.gold and not (args.name or args.model_name):
        raise InputError("the scores need a name", field="name", fix="--name NAME.")
    if args.model_name and len(args.model_name) > 1 and (args.name or args.output):
        raise InputError("is for one model", field="name" if args.name else "output")
    return args


def main() -> None:
    args = arguments()
    if args.compare:
        compare(args.results_dir, args.compare)
        return
    for model in args.model_name or [None]:
        own = {"model_name": model, "name": args.name or model}
        score(argparse.Namespace(**{**vars(args), **own}))


def score(args) -> None:
    """Score the answers of one model."""
    output = Path(args.output or scores_file(args.results_dir, args.name))
    show_settings("score", {**vars(args), "output": relative(output)})
    items = gold_items(args)
    paths = answer_files(args, {item["type"] for item in items})
    rows, missing = scored_rows(args, items, paths)
    name = typed_scores.final_name(missing)
    figures = {
        "model_name": args.name,
        name: typed_scores.final_summary(rows),
        "types": typed_scores.summaries(rows),
        "missing": missing,
        "agreement_with_length": typed_scores.length_agreement(rows),
        "statuses": dict(Counter(row["status"] for row in rows)),
        "gold": relative(args.gold),
        "answers": [relative(path) for path in paths],
        "provenance": provenance(),
    }
    show(figures, name)
    if args.route:
        show_gain(args, items, rows)
    write_json(output, {**figures, "results": rows})
    save_runs(args, rows)
    print(f"wrote {relative(output)}")


def scored_rows(args, items: list[Item], paths) -> tuple[list[Row], dict[str, str]]:
    """The items with the answers of some files and their scores; metric → why it is missing."""
    predictions = read_predictions(paths)
    if args.keep_cut:
        print(f"{len(kept(predictions))} answers were cut at their limit: scored as they are")
    if other := out_of_order(items, predictions):
        print(f"note: the predictions are in another order, from {other} on: joined by id")
    rows = joined(items, predictions, paths[0])
    long = sum(row["type"] == LONG for row in rows)
    kiwi = args.kiwi == "on" or (args.kiwi == "auto" and long <= typed_scores.MOST_BY_KIWI)
    if not kiwi and args.kiwi == "auto":
        print(f"note: {long} long answers: no ROUGE-1 by Kiwi without --kiwi on")
    neural = {
        typed_scores.BERT: partial(bert_scores, model=args.bertscore),
        typed_scores.BLEURT: partial(bleurt_scores, folder=args.bleurt),
    }
    return typed_scores.scored(rows, neural=neural, kiwi=kiwi)


def show_gain(args, items: list[Item], rows: list[Row]) -> None:
    """Compare a route with the best of its models that answered the questions of all types."""
    singles: dict[str, list[Row]] = {}
    for name in dict.fromkeys(one.partition("=")[2] for one in args.route):
        own = argparse.Namespace(**{**vars(args), "route": None, "model_name": name, "kiwi": "off"})
        paths = answer_files(own, {item["type"] for item in items})
        if all(Path(path).is_file() for path in paths):
            singles[name] = scored_rows(own, items, paths)[0]
    values = {name: typed_scores.final_summary(some)["value"] for name, some in singles.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        print("gain of the route: none of its models has scores of all types")
        return
    best = max(known, key=lambda name: known[name])
    print(f"gain of the route over its best single model, {best}:")
    compare_rows([(best, with_values(singles[best])), (args.name, with_values(rows))])


def gold_items(args) -> list[Item]:
    """The questions of the wanted types, all of which have an answer."""
    items = [item_of(one) for one in read_typed(args.gold)[0] if one.type in args.types]
    without = [item["id"] for item in items if "target" not in item]
    if without or not items:
        what = f"{len(without)} rows have no answer, as {without[0]}" if without else "no rows"
        raise InputError(what, path=args.gold, field="output.answer", fix="Give the gold file.")
    return items


def answer_files(args, types: set[str]) -> list[str | Path]:
    """The files of predictions: those given, or each type's in the results."""
    if args.predictions:
        return args.predictions
    routes = dict.fromkeys(TYPES, args.model_name)
    for one in args.route or ():
        kind, _, name = one.partition("=")
        if kind not in TYPES or not name:
            raise InputError(f"'{one}' is no TYPE=NAME", field="route", fix=f"As {TYPES[0]}=base.")
        routes[kind] = name
    if left := [kind for kind in TYPES if kind in types and not routes[kind]]:
        raise InputError(f"no model for {', '.join(left)}", field="route")
    return [
        results.answers_path(args.results_dir, BY_TYPE[kind], routes[kind])
        for kind in TYPES
        if kind in types
    ]


def save_runs(args, rows: list[Row]) -> None:
    """Write the score files of the tasks, under their own scorers."""
    for kind in typed_scores.types_of(rows):
        task, metric = BY_TYPE[kind], typed_scores.OFFICIAL[kind][0]
        some = [row for row in rows if row["type"] == kind]
        found = {row["id"]: {"status": "ok", "value": row["scores"].get(metric)} for row in some}
        table = {row["id"]: row for row in results.join(some, found)}
        made = results.Run(task, args.name, task.scorer, table)
        results.save(results.scores_path(args.results_dir, task, args.name, task.scorer), made, {})


if __name__ == "__main__":
    run(main)
