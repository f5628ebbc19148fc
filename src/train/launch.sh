# Sourced by the training scripts: goes to the repository, and sets PYTHON (its environment's, if
# there is one) and LAUNCHER (PYTHON, or LAUNCH, as "accelerate launch --config_file …").
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
read -ra LAUNCHER <<<"${LAUNCH:-$PYTHON}"
