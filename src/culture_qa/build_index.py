"""Index a corpus: documents cut into chunks, and every way to search them that is asked for.

    python src/culture_qa/build_index.py src/culture_qa/sample/passages.jsonl --output data/index
    python src/culture_qa/build_index.py kowiki.jsonl notes/ book.pdf --output data/wiki \\
        --chunk 256 --overlap 10 --bm25 kiwi --dense embedded
    python src/culture_qa/build_index.py wiki.jsonl --output data/i --dense nlpai-lab/KURE-v1

Reads   files, folders of them, or a Hugging Face data set: text, PDF (a document a page), rows of
        JSON, JSONL (Wikipedia dumps), CSV or Parquet with ``text``, and ``id`` and ``title`` where
        they have them. Text is UTF-8.
Writes  --output: a folder with chunks.jsonl ({id, document, title, text} a line), a folder a leg,
        and manifest.json (digests, settings, versions, what was left out). It is moved into place
        when it is whole; a killed run goes on from beside it (.NAME.partial).

Legs of BM25 (--bm25), each by its terms:
  kiwi         morphemes: nouns, verbs as lemmas, foreign words, numbers; compounds whole, too
  bigram       two neighbouring syllables
  kiwi+bigram  both in one
  whitespace   words as they are spaced: the floor
Dense legs (--dense): ``embedded`` (the weights come with the requirements, no hub), the same with
the embedded language model's token embeddings (``embedded+gemma``), any name of
sentence-transformers, or ``auto``: KURE-v1 where its weights are on this machine, else embedded.
Late interaction (--late): a name of PyLate (nlpai-lab/KURE-v2). A leg without its library is
refused by name.
"""

from __future__ import annotations

import os
from pathlib import Path

from malmat.cli import number, parser, positive, relative, run, show_settings
from malmat.errors import InputError


def arguments():
    options = parser(__doc__)
    options.add_argument("input", nargs="+", help="files, folders, a Hugging Face data set")
    options.add_argument("--output", required=True, help="the index's folder")
    options.add_argument("--chunk", type=positive, default=256, help="the longest, in --unit")
    options.add_argument("--overlap", type=int, default=10, help="of neighbours, in --unit")
    options.add_argument(
        "--unit", default="characters", help="or a model, whose tokens count (embedded, a folder)"
    )
    options.add_argument(
        "--duplicates", type=number, default=0.9, help="drop chunks so alike; 0 drops none"
    )
    options.add_argument("--bm25", nargs="*", default=["kiwi"], metavar="TERMS")
    options.add_argument("--dense", nargs="*", default=["auto"], metavar="MODEL")
    options.add_argument("--late", nargs="*", default=[], metavar="MODEL")
    options.add_argument(
        "--processes", type=positive, default=min(2, os.cpu_count() or 1), help="of Kiwi"
    )
    return options.parse_args()


def main() -> None:
    args = arguments()
    # Imported late: --help is to answer at once.
    from malmat.retrieval import dense, index
    from malmat.retrieval.chunks import Cutting

    if args.duplicates > 1 or args.overlap < 0:
        field = "overlap" if args.overlap < 0 else "duplicates"
        raise InputError("out of its range", field=field, fix="0 or more; a share is up to 1.")
    args.dense = [dense.preferred() if name == "auto" else name for name in args.dense]
    show_settings("build_index", vars(args))
    cutting = Cutting(args.chunk, args.overlap, args.unit, args.duplicates)
    legs = {"bm25": args.bm25, "dense": args.dense, "late": args.late}
    made = index.build(args.input, Path(args.output), index.Plan(cutting, legs), args.processes)
    left_out = "".join(f", {count} {reason}" for reason, count in made["left_out"].items())
    print(f"{made['documents']:,} documents, {made['chunks']:,} chunks{left_out}")
    for name, known in made["legs"].items():
        print(f"  {name}: {known['kind']}, {known['version']}")
    print(f"wrote {relative(args.output)}")


if __name__ == "__main__":
    run(main)
