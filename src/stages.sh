# Sourced by the run_all.sh of each contest: --help, the folder to run in, the Python to run with, the
# rows that fit it, and how a stage begins and fails.
. "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}

stage() { printf '\n=== %s (%d s)\n' "$1" $SECONDS; }
failed=""
try() { # try LABEL COMMAND …: a failure is noted, Ctrl-C ends everything
  local status=0
  "${@:2}" || status=$?
  [ $status -ne 130 ] || exit 130
  [ $status -eq 0 ] || failed+="failed: $1"$'\n'
  return $status
}
end() { # list what failed: 1 where anything did
  stage "done"
  printf '%s' "$failed" >&2
  [ -z "$failed" ]
}
models() { # models FILE: the rows of a models.json that fit this machine, a line each
  "$PYTHON" src/train/rows.py --models "$1" --dry_run | sed -n 's/^=== //p'
}
