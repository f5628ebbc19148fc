"""What a long stage says of itself in a log file and on a terminal."""

import argparse
import re
from types import SimpleNamespace

import pytest

from malmat import progress
from malmat.progress import Progress, tracked


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)


def test_a_log_file_gets_lines_with_rate_and_time_left(at_once, capsys):
    assert list(tracked([1, 2, 3, 4], "pairs")) == [1, 2, 3, 4]
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"  pairs: 2/4 rows, [\d.e+,]+ rows/s, \d\d:\d\d left", lines[1])
    assert "\r" not in said.out + said.err, "no bar without a terminal"


def test_what_an_earlier_run_did_is_no_part_of_the_rate(at_once, capsys, monkeypatch):
    clock = iter([0.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress(100, done=80, label="answers") as bar:
        bar.update(5)
    assert capsys.readouterr().out == "  answers: 85/100 items, 0.5 items/s, 00:30 left\n"


def test_a_short_stage_says_nothing(capsys):
    assert list(tracked(range(100), "pairs")) == list(range(100))
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_terminal_gets_a_bar_and_no_lines(at_once, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    list(tracked([1, 2], "pairs"))
    assert capsys.readouterr().out == ""


def test_training_says_its_steps(at_once, capsys):
    from malmat.train.trainers import Lines

    lines, state = Lines(), SimpleNamespace(max_steps=40, global_step=10)
    lines.on_train_begin(None, state, None)
    lines.on_step_end(None, state, None)
    assert capsys.readouterr().out.startswith("  train: 11/40 steps, ")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_run_has_its_folders_name_where_it_is_reported(name, tmp_path):
    from malmat.train import loop
    from malmat.train.settings import add_arguments, settings_from

    options = argparse.ArgumentParser()
    add_arguments(options)
    words = ["--model_name", "m", "--output_dir", str(tmp_path / "my-run"), "--report_to", name]
    settings = settings_from(options.parse_args(words), "full")
    batches = SimpleNamespace(steps=1, shape=(1, 1))
    job = SimpleNamespace(settings=settings, held=None, batches=batches, packed=None, own_loss=True)
    arguments = loop._arguments(job)
    assert arguments.run_name == "my-run"
    assert arguments.report_to == [name]
