"""The public surface: the names that scripts rely on, and what importing pretune does not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pretune
from pretune.planner.kernels import forget_stale_code


def test_exported_names_are_the_documented_ones() -> None:
    assert set(pretune.__all__) == {
        "CheckFailed",
        "Fleet",
        "Infeasible",
        "InputError",
        "MissingExtra",
        "Plan",
        "PlanMismatch",
        "PretuneError",
        "RunFailed",
        "Scenario",
        "Status",
        "__version__",
        "admit",
        "check",
        "load_plan",
        "load_scenario",
        "plan",
        "run",
    }
    for name in pretune.__all__:
        assert getattr(pretune, name) is not None


def test_exit_codes_are_the_documented_ones() -> None:
    assert pretune.PretuneError.exit_code == 1
    assert pretune.InputError.exit_code == 2
    assert pretune.PlanMismatch.exit_code == 2
    assert pretune.Infeasible.exit_code == 3
    assert pretune.CheckFailed.exit_code == 1
    assert pretune.RunFailed.exit_code == 1


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["torch", "flwr", "fastapi", "cvxpy", "matplotlib", "numba", "pint", "pyarrow"])
def test_importing_pretune_stays_light(module: str) -> None:
    assert run_python(f"import sys, pretune; print({module!r} in sys.modules)") == "False"


def test_the_checker_never_loads_the_planner() -> None:
    code = "import sys, pretune.certify; print(sorted(m for m in sys.modules if m.startswith('pretune.planner')))"
    assert run_python(code) == "[]"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import pretune\n"
        "try: pretune.run(None, None, out='x')\n"
        "except pretune.MissingExtra as error: print(error)\n"
    )
    assert "pip install 'pretune[train]'" in run_python(code)


def test_plan_is_a_function_whatever_was_imported() -> None:
    code = "import pretune, pretune.plans, pretune.planner, pretune.certify; print(callable(pretune.plan))"
    assert run_python(code) == "True"


def test_compiled_code_older_than_a_kernel_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    cache = folder / "__pycache__"
    cache.mkdir(parents=True)
    for path, when in ((folder / "scalar.py", 200), (tmp_path / "problem.py", 100)):
        path.write_text("")
        os.utime(path, (when, when))
    for name, when in (("old.nbi", 150), ("old.1.nbc", 150), ("new.nbi", 250), ("old.pyc", 150)):
        (cache / name).write_text("")
        os.utime(cache / name, (when, when))
    assert forget_stale_code(folder) == 2
    assert sorted(path.name for path in cache.iterdir()) == ["new.nbi", "old.pyc"]
