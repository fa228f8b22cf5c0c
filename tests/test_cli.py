"""The command line: results, exit codes, and one clear line for everything that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pretune
import sample_run
from pretune.cli import main
from pretune.plans import load_plan

READY = ("plan", "check", "run", "report", "compare", "admit", "pareto", "pilot", "profile", "studio")
# a suite that was started in the background ignores Ctrl-C; the command must not
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = f"{HEED}; import sys; from pretune.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command in a folder of its own, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRETUNE_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: object) -> Result:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return sample_run.write(tmp_path / "small.json", sample_run.tree())


@pytest.fixture
def planned(cli: Cli, scenario: Path, tmp_path: Path) -> Path:
    assert cli("plan", scenario, "-o", tmp_path / "plan.json", "-q") == Result(0, "", "")
    return tmp_path / "plan.json"


def one_line(result: Result, code: int, *words: str) -> None:
    """The result is this exit code and one line on standard error that holds `words`, and nothing else."""
    assert result.code == code
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


# --- help, version, usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), *((name,) for name in READY)])
def test_help(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert "Usage: pretune" in result.out
    assert result.err == ""


def test_no_command_shows_the_help_and_is_bad_usage(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert "Usage: pretune" in result.out


def test_version(cli: Cli) -> None:
    assert cli("--version") == Result(0, f"pretune {pretune.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan"], "SCENARIO"),
        (["plan", "a", "b"], "unexpected extra argument"),
        (["plan", "a", "--bogus"], "--bogus"),
        (["bogus"], "bogus"),
        (["run", "a", "--seed", "x"], "--seed"),
        (["run", "a", "--seed", "-1"], "--seed"),
        (["plan", "a", "--tolerance", "0"], "--tolerance"),
        (["plan", "a", "--tolerance", "nan"], "--tolerance"),
        (["plan", "a", "--time-limit", "-1"], "--time-limit"),
        (["check", "a"], "SCENARIO"),
        (["report"], "DIR"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(cli: Cli, words: list[str], says: str) -> None:
    one_line(cli(*words), 2, says)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_generated(shell: str) -> None:
    env = {**os.environ, "_PRETUNE_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from pretune.cli import main; sys.exit(main([]))"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_PRETUNE_COMPLETE=complete_" in done.stdout


# --- plan -----------------------------------------------------------------------------------------------------------


def test_plan_prints_tables(cli: Cli, scenario: Path) -> None:
    result = cli("plan", scenario)
    assert result.code == 0
    assert result.err == ""
    for word in ("small", "Pre-training", "Fine-tuning", "Lower bound", "proven", "Energy", "Delay", "Binding"):
        assert word in result.out
    assert "Defaults taken" in result.out
    assert max(map(len, result.out.splitlines())) <= 100


def test_plan_writes_the_file_it_prints(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    result = cli("plan", scenario, "-o", "plan.json", "--json")
    assert result.code == 0
    assert result.err == ""
    assert json.loads(result.out) == json.loads((tmp_path / "plan.json").read_text())
    assert json.loads(result.out)["status"] in ("optimal", "feasible")


def test_plan_overwrites_only_when_forced(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("mine")
    one_line(cli("plan", scenario, "-o", "plan.json"), 2, "plan.json", "exists already", "--force")
    assert (tmp_path / "plan.json").read_text() == "mine"
    assert cli("plan", scenario, "-o", "plan.json", "--force", "-q").code == 0
    assert load_plan(tmp_path / "plan.json").status.has_plan


def test_plan_needs_a_place_to_write_to(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    one_line(cli("plan", scenario, "-o", "no/where/plan.json"), 2, "there is no folder")
    one_line(cli("plan", scenario, "-o", tmp_path), 2, "is a folder")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "colour"),
        ({"budget": {"energy_j": -5, "delay_s": 2.0}}, "budget.energy_j"),
        ({"budget": {"energy_j": 5}}, "budget.delay_s"),
        ({"devices": []}, "devices"),
        ({"pretune": 2}, "pretune"),
        ({"name": 3}, "name"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "check", "run"])
def test_a_bad_scenario_is_one_line(cli: Cli, tmp_path: Path, command: str, changes: dict[str, Any], says: str) -> None:
    plan = sample_run.folder(tmp_path / "run") / "plan.json"
    path = sample_run.write(tmp_path / "bad.json", sample_run.tree(**changes))
    one_line(cli(command, *([plan] if command == "check" else []), path), 2, says)


def test_a_scenario_that_is_not_there(cli: Cli) -> None:
    one_line(cli("plan", "nothing.yaml"), 2, "nothing.yaml")
    one_line(cli("run", "nothing.yaml"), 2, "nothing.yaml")


def test_an_infeasible_scenario_is_exit_code_3(cli: Cli, tmp_path: Path) -> None:
    path = sample_run.write(tmp_path / "tight.json", sample_run.tree(budget={"energy_j": 1e-9, "delay_s": 1e-9}))
    told = cli("plan", path)
    assert told.code == 3
    assert len(told.err.splitlines()) == 1
    assert "clash" in told.out
    assert "would do" in told.out
    pure = cli("plan", path, "--json")
    assert pure.code == 3
    tree = json.loads(pure.out)
    assert tree["status"] == "infeasible"
    assert tree["infeasibility"]["clash"]
    one_line(cli("run", path, "-o", "out"), 3)
    assert not (tmp_path / "out").exists()
    one_line(cli("plan", path, "-q", "-o", "plan.json"), 3)
    one_line(cli("run", "plan.json", path), 3)


def test_hostile_names_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    content = sample_run.tree()
    content["devices"][0]["name"] = "[red]cam[/red]"
    result = cli("plan", sample_run.write(tmp_path / "names.json", content))
    assert result.code == 0
    if "Device" in result.out:
        assert "[red]cam[/red]" in result.out
    content["devices"][0]["name"] = "\x1b[31mcam"
    result = cli("plan", sample_run.write(tmp_path / "escape.json", content))
    assert "\x1b[31mcam" not in result.out + result.err


# --- check ----------------------------------------------------------------------------------------------------------


def test_check_accepts_its_own_plan(cli: Cli, planned: Path, scenario: Path) -> None:
    result = cli("check", planned, scenario)
    assert result.code == 0
    assert "hold" in result.out
    assert result.err == ""
    pure = cli("check", planned, scenario, "--json")
    assert pure.code == 0
    assert json.loads(pure.out)["holds"] is True
    assert cli("check", planned, scenario, "-q") == Result(0, "", "")


def test_check_refuses_a_claim_that_does_not_hold(cli: Cli, planned: Path, scenario: Path) -> None:
    tree = json.loads(planned.read_text())
    tree["energy_j"] *= 0.5
    planned.write_text(json.dumps(tree))
    result = cli("check", planned, scenario)
    assert result.code == 1
    assert result.out == ""
    assert "energy" in result.err
    assert "Traceback" not in result.err
    pure = cli("check", planned, scenario, "--json")
    assert pure.code == 1
    assert json.loads(pure.out)["problems"]


def test_check_refuses_a_plan_for_another_scenario(cli: Cli, planned: Path, tmp_path: Path) -> None:
    other = sample_run.write(tmp_path / "other.json", sample_run.tree(name="other"))
    result = cli("check", planned, other)
    assert result.code == 2
    assert result.out == ""
    assert "scenario_sha256" in result.err or "another scenario" in result.err


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_a_truncated_plan_is_one_line(cli: Cli, planned: Path, scenario: Path, keep: int) -> None:
    planned.write_text(planned.read_text()[:keep])
    one_line(cli("check", planned, scenario), 2, "plan.json")
    one_line(cli("run", planned, scenario), 2, "plan.json")


def test_an_unknown_key_in_a_plan_is_named(cli: Cli, planned: Path, scenario: Path) -> None:
    tree = json.loads(planned.read_text())
    planned.write_text(json.dumps({**tree, "colour": "red"}))
    one_line(cli("check", planned, scenario), 2, "plan.colour")


# --- run and report -------------------------------------------------------------------------------------------------


@pytest.fixture
def short(cli: Cli, scenario: Path, tmp_path: Path) -> Path:
    """A plan of a few rounds, made up."""
    from pretune.scenario import load_scenario

    return sample_run.plan_for(load_scenario(scenario), 30, 20).save(tmp_path / "short.json")


def test_run_a_plan_then_report_it(cli: Cli, short: Path, scenario: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = cli("run", short, scenario, "-o", "out")
    assert result.code == 0, result.err
    for word in ("realised", "Before training", "After pre-training", "After fine-tuning", "out/report.html"):
        assert word in result.out
    assert (tmp_path / "out" / "report.html").is_file()
    one_line(cli("run", short, scenario, "-o", "out"), 2, "out", "exists already")
    one_line(cli("report", "out"), 2, "report.html", "exists already")
    assert cli("report", "out", "--force").code == 0
    assert cli("report", "out", "-o", "r.html") == Result(0, "Report: r.html\n", "")
    again = cli("run", short, "--scenario", scenario, "-o", "two", "--json")
    assert again.code == 0
    assert again.err == ""
    assert json.loads(again.out)["rounds"] == {"pretrain": 30, "finetune": 20}
    assert (tmp_path / "two" / "ledger.jsonl").read_bytes() == (tmp_path / "out" / "ledger.jsonl").read_bytes()
    assert cli("run", short, scenario, "-o", "three", "-q", "--seed", "1") == Result(0, "", "")
    assert (tmp_path / "three" / "ledger.jsonl").read_bytes() != (tmp_path / "out" / "ledger.jsonl").read_bytes()


def test_run_tells_a_tracker_and_goes_on_without_one_that_fails(
    cli: Cli, short: Path, scenario: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    words = ("run", short, scenario, "-q", "--track", "tensorboard")
    assert cli(*words, "-o", "out", "--track-uri", "boards") == Result(0, "", "")
    assert list((tmp_path / "boards" / "out").glob("events*"))
    (tmp_path / "file").write_text("no folder")
    failed = cli(*words, "-o", "two", "--track-uri", "file")
    one_line(failed, 0, "warning: tracking with tensorboard stopped", "the run goes on")
    assert (tmp_path / "two" / "ledger.jsonl").read_bytes() == (tmp_path / "out" / "ledger.jsonl").read_bytes()
    one_line(cli(*words[:4], "-o", "x", "--track", "wandb"), 2, "--track: holds 'wandb'", "mlflow, tensorboard")
    one_line(cli(*words[:4], "-o", "x", "--track-uri", "boards"), 2, "--track-uri: needs --track")
    assert not (tmp_path / "x").exists()


def test_run_plans_a_scenario_first_and_finds_a_folder(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    tight = sample_run.write(tmp_path / "tight.json", sample_run.tree(budget={"energy_j": 0.5, "delay_s": 0.3}))
    for number in (1, 2):
        result = cli("run", tight, "-q")
        assert result == Result(0, "", "")
        assert (tmp_path / "runs" / str(number) / "report.html").is_file()


def test_run_says_which_file_is_missing_or_wrong(cli: Cli, short: Path, scenario: Path, tmp_path: Path) -> None:
    one_line(cli("run", short), 2, "is a plan", "SCENARIO")
    one_line(cli("run", scenario, scenario), 2, "is not a plan file")
    one_line(cli("run", short, scenario, "--scenario", scenario), 2, "twice")
    one_line(cli("run", "nothing.json", scenario), 2, "nothing.json")
    one_line(cli("run", short, scenario, "--resume"), 2, "--resume", "-o")
    one_line(cli("run", short, scenario, "--resume", "-o", "nothing"), 2, "nothing")
    (tmp_path / "file").write_text("")
    one_line(cli("run", short, scenario, "-o", "file"), 2, "file", "exists already")


def test_run_refuses_a_plan_for_another_scenario(cli: Cli, short: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    other = sample_run.write(tmp_path / "other.json", sample_run.tree(name="other"))
    result = cli("run", short, other, "-o", "out", "-q")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_diverges_keeps_a_report(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pretune.scenario import load_scenario

    content = sample_run.tree()
    content["convergence"] |= {"smoothness": 1e-9, "pretrain_step": 1e8, "finetune_step": 1e8, "pl_constant": 1e-10}
    path = sample_run.write(tmp_path / "wild.json", content)
    plan = sample_run.plan_for(load_scenario(path), 30, 20).save(tmp_path / "wild-plan.json")
    result = cli("run", plan, path, "-o", "out")
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "diverged" in result.err
    assert "Incomplete run." in (tmp_path / "out" / "report.html").read_text()


def test_the_report_command_names_what_is_wrong(cli: Cli, tmp_path: Path) -> None:
    one_line(cli("report", "nothing"), 2, "nothing", "is not a folder")
    run = sample_run.folder(tmp_path / "run")
    (run / "ledger.jsonl").write_text("{")
    one_line(cli("report", "run"), 2, "ledger.jsonl")


def test_ctrl_c_says_how_to_resume_and_resuming_ends_the_same(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pretune.scenario import load_scenario

    rounds = 4000
    plan = sample_run.plan_for(load_scenario(scenario), rounds, 10).save(tmp_path / "long.json")
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(plan), str(scenario), "-o", "out", "--seed", "3"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    ledger, deadline = tmp_path / "out" / "ledger.jsonl", time.monotonic() + 120
    with started:
        while not (ledger.is_file() and ledger.stat().st_size > 0) and started.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert len(err.splitlines()) == 1
    hint = err.strip().partition("go on with: ")[2]
    assert hint == f"pretune run out/plan.json {scenario} -o out --resume --seed 3"
    assert "Incomplete" in (tmp_path / cli("report", "out", "-o", "half.html").out.split()[-1]).read_text()
    result = cli(*hint.split()[1:], "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["rounds"] == {"pretrain": rounds, "finetune": 10}
