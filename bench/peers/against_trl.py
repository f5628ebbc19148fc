"""Training: TRL's SFTTrainer as it comes, in its three ways, beside ours.

    bench/peers/run.sh trl                   # three rounds of 48 examples
    bench/peers/run.sh trl --rounds 1 --examples 16

Runs bench/train.py (its --help says what is measured): its options are taken.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(BENCH))
    ways = ["--ways", "trl nll", "trl chunked_nll", "trl packed", "ours", "ours, row by row"]
    sys.argv = [str(BENCH / "train.py"), *ways, *sys.argv[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
