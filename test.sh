#!/usr/bin/env bash
# Set-up, style, types and tests, in a few minutes on 2 CPU cores; no network beyond the installation.
#
#   ./test.sh                   # all but the slow tests
#   ./test.sh --all             # all
#   ./test.sh --style           # style and types only
#   ./test.sh tests/test_llm.py -k quota
set -euo pipefail
. "$(dirname "$0")/src/help.sh"
cd "$(dirname "$0")"
. ./setup.sh

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
export OMP_NUM_THREADS=1 # one thread a test: a test a core
case ${1:-} in
  --style) ;;
  --all) "$PYTHON" -m pytest -n logical --maxprocesses 8 ;;
  "") "$PYTHON" -m pytest -n logical --maxprocesses 8 -m "not slow" ;;
  *) "$PYTHON" -m pytest "$@" ;;
esac
