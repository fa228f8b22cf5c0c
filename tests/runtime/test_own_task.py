"""Tasks of one's own: a file or a module, and what is said when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pretune.errors import InputError
from pretune.runtime.load import load_task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from pretune.runtime.task import Samples, Task

@dataclass
class Options:            # dataclasses look their module up: it must be known by its name
    size: int

def make_task(size: int = 4, **more) -> Task:
    size = Options(size).size
    data = Samples(x=torch.zeros(size, 2), y=torch.zeros(size, dtype=torch.int64))
    return Task(name="own", model=lambda g: torch.nn.Linear(2, 2), general=data, train=data, test=data)

make_other = lambda: make_task(7)
"""


def test_file_relative_to_the_scenario_with_options(tmp_path):
    (tmp_path / "my_task.py").write_text(GOOD)
    task = load_task({"file": "my_task.py", "size": 5, "partition": {"scheme": "iid"}}, tmp_path)
    assert len(task.train) == 5
    assert len(load_task({"file": "my_task.py", "function": "make_other"}, tmp_path).train) == 7


def test_two_files_of_the_same_name_do_not_meet(tmp_path):
    for folder, size in (("a", 4), ("b", 9)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "task.py").write_text(GOOD.replace("size: int = 4", f"size: int = {size}"))
    assert [len(load_task({"file": "task.py"}, tmp_path / folder).train) for folder in "ab"] == [4, 9]


def test_function_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "pretune_test_module.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_task({"function": "pretune_test_module:make_task", "size": 3}).train) == 3


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"file": "none.py"}, "task.file: holds 'none.py', should hold a Python file that exists"),
        ({"file": "good.txt"}, "task.file: holds 'good.txt', should hold a Python file (its name should end in .py)"),
        ({"file": 3}, "task.file: holds 3, should hold a text"),
        ({"file": "syntax.py"}, "task.file: syntax.py can't be run (SyntaxError: "),
        ({"file": "raises.py"}, "task.file: raises.py can't be run (ZeroDivisionError: division by zero)"),
        ({"file": "good.py", "function": "make"}, "task.function: holds 'make', should hold a function of good"),
        ({"file": "good.py", "function": "torch"}, "should hold a function of good"),
        ({"file": "good.py", "size": "x"}, "task.function: make_task failed (TypeError: "),
        ({"file": "good.py", "function": "make_other", "size": 3}, "make_other failed (TypeError: "),
        ({"file": "good.py", "name": "digits"}, "task.name: is given beside a file or function"),
        ({"file": "none_back.py"}, "task.function: make_task returns NoneType, should return a pretune task"),
        ({"file": "input_error.py"}, "task.size: holds 3, should hold 4"),
        ({"function": "make_task"}, "task.function: holds 'make_task', should hold module:function"),
        ({"function": "no_such_module:f"}, "task.function: module no_such_module can't be imported (ModuleNotFoundErr"),
        ({"function": "math:nothing"}, "task.function: holds 'nothing', should hold a function of math"),
    ],
)
def test_refusals_are_one_line(tmp_path, section, says):
    files = {
        "good.py": GOOD,
        "good.txt": GOOD,
        "syntax.py": "def",
        "raises.py": "1 / 0",
        "none_back.py": "def make_task(): return None",
        "input_error.py": "from pretune.errors import InputError\ndef make_task(): raise InputError.field("
        "'task.size', 3, '4')",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_task(section, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_in_the_documentation_works():
    task = load_task({"file": "own_task.py", "noise": 0.1}, EXAMPLES)
    again = load_task({"file": "own_task.py", "noise": 0.1}, EXAMPLES)
    assert task.fingerprint() == again.fingerprint()
    state = torch.get_rng_state()
    assert task.build(0)(task.test.x).shape == (600, 2)
    assert torch.equal(state, torch.get_rng_state())
