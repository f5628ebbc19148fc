"""Which two do I send? How often the public best is the private best, from your own answers.

    python src/csat/simulate.py a.json b.json c.json
    python src/csat/simulate.py MODEL_A MODEL_B --results_dir runs/csat/dev --metric macro_f1

Reads   answers of two models or more to the same rows whose right answers are known (dev, or
        out-of-fold); names are looked up in --results_dir.
Writes  --output: the figures as JSON.
Prints  how often, in --splits random divisions of the rows, the model that is best on the public
        half is best on the private one, how much is lost by sending it, or the best two, and
        whether the order of these models means anything at all.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, positive, relative, run, share, show_settings, show_table
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.luck import SCORES, Luck, simulate
from malmat.evaluate.vote_read import read_ballots
from malmat.files import write_json
from task import TASK

RESULTS = Path(__file__).parents[1] / "eval" / "results"


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="names in results, or files of answers")
    options.add_argument("--splits", type=positive, default=1000)
    options.add_argument("--public", type=share, default=0.5, help="share of the public half")
    options.add_argument("--metric", choices=tuple(SCORES), default="accuracy")
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--results_dir", default=str(RESULTS))
    options.add_argument("--output", help="the figures as JSON")
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("simulate", vars(args))
    paths = {
        Path(one).stem if one.endswith(".json") else one: Path(one)
        if one.endswith(".json")
        else results.answers_path(args.results_dir, TASK, one)
        for one in args.models
    }
    if len(paths) < max(2, len(args.models)):
        raise InputError("expected two or more, each of another name", field="models")
    ballots = read_ballots(paths)
    if (ballots.targets < 0).any():
        unknown = ballots.ids[int((ballots.targets < 0).argmax())]
        raise InputError(f"the row {unknown} has no target", path=ballots.paths[0], field="target")
    if len(ballots.rows) < 4:
        raise InputError("too few rows to split", path=ballots.paths[0])
    luck = simulate(
        ballots, splits=args.splits, public=args.public, metric=args.metric, seed=args.seed
    )
    show(luck, ballots.models, len(ballots.rows), args)
    if args.output:
        write_json(args.output, {"models": ballots.models, **luck.as_json()})
        print(f"wrote {relative(args.output)}")


def show(luck: Luck, models: list[str], rows: int, args) -> None:
    """Print the models' scores, what sending one or two of them gives, and what it means."""
    order = luck.whole.argsort(kind="stable")[::-1].tolist()
    spread = luck.public.std(0)
    lines = [(models[m], f"{luck.whole[m]:.4f}", f"± {1.96 * spread[m]:.4f}") for m in order]
    show_table([("model", f"{args.metric} of {rows} rows", "a half, 95 %"), *lines])
    for count, what in ((1, "the public best"), (2, "the two public best"))[: len(models) - 1]:
        one = luck.sent(count)
        print(
            f"sending {what}: the private best is sent in {one['hit']:.0%} of {args.splits} splits "
            f"(drawn at random: {one['hit_by_chance']:.0%}); lost {one['lost']:.4f} on average, "
            f"{one['worst']:.4f} or more in one of twenty"
        )
    mean, low, high = luck.correlation()
    print(f"rank correlation of the halves: {mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    said = (
        "these models differ by more than luck; still, trust all rows more than a half"
        if luck.means_something()
        else "the public order of these models means nothing: they are as alike as models of equal "
        "skill are; choose by other reasons, and send two that err on different rows"
    )
    print(f"{said} (Cochran's Q, p {luck.p_equal:.3f})")


if __name__ == "__main__":
    run(main)
