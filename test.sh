#!/usr/bin/env bash
# Set-up, style and tests, in a few minutes on 2 CPU cores; no network beyond the installation.
#
#   ./test.sh                   # everything
#   ./test.sh tests/test_llm.py -k quota
set -euo pipefail
cd "$(dirname "$0")"
. ./setup.sh

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m pytest "$@"
