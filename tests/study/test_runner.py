"""Studies that are killed, resumed, sharded, merged and changed under the hands; on every engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy import write_toy

from pretune.study.cache import cached
from pretune.study.cli import main
from pretune.study.points import Point, grid, shard_of
from pretune.study.store import Store
from pretune.study.tables import Table, csv_text, read_csv


@pytest.fixture
def folder(tmp_path):
    return write_toy(tmp_path / "experiments")


def run(folder, out, *more, engine="serial"):
    return main(["run", "all", "--folder", str(folder), "-o", str(out), "--engine", engine, "-q", *more])


def values(out):
    return {(row["task"], row["seed"], row["half"]): row["value"] for row in read_csv(out / "toy.csv")}


WHOLE = {(task, seed, half): seed**2 + 0.5 for task in "ab" for seed in range(6) for half in (1, 2)}


def test_points_are_plain_and_equal_by_their_fields():
    assert Point(b=1, a="x") == Point(a="x", b=1)
    assert len({Point(b=1, a="x"), Point(a="x", b=1), Point(a="x", b=2)}) == 2
    assert Point(b=None, a=True).key == '{"a":true,"b":null}'
    assert [dict(point) for point in grid(a=(1, 2), b=("x",))] == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    for bad in ([1], float("nan"), float("inf"), {"x": 1}):
        with pytest.raises(Exception, match=r"point\.a: holds"):
            Point(a=bad)


def test_a_run_writes_its_table_with_seeds_and_version(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"] == 12
    table = read_csv(out / "toy.csv")
    assert values(out) == WHOLE
    assert table.names == ["task", "seed", "half", "value", "none", "version"]
    assert len(table.distinct("version")) == 1
    assert table.distinct("none") == []
    assert sorted((folder / "made.txt").read_text(encoding="utf-8")) == ["a", "b"]  # what points share was made once
    from pyarrow import parquet

    assert parquet.read_table(out / "toy.parquet").num_rows == 24
    sessions = Store(out).manifest["sessions"]
    assert [(one["measured"], one["failed"]) for one in sessions] == [(12, 0)]
    assert str(tmp_path) not in sessions[0]["command"]


def test_a_failing_point_stops_no_other_and_is_tried_again(folder, tmp_path, capsys):
    out = tmp_path / "out"
    (folder / "fail-a-3").touch()
    assert run(folder, out) == 1
    assert capsys.readouterr().err == 'pretune: toy {"seed":3,"task":"a"}: ValueError: told to fail\n'
    assert values(out) == {key: value for key, value in WHOLE.items() if key[:2] != ("a", 3)}
    (folder / "fail-a-3").unlink()
    assert run(folder, out, "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["measured"], tree["found"]) == (1, 11)
    assert values(out) == WHOLE


def test_a_killed_run_goes_on_where_it_was(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "slow").touch()
    code = "import sys; from pretune.study.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--folder", str(folder), "-o", str(out), "--engine", "serial", "-q"]
    process = subprocess.Popen([sys.executable, "-c", code, "run", "all", *options])
    lines = out / "toy.points.jsonl"
    end = time.monotonic() + 60.0
    while not (lines.is_file() and lines.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = lines.read_bytes().count(b"\n")
    assert 2 <= kept < 12
    with lines.open("ab") as file:
        file.write(b'{"point":{"ta')  # as if it had been killed within a line
    (folder / "slow").unlink()
    assert run(folder, out) == 0
    assert values(out) == WHOLE
    assert lines.read_bytes().count(b"\n") == 12


def test_shards_are_the_whole(folder, tmp_path, capsys):
    whole, parts, joined = tmp_path / "whole", [tmp_path / f"part{i}" for i in (1, 2, 3)], tmp_path / "joined"
    assert run(folder, whole) == 0
    assert [run(folder, part, "--shard", f"{i}/3") for i, part in enumerate(parts, start=1)] == [0, 0, 0]
    counts = [len(values(part)) for part in parts]
    assert sum(counts) == 24
    assert all(counts)
    assert main(["merge", *map(str, parts), "-o", str(joined)]) == 0
    assert main(["merge", str(parts[0]), "-o", str(joined), "-q"]) == 0  # twice is once
    assert capsys.readouterr().out == f"{joined}: 12 points\n"
    assert run(folder, joined, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"] == 0
    assert (joined / "toy.csv").read_bytes() == (whole / "toy.csv").read_bytes()
    assert len(Store(joined).manifest["sessions"]) == 3
    assert {shard_of("toy", point, 3) for point in grid(seed=range(40))} == {0, 1, 2}


def test_another_version_of_the_code_measures_again_unless_it_is_kept(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, out) == 0
    path = folder / "_help.py"
    path.write_text(path.read_text(encoding="utf-8").replace("x * x", "x + x"), encoding="utf-8")
    assert run(folder, out, "--keep", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["measured"] == 0
    assert "toy: 12 points are measured by another version of the code only; they count, as --keep says" in told.err
    assert main(["status", "--folder", str(folder), "-o", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["experiments"]
    assert (row["done"], row["other_versions"]) == (0, 12)
    fresh = [sys.executable, "-c", "import sys; from pretune.study.cli import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run(
        [*fresh, "run", "toy", "--folder", str(folder), "-o", str(out), "--engine", "serial"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "they are measured again (--keep lets them count)" in done.stderr
    assert values(out)["a", 3, 1] == 6.5
    assert len(read_csv(out / "toy.csv")) == 24


def test_again_measures_what_is_there(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, out, "--scale", "smoke") == 0
    assert run(folder, out, "--scale", "smoke", "--again", "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"] == 4
    assert len(read_csv(out / "toy.csv")) == 8


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_engines_give_the_same_table(engine, folder, tmp_path):
    pytest.importorskip("joblib" if engine == "processes" else "ray", reason=f"needs what engine {engine} is made of")
    assert run(folder, tmp_path / "serial", "--scale", "smoke") == 0
    assert run(folder, tmp_path / "other", "--scale", "smoke", "--jobs", "2", engine=engine) == 0
    assert (tmp_path / "other" / "toy.csv").read_bytes() == (tmp_path / "serial" / "toy.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "nix"], "NAME: holds 'nix', should hold one of toy"),
        (["run", "all", "--shard", "3/2"], "--shard: holds '3/2', should hold I/N with 1 <= I <= N, such as 2/4"),
        (["run", "all", "--shard", "x"], "--shard: holds 'x', should hold I/N with 1 <= I <= N, such as 2/4"),
        (
            ["run", "all", "--address", "auto"],
            "address: holds 'auto', should hold nothing: only the engine ray has one",
        ),
        (["run"], "Missing argument 'NAME...' (see pretune-experiments run --help)"),
        (["page"], "--results: holds"),
        (["page", "."], "DIR: holds '.', should hold a folder that pretune-experiments run has written"),
        (["list", "--folder", "nowhere"], "--folder: holds 'nowhere', should hold a folder of experiment files"),
    ],
)
def test_what_is_refused_in_one_line(arguments, line, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = [] if "--folder" in arguments or arguments == ["run"] else ["--folder", str(folder)]
    assert main([*arguments, *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"pretune: {line}")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n", "EXPERIMENT: holds None, should hold an Experiment"),
        ("import nothing_of_that_name\n", "can't be imported: ModuleNotFoundError: No module named"),
        ("from .toy import EXPERIMENT\n", "EXPERIMENT.name: holds 'toy', should hold the file's name, 'other'"),
    ],
)
def test_bad_files_are_one_line(text, line, folder, tmp_path, capsys):
    (folder / "other.py").write_text(text, encoding="utf-8")
    assert main(["list", "--folder", str(folder)]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_folders_are_not_mixed_up(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, out, "--scale", "smoke") == 0
    assert run(folder, out) == 2
    assert "should hold a full study; that one is of scale smoke" in capsys.readouterr().err
    with Store(out).alone():
        assert run(folder, out, "--scale", "smoke") == 2
    assert "a folder that no other run is at work in" in capsys.readouterr().err
    path = out / "toy.points.jsonl"
    path.write_text("rubbish\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(folder, out, "--scale", "smoke") == 2
    assert "toy.points.jsonl:1: is no line of a study" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    seen = []

    def tell(self, work, measured):
        seen.append(measured)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("pretune.study.show.Board.tell", tell)
    assert run(folder, out) == 130
    assert f"what is measured is kept, go on with: pretune-experiments run all -o {out}" in capsys.readouterr().err
    assert len(values(out)) == 6  # three points were written, and the table of them


def test_tables_come_back_as_they_were(tmp_path):
    rows = [{"a": 1, "b": 0.1, "c": "x,\n1", "d": True}, {"a": None, "b": 2.0, "c": "y", "d": False, "e": 3}]
    path = tmp_path / "t.csv"
    path.write_text(csv_text(Table(rows)), encoding="utf-8")
    found = read_csv(path)
    assert list(found.rows[0].values()) == [1, 0.1, "x,\n1", True, None]
    assert list(found.rows[1].values()) == [None, 2.0, "y", False, 3]
    assert [key for key, _ in found.groups("d")] == [(True,), (False,)]
    path.write_text("a,b\n1\n", encoding="utf-8")
    with pytest.raises(Exception, match="lines of different lengths"):
        read_csv(path)


def test_two_processes_make_a_cached_value_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from pretune.study.cache import cached\n"
        "def make():\n"
        "    Path(sys.argv[1], 'made').open('a').write('x'); time.sleep(0.3); return {'v': 1}\n"
        "assert cached(Path(sys.argv[1]), 'key', make) == {'v': 1}"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert (tmp_path / "made").read_text(encoding="utf-8") == "x"
    assert cached(tmp_path, "other", lambda: (1, 2)) == [1, 2]
    assert cached(None, "key", lambda: (3,)) == [3]
    for path in tmp_path.glob("*.json"):
        path.write_text("{torn", encoding="utf-8")
    assert cached(tmp_path, "key", lambda: 5) == 5
