"""A task is one file: nothing else in the project knows its name."""

from __future__ import annotations

import ast
import json
import re

import pytest

from malmat.errors import InputError
from malmat.evaluate.task import GRADE, LOSS, RATE, load_tasks
from tasks import CONTESTS, FILES, TASKS
from tests.conftest import ROOT

SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py")]
OWN = {(ROOT / "src/eval" / name).resolve() for name in FILES + CONTESTS} | {
    ROOT / "src/eval/understanding_evaluation_augmenter.py",  # writes one task's questions
}
HOMES = {path.parent for path in OWN} - {ROOT / "src/eval"}
"""The folders of tasks that have one of their own: what lies there is the task's."""

ELSEWHERE = {"usage", "loss", "reply", "meaning", "apt"}
"""Names that are words of other things, too: token usage in a record, a trainer's loss, an apt
answer in a row of misuses."""


SHOWN = {"python src/eval/infer.py $NAME api usage $ARGS"}
"""An example that a script prints."""


def names_in(path) -> list[str]:
    """Where code of a file names a task: by a text that is nothing else, or, for names that mean
    other things too, by comparing a task, a mode or a name with one or offering it as an option."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in TASKS.keys() - ELSEWHERE:
            found.append(f"{path.name}:{node.lineno}")
        asked = isinstance(node, ast.Compare) and re.search("task|mode|name", ast.unparse(node))
        offered = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        if asked or offered:
            texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            found += [f"{path.name}:{node.lineno}" for text in texts if text in TASKS]
    return found


def test_no_code_outside_a_task_names_it():
    assert len(SOURCES) > 60
    others = [path for path in SOURCES if path not in OWN and path.parent not in HOMES]
    assert [place for path in others for place in names_in(path)] == []


@pytest.mark.parametrize("pattern", ["src/**/*.sh", "*.sh", "src/**/*.jinja"])
def test_no_shell_file_or_template_names_a_task(pattern):
    alone = re.compile(rf"\b({'|'.join(TASKS.keys() - ELSEWHERE)})\b")
    given = re.compile(rf"(infer|score|exp|compare)\S*\b.*\b({'|'.join(TASKS)})\b|task\S* == ")
    for path in (path for path in ROOT.glob(pattern) if path.parent not in HOMES):
        lines = path.read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if not line.lstrip().startswith(("#", "{#", "echo"))]
        code = [line for line in code if line.strip() not in SHOWN]
        assert [line for line in code if alone.search(line) or given.search(line)] == [], path


def test_the_tasks_that_ship_are_whole():
    shipped = [task for task in TASKS.values() if task.questions.is_relative_to(ROOT / "src")]
    assert len(shipped) >= 5
    for task in shipped:
        items = task.read(task.questions)
        own = task.questions.parent == ROOT / "src" / "eval"  # the others are samples of contests
        assert len({item["id"] for item in items}) == len(items) >= (100 if own else 20)
        prompts = task.prompts()
        messages = task.render(prompts, items[0], [])
        assert messages[-1]["role"] == "user"
        assert items[0]["question"] in messages[-1]["content"]
        if "split" in task.slices:
            assert {item["split"] for item in items} == {"seen", "unseen"}


def test_scales():
    assert RATE.holds(True)
    assert not RATE.holds(1.5)
    assert GRADE.ticks == [1, 2, 3, 4, 5]
    assert LOSS.holds(123.4)
    assert not LOSS.holds(float("inf"))
    assert not LOSS.holds(float("nan"))
    assert not LOSS.holds(-0.1)
    assert (RATE.sign, LOSS.sign, LOSS.ticks) == (1, -1, [])


@pytest.mark.parametrize(
    ("text", "problem"), [("", "declares no task"), ("TASK = 3", "declares no task")]
)
def test_a_file_without_a_task_is_named(tmp_path, text, problem):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        load_tasks([path])
    with pytest.raises(InputError, match="no such task file"):
        load_tasks([tmp_path / "none.py"])
    twice = ROOT / "src/eval/usage.py"
    with pytest.raises(InputError, match="already"):
        load_tasks([twice, twice])


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_readmes_task_runs_through_every_stage(script, tmp_path, model_folder, page):
    """The file, the questions and the commands as they stand on the page; the model is a tiny one
    instead of the embedded one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(python|json)\n(.*?)```", text, re.DOTALL))
    assert len(blocks["python"].splitlines()) <= 30
    (tmp_path / "proverbs.py").write_text(blocks["python"], encoding="utf-8")
    (tmp_path / "proverbs.json").write_text(blocks["json"], encoding="utf-8")
    (commands,) = re.findall(r"```bash\n(export MALMAT_TASKS=.*?)```", text, re.DOTALL)
    lines = [line for line in commands.splitlines() if line.startswith("python ")]
    assert [line.split()[1].rpartition("/")[2] for line in lines] == [
        "infer.py", "score.py", "infer.py", "score.py", "compare.py", "report.py",
    ]  # fmt: skip
    for line in lines:
        words = line.replace(".py embedded local", f".py {model_folder} local").split()[1:]
        words = [model_folder.name if word == "embedded" else word for word in words]
        words += ["--results_dir", "results"]
        result = script(*words, MALMAT_TASKS="proverbs.py")
        assert result.returncode == 0, (line, result.stderr)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "아랫물이 맑다" in page
    assert "사람 사이" in page


GOOD = {"scorer": "'accuracy'", "choose": "'text'", "slices": "('kind',)", "more": ""}
FILE = """from pathlib import Path
from malmat.evaluate.items import read_choices
from malmat.evaluate.task import RATE, Task
TASK = Task(name="mine", title="Mine", about="", scale=RATE, questions=Path("q.json"),
    read=read_choices, render=lambda p, i, s: [{{"role": "user", "content": i["pasage"]}}],
    scorer={scorer}, choose={choose}, slices={slices}{more})
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scorer": "'acuracy'"}, "'acuracy' is none of accuracy, exact"),
        ({"choose": "'txt'"}, "'txt' is none of label, text"),
        ({"slices": "('kind')"}, "with its comma"),
        ({"more": ", titel='x'"}, "line 4: cannot be run.*titel"),
        ({"more": ")("}, "cannot be run"),
    ],
)
def test_a_mistake_in_a_task_file_is_one_line(script, tmp_path, change, said):
    (tmp_path / "mine.py").write_text(FILE.format(**GOOD | change))
    for name in ("infer.py", "report.py"):
        words = ("embedded", "local", "reply") if name == "infer.py" else ()
        result = script(f"src/eval/{name}", *words, MALMAT_TASKS="mine.py")
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert re.search(f"mine.py.*{said}", line), line


def test_an_item_that_render_fails_on_is_named(script, tmp_path, model_folder):
    (tmp_path / "mine.py").write_text(FILE.format(**GOOD))
    items = [{"id": "first", "question": "?", "choices": ["가", "나"], "target": "가"}]
    (tmp_path / "q.json").write_text(json.dumps(items))
    words = ("src/eval/infer.py", model_folder, "local", "mine", "--dry_run")
    result = script(*words, MALMAT_TASKS="mine.py")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.match("error: q.json, field 'first': render fails .*'pasage'", line)
