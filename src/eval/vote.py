"""Several models' answers to a task with choices → one more, by vote; scored like any model's.

    python src/eval/vote.py --task reply MODEL_A MODEL_B MODEL_C --name vote-hard
    python src/eval/vote.py --task reply MODEL_A MODEL_B --name vote-soft --method soft
    python src/eval/vote.py --task reply MODEL_A a/file.json --weights 2 1 --name vote-two
    python src/eval/score.py --task reply --model_name vote-hard

Reads   results/<task>/infer_results/<model>_<task>_inference_results.json of each model, or the
        files that are given in their place. All must hold the same rows with the same choices.
Writes  results/<task>/infer_results/<name>_<task>_inference_results.json (or --output), and
        beside it .run.json: the models, their files' digests, method and weights.

``hard`` counts the models' answers, ``soft`` adds up the probabilities that they give each choice.
A tie goes to the highest summed probability, then to the choice that stands first. A row that
failed in some models is voted on by the rest.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import COMPLETE, number, parser, provenance, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.task import Task
from malmat.evaluate.vote import METHODS, read_voters, vote
from malmat.files import file_digest, write_json
from tasks import TASKS

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="names in results, or files of answers")
    options.add_argument("--task", choices=tuple(TASKS), required=True)
    options.add_argument("--name", required=True, help="of the vote in file names and reports")
    options.add_argument("--method", choices=tuple(METHODS), default="hard")
    options.add_argument("--weights", type=number, nargs="+", help="one a model (default: 1)")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--output", help="another file for the answers")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    task = TASKS[args.task]
    if task.answers:
        raise InputError(f"is scored from answers to {task.answers}", field="task")
    paths = dict(named(args, task, model) for model in args.models)
    if len(paths) < max(2, len(args.models)):
        raise InputError("expected two or more, each of another name", field="models")
    output = Path(args.output or results.answers_path(args.results_dir, task, args.name))
    check_output(output, list(paths.values()))
    voters = read_voters(paths, args.method, args.weights)
    show_settings("vote", {**vars(args), "output": relative(output)})
    rows = vote(voters, args.method)
    print(f"plan: {len(rows)} rows of {len(voters)} models → {relative(output)}")
    if args.dry_run:
        return COMPLETE
    write_json(output, rows)
    record = {"settings": {**vars(args), "voters": {v.model: file_digest(v.path) for v in voters}}}
    write_json(results.run_record(output), record | {"provenance": provenance()})
    counts = Counter(row["status"] for row in rows).most_common()
    print(f"answers: {', '.join(f'{count} {status}' for status, count in counts)}")
    print(f"  ties: {sum(row['tied'] for row in rows)}")
    print(f"  without all votes: {sum(row['missing'] > 0 for row in rows)}")
    print(f"wrote {relative(output)}")
    return COMPLETE


def named(args, task: Task, model: str) -> tuple[str, Path]:
    """A model's name and the file of its answers, of either of them."""
    if model.endswith((".json", ".jsonl")):
        name = Path(model).stem.removesuffix(f"_{task.answered_as}_inference_results")
        return name, Path(model)
    return model, results.answers_path(args.results_dir, task, model)


def check_output(output: Path, sources: list[Path]) -> None:
    """Refuse to write over answers that are no vote's."""
    # By its rows: a kill may have come before its record was written.
    is_vote = not output.exists() or all("votes" in row for row in results.read_answers(output))
    if output.resolve() in [path.resolve() for path in sources] or not is_vote:
        raise InputError(
            "holds a model's answers already", path=output, field="name", fix="Take another name."
        )


if __name__ == "__main__":
    run(main)
