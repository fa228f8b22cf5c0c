"""What the command line does when something goes wrong that no command foresaw, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sample_run
from pretune.cli import main

PROGRAM = "import sys; from pretune.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return sample_run.write(tmp_path / "small.json", sample_run.tree())


def test_an_unexpected_exception_is_one_line(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("pretune.cli.planning.make_plan", broken)
    monkeypatch.delenv("PRETUNE_DEBUG", raising=False)
    assert main(["plan", str(scenario)]) == 1
    assert capsys.readouterr() == (
        "",
        "pretune: internal error: ZeroDivisionError: oh no (set PRETUNE_DEBUG=1 for the traceback)\n",
    )
    monkeypatch.setenv("PRETUNE_DEBUG", "1")
    assert main(["plan", str(scenario)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_while_planning(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pretune.cli.planning.make_plan", interrupted)
    assert main(["plan", str(scenario)]) == 130
    assert capsys.readouterr() == ("", "pretune: interrupted\n")


def test_a_closed_pipe_is_quiet(scenario: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "plan", str(scenario), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""
        assert started.wait(timeout=120) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["plan", "SCENARIO"], ["plan", "SCENARIO", "--json"]])
def test_a_full_disk_is_one_line(scenario: Path, words: list[str]) -> None:
    words = [str(scenario) if word == "SCENARIO" else word for word in words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "pretune: standard output: No space left on device\n"


def test_a_terminal_without_unicode_is_served(scenario: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "plan", str(scenario)], env=env, capture_output=True, text=True, check=True
    )
    assert "####" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("words", [["--help"], ["plan", "SCENARIO"]])
def test_what_needs_no_torch_does_not_import_it(scenario: Path, words: list[str]) -> None:
    words = [str(scenario) if word == "SCENARIO" else word for word in words]
    code = (
        "import sys; from pretune.cli import main; main(sys.argv[1:]); "
        "heavy = ('torch', 'matplotlib', 'pint', 'pyarrow', 'jinja2', 'flwr'); "
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
