"""Merge LoRA adapters of one base into one adapter, which is a model like any other.

    python src/train/merge_adapters.py --adapters checkpoints/a checkpoints/b --output ab
    python src/train/merge_adapters.py --adapters a b c --weights 0.5 0.3 0.2 \\
        --method dare_ties --density 0.5 --output abc

Reads   --adapters: folders of adapters that were trained on one and the same base (checked by
        its weights), without DoRA; of one rank, unless --method svd.
Writes  --output: the adapter, its tokenizer, run.json with what it was made of.

svd (the default) mixes the changes of the weights themselves, and cuts the sum to --rank. The
others mix the factors A and B, which is rough: linear adds them; ties and dare_ties keep --density
of the values and average those that agree in sign, so their weights are about 1 each.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import COMPLETE, parser, positive, relative, run, share, show_settings
from malmat.errors import InputError
from malmat.train.merging import METHODS, PRUNES, Merge, check_adapters, merge_adapters


def arguments():
    options = parser(__doc__)
    options.add_argument("--adapters", required=True, nargs="+")
    options.add_argument("--weights", type=float, nargs="+", help="default: 1/n; ties: 1 each")
    options.add_argument("--method", choices=METHODS, default="svd")
    options.add_argument("--density", type=share, help=f"for {', '.join(PRUNES)}: default 0.5")
    options.add_argument("--rank", type=positive, help="of the result, for svd")
    options.add_argument("--seed", type=int, default=42, help="of dare_ties' draw")
    options.add_argument("--output", required=True, help="a new folder")
    options.add_argument("--overwrite", action="store_true", help="replace that folder")
    options.add_argument("--trust_remote_code", action="store_true")
    options.add_argument("--dry_run", action="store_true", help="check, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    if args.density and args.method not in PRUNES:
        raise InputError(f"is for {', '.join(PRUNES)}", field="density", fix="Leave it out.")
    if args.rank and args.method != "svd":
        raise InputError("is for svd", field="rank", fix="Leave it out.")
    output = Path(args.output)
    if output.exists() and not args.overwrite:
        fix = "Choose another, or --overwrite."
        raise InputError("is there already", path=output, field="output", fix=fix)
    if output.resolve() in {Path(one).resolve() for one in args.adapters}:
        raise InputError("is one of the adapters", path=output, field="output")
    count = len(args.adapters)
    merge = Merge(
        adapters=tuple(args.adapters),
        weights=tuple(args.weights or [1.0 if args.method in PRUNES else 1 / count] * count),
        method=args.method,
        density=(args.density or 0.5) if args.method in PRUNES else None,
        rank=args.rank,
        seed=args.seed,
    )
    show_settings("merge adapters", vars(args) | {"weights": merge.weights})
    print(f"base: {check_adapters(merge)}")
    if args.dry_run:
        return COMPLETE
    merge_adapters(merge, output, trust_remote_code=args.trust_remote_code)
    print(f"wrote {relative(output)}")
    return COMPLETE


if __name__ == "__main__":
    run(main)
