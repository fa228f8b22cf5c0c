"""What a tracker holds after a run, read back with the tracker's own library; and runs whose tracker fails."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.errors import InputError, MissingExtra
from pretune.fieldbook import DeviceRound, FieldRound, Standing
from pretune.ledger import load_ledger
from pretune.runtime.run import run
from pretune.tracking import Tracking, follow, open_tracking
from pretune.tracking.rows import EVERY_ROUND

ROUNDS = (9, 5)
STEPS = list(range(sum(ROUNDS) + 1))


class Watched:
    """A run of the small task, told to a tracker; `stop` ends it by Ctrl-C after so many records."""

    def __init__(self, folder: Path, kind: str, uri: str | None) -> None:
        self.folder, self.kind, self.uri = folder, kind, uri
        self.said: list[str] = []
        self.scenario = small_scenario()
        self.plan = hand_plan(self.scenario, rounds=ROUNDS)

    def tracking(self) -> Tracking:
        return open_tracking(
            self.kind,
            self.uri,
            plan=self.plan,
            scenario=self.scenario,
            folder=self.folder,
            run={"seed": 0},
            warn=self.said.append,
        )

    def go(self, stop: int | None = None, tracking: Tracking | None = None) -> None:
        seen = 0

        def progress(record) -> None:
            nonlocal seen
            seen += 1
            tracked(record)
            if seen == stop:
                raise KeyboardInterrupt

        with tracking or self.tracking() as tracked:
            run(
                self.plan,
                self.scenario,
                out=self.folder,
                task=tiny_task(),
                checkpoint_every=4,
                checkpoint_s=1e9,
                evaluate_every=5,
                progress=progress,
            )
            tracked.finish()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


def from_mlflow(uri: str, folder: Path):
    """Status, parameters, steps and values of each figure, and artifacts, by MLflow's client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        (name,) = json.loads((folder / follow.NOTES).read_text()).values()
        found = client.get_run(name)
        figures = {key: client.get_metric_history(name, key) for key in found.data.metrics}
        kept = {item.path for item in client.list_artifacts(name)}
        plan = Path(client.download_artifacts(name, "plan.json")).read_text() if "plan.json" in kept else ""
    points = {key: [(each.step, each.value) for each in history] for key, history in figures.items()}
    return found.info.status, found.data.params, points, kept, plan


def from_tensorboard(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, list[str]]]:
    """Steps and values of each figure, and the texts, by TensorBoard's reader."""
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    points = {key: [(each.step, each.value) for each in events.Scalars(key)] for key in tags["scalars"]}
    texts = {
        key.removesuffix("/text_summary"): [each.tensor_proto.string_val[0].decode() for each in events.Tensors(key)]
        for key in tags["tensors"]
    }
    return points, texts


def check_points(points: dict[str, list[tuple[int, float]]], folder: Path) -> None:
    """Every round once, in order, with the ledger's figures."""
    ledger = load_ledger(folder)
    assert [step for step, _ in points[EVERY_ROUND]] == STEPS
    for key, column in (("total/realised_j", "elapsed_j"), ("round/planned_s", "planned_s")):
        assert [value for _, value in points[key]] == pytest.approx(ledger.column(column).tolist())
    assert [value for _, value in points["total/planned_j"]] == pytest.approx(
        ledger.column("planned_j").cumsum().tolist()
    )
    assert [step for step, _ in points["train/loss"]] == STEPS[1:]
    tested = [(i, record.test_accuracy) for i, record in enumerate(ledger) if record.test_accuracy is not None]
    assert [step for step, _ in points["test/accuracy"]] == [step for step, _ in tested]
    assert [value for _, value in points["test/accuracy"]] == pytest.approx([value for _, value in tested])


def test_mlflow_holds_parameters_rounds_and_files(tmp_path: Path, database: str) -> None:
    watched = Watched(tmp_path / "run", "mlflow", database)
    watched.go()
    status, parameters, points, kept, plan = from_mlflow(database, watched.folder)
    assert watched.said == []
    assert status == "FINISHED"
    assert parameters["plan.pretrain.rounds"] == "9"
    assert parameters["scenario.sha256"] == watched.scenario.sha256
    assert parameters["run.seed"] == "0"
    check_points(points, watched.folder)
    assert kept == {"plan.json", "scenario.json", "ledger.jsonl", "summary.json"}
    assert plan == (watched.folder / "plan.json").read_text()


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path: Path, database: str) -> None:
    watched = Watched(tmp_path / "run", "mlflow", database)
    with pytest.raises(KeyboardInterrupt):
        watched.go(stop=7)
    assert from_mlflow(database, watched.folder)[0] == "KILLED"
    watched.go()
    status, _, points, _, _ = from_mlflow(database, watched.folder)
    assert status == "FINISHED"
    check_points(points, watched.folder)
    watched.go()  # a run that has ended already
    check_points(from_mlflow(database, watched.folder)[2], watched.folder)


@pytest.mark.parametrize("stops", [(), (3,), (7, 4), (15,)])
def test_tensorboard_holds_each_round_once(tmp_path: Path, stops: tuple[int, ...]) -> None:
    pytest.importorskip("tensorboard")
    watched = Watched(tmp_path / "run", "tensorboard", str(tmp_path / "boards"))
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            watched.go(stop=stop)
    watched.go()
    points, texts = from_tensorboard(tmp_path / "boards" / "run")
    assert watched.said == []
    check_points(points, watched.folder)
    assert "| plan.finetune.rounds | 5 |" in texts["parameters"][0]
    assert str(watched.folder / "plan.json") in texts["files"][0]
    assert texts["status"][-1] == "finished"


def test_what_was_not_sent_before_a_kill_is_sent_after_it(tmp_path: Path) -> None:
    """Killed with nothing sent: the tracker learns those rounds from the ledger."""
    pytest.importorskip("tensorboard")
    watched = Watched(tmp_path / "run", "tensorboard", None)
    killed = watched.tracking()
    killed._leave = lambda status: None  # as SIGKILL would: what is held back is lost
    with pytest.raises(KeyboardInterrupt):
        watched.go(stop=7, tracking=killed)
    watched.go()
    points, _ = from_tensorboard(watched.folder / "tensorboard")
    check_points(points, watched.folder)


def test_runs_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for parent in ("a", "b"):
        Watched(tmp_path / parent / "run", "tensorboard", str(tmp_path / "boards")).go()
    assert sorted(path.name for path in (tmp_path / "boards").iterdir()) == ["run", "run-2"]


def test_a_federation_s_clock_readings_are_written_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    watched = Watched(tmp_path / "run", "tensorboard", None)
    tracking = watched.tracking()
    device = {"planned_compute_s": 1.0, "planned_upload_s": 1.0, "planned_j": 1.0}
    lines = [
        FieldRound(
            round=n,
            began_s=0.0,
            planned_s=2.0,
            planned_broadcast_s=0.1,
            measured_s=2.0 + n,
            devices=(
                DeviceRound(name="a", standing=Standing.OK, compute_j=1.5, upload_j=0.5, **device),
                DeviceRound(name="b", standing=Standing.LATE, **device),
            ),
        )
        for n in range(1, 6)
    ]
    with pytest.raises(KeyboardInterrupt):
        watched.go(stop=2, tracking=tracking)
    (watched.folder / "measured.jsonl").write_text("".join(line.to_json() + "\n" for line in lines))
    watched.go()
    watched.go()
    points, _ = from_tensorboard(watched.folder / "tensorboard")
    assert points["measured/round_s"] == [(9 + n, 2.0 + n) for n in range(1, 6)]
    assert points["measured/joules"][0] == (10, 2.0)
    assert points["measured/answered"][0] == (10, 1.0)


class Failing:
    """A tracker that fails at a moment."""

    def __init__(self, moment: str) -> None:
        self.moment, self.calls = moment, []

    def _at(self, moment: str) -> None:
        self.calls.append(moment)
        if moment == self.moment:
            raise OSError("https://me:secret@tracker: no\nroute to host")

    def open(self, run, title, parameters) -> str:
        self._at("open")
        return "x"

    def last_step(self, key) -> int:
        self._at("last_step")
        return -1

    def write(self, rows) -> None:
        self._at("write")

    def keep(self, files) -> None:
        self._at("keep")

    def close(self, status) -> None:
        self._at("close")


@pytest.mark.parametrize("moment", ["open", "last_step", "write", "keep", "close"])
def test_a_failing_tracker_loses_no_run(tmp_path: Path, moment: str) -> None:
    watched = Watched(tmp_path / "run", "mlflow", None)
    sink = Failing(moment)
    tracking = Tracking(
        "mlflow",
        "https://me:secret@tracker",
        sink,
        plan=watched.plan,
        scenario=watched.scenario,
        folder=watched.folder,
        run={},
        warn=watched.said.append,
    )
    watched.go(tracking=tracking)
    assert len(load_ledger(watched.folder)) == len(STEPS)
    assert watched.said == ["warning: tracking with mlflow stopped (OSError: https://***@tracker: no); the run goes on"]
    assert sink.calls.count(moment) == 1  # it is left alone afterwards
    notes = watched.folder / follow.NOTES
    assert not notes.exists() or "secret" not in notes.read_text()


def test_what_can_t_be_tracked_is_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--track: holds 'wandb', should hold one of mlflow, tensorboard"):
        Watched(tmp_path, "wandb", None).tracking()
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    monkeypatch.setitem(__import__("sys").modules, "mlflow.entities", None)
    with pytest.raises(MissingExtra, match=r"pretune\[mlflow\]"):
        Watched(tmp_path, "mlflow", None).tracking()
