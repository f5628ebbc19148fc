"""Retrieval: seconds and memory of indexing and of a query, beside rank_bm25.

    python bench/retrieval.py                     # 10,000 chunks; says what 100,000 would take
    python bench/retrieval.py --chunks 100000     # the whole: minutes

The chunks are made up of the sentences of the sample's passages, 256 characters each, in two
processes of Kiwi. Prints seconds on the clock, and of the processors, which other work on the
machine does not lengthen. To be reached, on an idle machine with two cores: 100,000 chunks indexed
for BM25 in 300 s and 3 GB, a query in 20 ms, an index open in 3 s, 20 times faster than rank_bm25
(where it is installed: pip install rank-bm25); 10,000 chunks encoded by the embedded model in
180 s and 1 GB, a query in 30 ms.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from malmat.cli import ROOT, parser, positive, run
from malmat.errors import InputError
from malmat.files import read_rows, write_jsonl

SAMPLE = ROOT / "src" / "culture_qa" / "sample" / "passages.jsonl"
WHOLE = 100_000
QUERIES = 200


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--chunks", type=positive, default=10_000)
    options.add_argument("--processes", type=positive, default=2, help="of Kiwi")
    options.add_argument("--part", choices=("bm25", "dense"), help="only this (a child's option)")
    args = options.parse_args()
    if not args.part:  # each in a process of its own, for its memory
        for part in ("bm25", "dense"):
            command = [sys.executable, __file__, "--part", part, "--chunks", str(args.chunks)]
            subprocess.run([*command, "--processes", str(args.processes)], check=True)
        return
    texts, queries = made_up(args.chunks)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        write_jsonl(corpus, [{"id": str(n), "text": text} for n, text in enumerate(texts)])
        measure(args, corpus, queries)


def made_up(count: int) -> tuple[list[str], list[str]]:
    """Chunks of up to 256 characters, and questions of some of their words.

    A number in each sentence makes words rare, as names do in real text.
    """
    draw = random.Random(0)
    sentences = [
        part.strip(" .") for _, row in read_rows(SAMPLE) for part in row["text"].split(". ")
    ]
    texts = []
    for _ in range(count):
        text = ""
        while len(text) < 200:
            text += f"{draw.choice(sentences)} {draw.randrange(count)}. "
        texts.append(text[:256])
    return texts, [" ".join(draw.sample(draw.choice(texts).split(), 6)) for _ in range(QUERIES)]


def measure(args, corpus: Path, queries: list[str]) -> None:
    from malmat.retrieval.chunks import Cutting
    from malmat.retrieval.index import Index, Plan, build

    folder = corpus.with_name("index")
    plan = Plan(
        Cutting(duplicates=0), {args.part: [{"bm25": "kiwi", "dense": "embedded"}[args.part]]}
    )
    wall, cpu = clocks(lambda: build([corpus], folder, plan, args.processes))
    print(f"{args.part}: {args.chunks:,} chunks indexed in {wall:.1f} s ({cpu:.1f} s of a core)")
    if args.part == "bm25" and args.chunks < WHOLE:
        scaled = cpu * WHOLE / args.chunks
        print(f"  {WHOLE:,} would take {scaled:.0f} s of a core, {scaled / 2:.0f} s of two")
    start = time.perf_counter()
    index = Index(folder)
    leg = index.legs[0]
    leg.search(queries[0], 100)
    print(f"  open, with the first query: {time.perf_counter() - start:.2f} s")
    wall, cpu = clocks(lambda: [leg.search(query, 100) for query in queries])
    print(f"  a query: {1000 * wall / QUERIES:.2f} ms ({1000 * cpu / QUERIES:.2f} ms of a core)")
    if args.part == "bm25":
        compare(index, queries)
    used = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(f"  memory: {used[0] / 1e6:.2f} GB, a process of Kiwi {used[1] / 1e6:.2f} GB")


def compare(index, queries: list[str]) -> None:
    """A query by rank_bm25 over the same terms."""
    from malmat.retrieval.tokenize import terms_of

    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        raise InputError("rank-bm25 is not installed", fix="pip install rank-bm25.") from None
    corpus = [terms_of(index.chunk(number).text, "kiwi") for number in range(len(index))]
    other = BM25Okapi(corpus)
    terms = [terms_of(query, "kiwi") for query in queries]
    some = terms[:20]
    _, slow = clocks(lambda: [other.get_scores(words) for words in some])
    leg = index.legs[0]
    _, fast = clocks(lambda: [leg.scores_of(words) for words in terms])
    ratio = (slow / len(some)) / (fast / len(terms))
    print(
        f"  scores of a query's terms: {1000 * fast / len(terms):.3f} ms; rank_bm25 "
        f"{1000 * slow / len(some):.1f} ms, {ratio:.0f} times as long"
    )


def clocks(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of the processors, children included."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in both)

    start, before = time.perf_counter(), used()
    work()
    return time.perf_counter() - start, used() - before


if __name__ == "__main__":
    run(main)
