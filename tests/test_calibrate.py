"""`pretune calibrate` from the outside: what it writes and keeps, how it is taken up again, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calibration_samples import QUICK, made, spirals
from pretune.cli import main
from pretune.scenario import load_scenario

pytest.importorskip("torch")

KEYS = {
    "smoothness", "initial_gap", "shift", "pretrain_variance", "finetune_variance", "heterogeneity", "pl_constant",
    "flops_per_sample", "upload_bits", "download_bits", "wasserstein",
}  # fmt: skip


def calibrate(path: Path, *options: str) -> int:
    return main(["calibrate", str(path), *QUICK, *options])


def refused(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    before = path.read_text(encoding="utf-8")
    capsys.readouterr()
    assert calibrate(path, "-q", *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert path.read_text(encoding="utf-8") == before
    return lines[0].removeprefix("pretune: ")


def test_hand_set_values_stay_and_measured_ones_come_with_their_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spirals(tmp_path)
    before, old = path.read_text(encoding="utf-8"), load_scenario(path)
    assert calibrate(path) == 0
    shown = capsys.readouterr().out
    assert "set by hand and stays" in shown
    new, text = load_scenario(path), path.read_text(encoding="utf-8")
    assert text.startswith(before.rstrip("\n"))  # not a character of it is changed
    assert new.measured is not None
    assert {key for key, _ in new.measured.found} == KEYS
    assert new == old  # where a value comes from is no part of the scenario's digest
    for _, figure in new.measured.found:
        assert len(figure.date) == 10
        assert len(figure.method) > 20
        assert figure.seed == 0
    assert "convergence.smoothness: 7.29 is in use, measured was" in " ".join(new.not_as_measured)
    assert main(["plan", str(path)]) == 0
    assert capsys.readouterr().err.count("is in use, measured was") == len(new.not_as_measured) >= 3
    assert not [p for p in tmp_path.iterdir() if "calibration" in p.name]


def test_overwriting_keeps_layout_and_comments_and_later_measurements_replace_earlier_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spirals(tmp_path)
    before = path.read_text(encoding="utf-8")
    assert calibrate(path, "--overwrite", "-q") == 0
    first = path.read_text(encoding="utf-8")
    assert first.count("#") == before.count("#") + 1
    changed = [(a, b) for a, b in zip(before.splitlines(), first.splitlines(), strict=False) if a != b]
    assert {a.split(":")[0].strip() for a, _ in changed} <= KEYS
    assert [a.partition("#")[2] for a, _ in changed] == [b.partition("#")[2] for _, b in changed]
    assert load_scenario(path).not_as_measured == ()
    # values that a calibration wrote are its own to replace; one that was changed since is not
    by_hand = first.replace(f"  shift: {load_scenario(path).convergence.shift:g} ", "  shift: 0.777 ")
    assert by_hand != first
    path.write_text(by_hand, encoding="utf-8")
    capsys.readouterr()
    assert calibrate(path, "--seed", "5", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    after = load_scenario(path)
    assert after.convergence.shift == 0.777
    assert after.measured.smoothness.seed == 5
    assert after.convergence.smoothness == after.measured.smoothness.value
    assert [line.split(":")[0] for line in told["kept"]] == ["convergence.shift"]
    assert set(told["measured"]) == KEYS
    assert told["scenario_sha256"] == after.sha256
    assert path.read_text(encoding="utf-8").count("\nmeasured:") == 1


def test_constants_that_nobody_gave_are_filled_in(tmp_path: Path) -> None:
    path = spirals(tmp_path)
    tree: dict[str, Any] = load_scenario(path).to_dict()
    steps = {key: tree["convergence"][key] for key in ("pretrain_step", "finetune_step")}
    tree["convergence"] = {**steps, "criterion": "final"}
    tree["workload"] = {}
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(tree, indent=1))
    assert calibrate(bare, "-q", "-o", str(tmp_path / "full.json")) == 0
    assert json.loads(bare.read_text()) == tree
    full = load_scenario(tmp_path / "full.json")
    assert full.not_as_measured == ()
    assert full.convergence.smoothness > 0
    assert full.convergence.pl_constant > 0
    assert len(full.convergence.finetune_variance) == 3
    assert full.workload.flops_per_sample == 6784
    assert calibrate(bare, "-q", "-o", str(tmp_path / "full.json")) == 2  # exists
    assert calibrate(bare, "-q", "-o", str(tmp_path / "full.json"), "--force") == 0


def test_the_same_seed_measures_the_same(tmp_path: Path) -> None:
    path = spirals(tmp_path)
    texts = []
    for name, seed in (("a", "1"), ("b", "1")):
        assert calibrate(path, "-q", "-o", str(tmp_path / f"{name}.yaml"), "--seed", seed, "--overwrite") == 0
        texts.append((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert "seed: 1" in texts[0]


def test_an_interrupted_calibration_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spirals(tmp_path)
    state = tmp_path / "mine.yaml.calibration.json"
    # a suite that was started in the background ignores Ctrl-C; the command must not
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; import sys; from pretune.cli import main; sys.exit(main())"]
    words = ["calibrate", str(path), "--samples", "60", "--repetitions", "40", "--overwrite", "-q"]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True, env={**os.environ})
    limit = time.monotonic() + 60
    while not state.exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130
    assert "go on with: pretune calibrate" in told
    assert "--resume" in told
    held = json.loads(state.read_text())
    looks = len(held["looks"]) + sum(len(one["looks"]) for one in held["done"])
    assert looks >= 1
    before = path.read_text(encoding="utf-8")
    assert "unfinished calibration" in refused(capsys, path)
    assert "was begun with other seed" in refused(capsys, path, "--resume", "--seed", "3")
    assert calibrate(path, "-q", "--overwrite", "--resume") == 0
    assert not state.exists()
    resumed = path.read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    assert calibrate(path, "-q", "--overwrite") == 0
    assert path.read_text(encoding="utf-8") == resumed  # to the bit
    state.write_text('{"identity": 3}')
    assert "is not the state of a calibration" in refused(capsys, path, "--resume")
    state.unlink()
    assert "there is no such calibration" in refused(capsys, path, "--resume")


def test_too_little_time_is_no_interval_and_can_be_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spirals(tmp_path)
    assert "of the 27 looks that an interval needs" in refused(capsys, path, "--seconds", "1e-6")
    assert calibrate(path, "--resume", "-q") == 0


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"model": "return nn.Flatten()"}, "task.model: makes a model without trainable parameters"),
        ({"loss": "(out.argmax(1) != y).float()"}, "task.loss: can't be differentiated"),
        ({"loss": "0.0 * out.sum(1)"}, "task.loss: does not change with the model's parameters"),
        ({"loss": "(out - out).sum(1) / 0.0"}, "task.loss: is not finite"),
        ({"loss": "out.sum()"}, "task.loss: gives (), should give one loss per sample"),
        ({"loss": "(-out.abs()).sum(1)"}, "floor: holds 0.0, should hold a lower estimate of the task loss"),
        (
            {"model": "return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))"},
            "task.model: samples of a batch influence each other (batch norm?)",
        ),
        (
            {"model": "return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))"},
            "task.model: draws random numbers while computing",
        ),
        ({"train": "data(600, 2, width=3)"}, "task: general samples have the shape (2,) and task samples (3,)"),
        ({"train": "data(600, 2, classes=5)", "given": ""}, "task: the task labels run from 0 to 4, should run from 0"),
        (
            {"train": "Samples(x=data(600, 2).x, y=data(600, 2).y + 5 * (torch.arange(600) % 20 == 19))"},
            "task: the model or its loss fails on samples of shape (2,)",
        ),
        ({"general": "data(600, 1, width=7)"}, "task.model: fails on the first samples"),
        ({"train": "data(100, 2)"}, "devices: samples add up to 600, should add up to at most 100"),
    ],
)
def test_what_can_not_be_measured_costs_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: dict[str, str], says: str
) -> None:
    assert refused(capsys, made(tmp_path, **parts)).startswith(says)


@pytest.mark.parametrize(
    ("old", "new", "options", "says"),
    [
        ("", "", ("--samples", "4"), "samples: holds 4, should hold at least two for each of the 3 devices, 6"),
        ("", "", ("--seconds", "0"), "--seconds: holds 0.0, should hold a number of seconds above 0"),
        ("", "", ("-o", "x.toml"), "x.toml: has the suffix '.toml', should have that of mine.yaml"),
        ("  pretrain_step: 0.05", "  #", (), "convergence.pretrain_step: is missing, should hold a step size such as"),
        ("samples: 600", "samples: 1", (), "samples: 1 at the server is too few for a variance"),
        ("task:", "note:", (), "note: is not a known key"),
    ],
)
def test_bad_options_and_files_cost_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    options: tuple[str, ...],
    says: str,
) -> None:
    path = spirals(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert refused(capsys, path, *options).startswith(says)


def test_steps_above_what_is_measured_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spirals(tmp_path)
    text = path.read_text(encoding="utf-8").replace("smoothness: 7.29", "smoothness: 1.00")
    path.write_text(text.replace("pretrain_step: 0.05", "pretrain_step: 0.9 "), encoding="utf-8")
    line = refused(capsys, path, "--overwrite")
    assert line.startswith("convergence.pretrain_step: holds 0.9, should hold a step of at most 1/smoothness = ")


def test_few_samples_give_wide_intervals(tmp_path: Path) -> None:
    path = spirals(tmp_path)
    widths = []
    for samples in ("8", "600"):
        out = tmp_path / f"n{samples}.yaml"
        assert calibrate(path, "-q", "-o", str(out), "--samples", samples) == 0
        found = load_scenario(out).measured.pretrain_variance
        widths.append(found.high / found.low)
    assert widths[0] > 1.5 * widths[1]


def test_a_scenario_is_not_moved_away_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spirals(tmp_path)
    (tmp_path / "other").mkdir()
    line = refused(capsys, path, "-o", str(tmp_path / "other" / "mine.yaml"))
    assert "whose task.file is relative to its own" in line


@pytest.mark.parametrize(("missing", "named"), [("torch", "torch"), ("ot", "POT"), ("tomlkit", "tomlkit")])
def test_what_is_not_installed_is_named_before_any_work(tmp_path: Path, missing: str, named: str) -> None:
    path = spirals(tmp_path)
    if missing == "tomlkit":
        path = tmp_path / "mine.toml"
        path.write_text('name = "x"\n')
    code = f"import sys; sys.modules[{missing!r}] = None; from pretune.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "calibrate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"pretune: {named} is not installed; install it with: pip install 'pretune[train]'\n"
