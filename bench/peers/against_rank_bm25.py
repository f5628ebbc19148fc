"""Retrieval: rank_bm25 beside our BM25 (bm25s), over the same words.

    bench/peers/run.sh rank_bm25                     # 10,000 chunks
    bench/peers/run.sh rank_bm25 --chunks 2000

Runs the BM25 part of bench/retrieval.py, whose last line is the comparison.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.argv = [str(BENCH / "retrieval.py"), "--part", "bm25", *sys.argv[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
