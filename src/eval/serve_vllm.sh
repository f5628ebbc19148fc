#!/usr/bin/env bash
# Serve a model with vLLM, for answers on one GPU or several.
#
#   bash src/eval/serve_vllm.sh Qwen/Qwen3-8B               # until Ctrl-C
#   bash src/eval/serve_vllm.sh checkpoints/my-full -- bash src/eval/exp.sh my-full api
#   PORT=8001 TENSOR_PARALLEL=4 bash src/eval/serve_vllm.sh Qwen/Qwen3-32B
#   ADAPTER=checkpoints/my-lora bash src/eval/serve_vllm.sh Qwen/Qwen3-8B -- …
#
# Reads   a hub id or a model folder (ADAPTER: a LoRA folder on top of it).
# Writes  LOG, what vLLM says.
#
# With "-- command …" the command runs against the server, which is stopped afterwards; the exit code
# is the command's. It finds the address in BASE_URL, the model's name in SERVED_MODEL, and ARGS (which
# exp.sh gives to infer.py) set to the address and the published sampling of local models, unless ARGS
# is set already. More servers, one a GPU: start this script once for each PORT with
# CUDA_VISIBLE_DEVICES, and give infer.py --base_url http://…:8000/v1,http://…:8001/v1.
# vLLM has an environment of its own: pip install vllm. Its repetition penalty counts the prompt and
# the end of the turn as well, so its answers are not quite those of "infer.py … local"; compare
# models that answered in the same way.
set -euo pipefail
. "$(dirname "$0")/../help.sh"

usage() {
  echo 'error: usage: serve_vllm.sh MODEL [vllm options …] [-- command …]' >&2
  exit 2
}
[ $# -gt 0 ] && [ "$1" != -- ] || usage
case $1 in -*) usage ;; esac
MODEL=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
if [ $# -gt 0 ]; then
  shift
  [ $# -gt 0 ] || usage
fi

VLLM=${VLLM:-vllm}                       # the executable
HOST=${HOST:-127.0.0.1}                  # 0.0.0.0 opens it to the network
PORT=${PORT:-8000}
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}    # GPUs that share the model
MAX_LENGTH=${MAX_LENGTH:-4096}           # longest prompt and answer, in tokens
TIMEOUT=${TIMEOUT:-1800}                 # seconds to wait until it is ready (downloads included)
NAME=${MODEL_NAME:-$(basename "${ADAPTER:-$MODEL}")} # in requests and results
LOG=${LOG:-vllm-$NAME-$PORT.log}

facts_of() { # of an adapter that vLLM can serve (vllm#32599): its rank, then its chat template
  python3 - "$1" <<'PYTHON' || exit 2
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])

def read(name):
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {folder / name}: {error}")

config = read("adapter_config.json")
lists = {name: config.get(name) or [] for name in ("target_modules", "modules_to_save")}
lists = {name: [v] if isinstance(v, str) else v for name, v in lists.items()}  # a pattern of names
ends = ("lm_head", "embed_tokens")
whole = lists["modules_to_save"] + [n for n in lists["target_modules"] if n.split(".")[-1] in ends]
whole += ["DoRA"] if config.get("use_dora") else []
if whole:
    sys.exit(f"error: {folder}: vLLM serves no adapter of {', '.join(whole)}. Merge it into its "
             "model (--merge of the training scripts) and serve the merged folder.")
print(max([config.get("r") or 8, *(config.get("rank_pattern") or {}).values()]))
template, known = folder / "chat_template.jinja", folder / "tokenizer_config.json"
if template.is_file():
    print(template)
elif known.is_file() and isinstance(text := read(known.name).get("chat_template"), str):
    print(text)
PYTHON
}

if ! command -v "$VLLM" >/dev/null; then
  echo "error: no '$VLLM' on the PATH. pip install vllm (an environment of its own), or set VLLM." >&2
  exit 2
fi
if [ -n "${ADAPTER:-}" ]; then
  if [ ! -f "$ADAPTER/adapter_config.json" ]; then
    echo "error: $ADAPTER: no adapter_config.json in that folder." >&2
    exit 2
  fi
  facts=$(facts_of "$ADAPTER")
  rank=${facts%%$'\n'*} template=${facts#"$rank"}
  set_rank=8 # vLLM takes powers of two from 8
  while [ "$set_rank" -lt "$rank" ]; do set_rank=$((set_rank * 2)); done
  # The template that it was trained with goes along: a base model may have none.
  [ -z "$template" ] || options=(--chat-template "${template#$'\n'}" ${options[@]+"${options[@]}"})
  options=(--enable-lora --max-lora-rank "$set_rank" --lora-modules "$NAME=$ADAPTER"
    --served-model-name "base-of-$NAME" ${options[@]+"${options[@]}"})
else
  options=(--served-model-name "$NAME" ${options[@]+"${options[@]}"})
fi

case $HOST in 0.0.0.0) address=127.0.0.1 ;; *) address=$HOST ;; esac
export no_proxy="${no_proxy:+$no_proxy,}$address" # no proxy leads to this machine
export NO_PROXY=$no_proxy
healthy() {
  python3 - "http://$address:$PORT/health" <<'PYTHON' 2>/dev/null
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.exit(opener.open(sys.argv[1], timeout=5).status != 200)
PYTHON
}
if healthy; then
  echo "error: port $PORT is taken by another server. Set PORT." >&2
  exit 2
fi

# --generation-config vllm: only the sampling that is sent counts, not the model's own file.
# Thinking is off, as in training and in local inference: the switches of all families.
set -m # a process group of its own: its workers end with it, and Ctrl-C reaches this script first
"$VLLM" serve "$MODEL" --host "$HOST" --port "$PORT" --tensor-parallel-size "$TENSOR_PARALLEL" \
  --max-model-len "$MAX_LENGTH" --generation-config vllm \
  --default-chat-template-kwargs \
  '{"enable_thinking": false, "skip_reasoning": true, "thinking": false}' \
  "${options[@]}" >"$LOG" 2>&1 &
server=$!
set +m

stop() {
  trap - EXIT INT TERM
  kill -TERM -- "-$server" 2>/dev/null || true
  for _ in $(seq 100); do # ten seconds
    kill -0 -- "-$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$server" 2>/dev/null || true
}
trap stop EXIT
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM

failed() {
  echo "error: $1. The end of $LOG:" >&2
  tail -n 20 "$LOG" >&2
  exit 1
}
echo "waiting for $NAME (log: $LOG)"
until healthy; do
  kill -0 "$server" 2>/dev/null || failed "vLLM ended before it was ready"
  [ $SECONDS -lt "$TIMEOUT" ] || failed "vLLM was not ready after $TIMEOUT s (TIMEOUT)"
  sleep 1
done

export BASE_URL=http://$address:$PORT/v1 SERVED_MODEL=$NAME
published="--max_new_tokens 256 --top_p 0.8 --top_k 20 --repetition_penalty 1.15"
export ARGS=${ARGS:---base_url $BASE_URL $published --concurrency 64}
echo "ready: $BASE_URL"
case $ARGS in *--repetition_penalty*)
  echo "note: vLLM's repetition penalty counts the prompt's words and the end of the turn, which a" \
    "local model's spares: answers of the two are not of one sampling."
  ;;
esac

if [ $# -gt 0 ]; then
  status=0
  "$@" || status=$?
  kill -0 "$server" 2>/dev/null || failed "vLLM ended while the command ran"
  exit $status
fi
cat <<TEXT
  python src/eval/infer.py $NAME api usage $ARGS
  ARGS="$ARGS" bash src/eval/exp.sh $NAME api
Ctrl-C stops the server.
TEXT
wait "$server" || failed "vLLM ended"
