#!/usr/bin/env bash
# Set this project beside a peer: same rows, same model, same machine.
#
#   bench/peers/run.sh trl              # training: bench/train.py, with TRL's own trainer
#   bench/peers/run.sh llamafactory     # training
#   bench/peers/run.sh lm_eval          # choices
#   bench/peers/run.sh rank_bm25        # retrieval
#   bench/peers/run.sh distilabel       # augmentation against a fake server, with 30 % faults
#
# Options behind the name go to the peer's script (--help shows them). The peer is installed from
# bench/peers/<name>.txt into an environment of its own in ENVS (bench/peers/.envs), which sees the
# packages of this project's and hides those of which it needs another version. llama.cpp is
# measured by bench/gguf_files.py.
set -euo pipefail
. "$(dirname "$0")/../../src/help.sh"
cd "$(dirname "$0")/../.."
PEER=${1:?a peer: trl llamafactory lm_eval rank_bm25 distilabel}
shift
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
ENVS=${ENVS:-bench/peers/.envs}
export PYTHONPATH=$PWD:$PWD/src PYTHONUTF8=1 PROJECT_PYTHON=$PYTHON

if [ ! -f "$ENVS/$PEER/ready" ]; then
  site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$PYTHON" -m venv --without-pip "$ENVS/$PEER"
  own=$("$ENVS/$PEER/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$site" >"$own/project.pth"
  # Without dependencies where the file lists them: a resolver would fetch another torch.
  "$ENVS/$PEER/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "bench/peers/$PEER.txt"
  touch "$ENVS/$PEER/ready"
fi
exec "$ENVS/$PEER/bin/python" "bench/peers/against_$PEER.py" "$@"
