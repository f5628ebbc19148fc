"""The configurations for several GPUs, as far as they can be checked without one."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "src" / "train" / "accelerate"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_the_configuration_and_knows_every_key(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(FOLDER / name))  # refuses keys it does not know
    words = ["--config_file", str(FOLDER / name), "script.py"]
    parser = launch_command_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    for key in {**(config.fsdp_config or {}), **(config.deepspeed_config or {})}:
        assert f"--{key}" in known, key
    args, _, _ = _validate_launch_command(parser.parse_args(words))
    kind = {"ddp.yaml": "multi_gpu", "fsdp2.yaml": "use_fsdp"}.get(name, "use_deepspeed")
    assert getattr(args, kind) is True
    if kind == "use_fsdp":
        assert int(args.fsdp_version) == 2
        # A checkpoint of whole weights would be gathered on one card.
        assert args.fsdp_state_dict_type == "SHARDED_STATE_DICT"
    if kind == "use_deepspeed":
        assert args.zero_stage == 3
        assert args.offload_param_device == ("cpu" if "offload" in name else "none")


def test_slurm_starts_one_launcher_a_node_with_its_rank_and_the_head_as_address(tmp_path):
    """Stand-ins for Slurm's commands and the launcher write down what they are asked."""
    stands = {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'for id in 0 1; do SLURM_NODEID=$id "${@:2}"; done',
        "accelerate": 'printf "%s|" "$@" >> "$SEEN"; echo >> "$SEEN"',
    }
    for name, body in stands.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    result = subprocess.run(
        ["bash", str(FOLDER / "slurm.sh"), "owner/a model", "--seed", "7 8"],
        env=os.environ
        | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SEEN": str(tmp_path / "seen"),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_NNODES": "2",
            "SLURM_GPUS_PER_NODE": "a100:4",
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "seen").read_text().splitlines()
    assert len(lines) == 2
    for rank, line in enumerate(lines):
        words = line.split("|")
        options = dict(pairwise(words))
        assert options["--machine_rank"] == str(rank)
        assert options["--num_machines"] == "2"
        assert options["--num_processes"] == "8"
        assert options["--main_process_ip"] == "node-a"
        assert options["--model_name"] == "owner/a model"
        assert words[-3:] == ["--seed", "7 8", ""]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("transformers_full_fine_tuning", "Qwen/Qwen3-8B"),
        ("lora_fine_tuning", "Qwen/Qwen3-8B"),
        ("unsloth_fine_tuning", "unsloth/Qwen3-32B-bnb-4bit"),
    ],
)
def test_a_scripts_own_model_needs_no_code_but_transformers(name, model):
    from transformers import CONFIG_MAPPING

    path = ROOT / "src" / "train" / f"train_{name}.sh"
    result = subprocess.run(
        ["bash", str(path)], env=os.environ | {"LAUNCH": "echo"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert words[words.index("--model_name") + 1] == model
    assert "--trust_remote_code" not in words
    assert "qwen3" in CONFIG_MAPPING


@pytest.mark.parametrize(
    "name", ["dpo", "lora_fine_tuning", "transformers_full_fine_tuning", "unsloth_fine_tuning"]
)
def test_help_of_a_shell_script_is_the_comment_at_its_head(name):
    path = ROOT / "src" / "train" / f"train_{name}.sh"
    result = subprocess.run(["bash", str(path), "--help"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == path.read_text("utf-8").splitlines()[1][2:]
