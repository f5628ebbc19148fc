# Sourced by run.sh and test.sh: sets PYTHON to one that has everything in requirements.txt.
# With PYTHON set, or in an active virtual environment, that one is used; else .venv is made.
#
#   . ./setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/src/help.sh"
export PYTHONUTF8=1 # whatever the locale

if [ -z "${PYTHON:-}" ]; then
  if [ -n "${VIRTUAL_ENV:-}" ]; then
    PYTHON=$VIRTUAL_ENV/bin/python
  else
    if [ ! -x .venv/bin/python ]; then
      base=
      # python3.13 comes late: MeCab-ko has no wheel for it. A candidate may be a shim that fails.
      for candidate in python3.12 python3.11 python3 python3.13 python; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
          base=$candidate
          break
        fi
      done
      if [ -z "$base" ]; then
        echo "error: Python 3.11 or later with venv is needed (Debian: apt install python3-venv)" >&2
        exit 2
      fi
      echo "making a virtual environment in .venv"
      "$base" -m venv .venv
    fi
    PYTHON=$PWD/.venv/bin/python
  fi
fi
case $PYTHON in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac

# Installed once for each state of the requirements.
wanted=$(cat requirements.txt pyproject.toml | cksum)
stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.malmat-installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted $PWD" ]; then
  echo "installing requirements (once)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt || exit
  "$PYTHON" -m pip uninstall --quiet --quiet --yes malmat # of an earlier set-up, maybe elsewhere
  # What pip install --editable would do, but in ASCII: Python reads .pth files in the locale's
  # encoding, and would not start under LC_ALL=C where the folder's path is Korean.
  "$PYTHON" -c 'import os, sysconfig
with open(os.path.join(sysconfig.get_path("purelib"), "malmat.pth"), "w") as file:
    file.write("import sys; sys.path.append(%a)\n" % os.path.abspath("src"))' || exit
  echo "$wanted $PWD" >"$stamp"
fi
