"""Solver processes: what nobody waits for stops, what dies is replaced, and there is an end to waiting."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from studio_server import Studio

from pretune.studio.answers import Refused
from pretune.studio.requests import ParetoRequest, PlanRequest, ScenarioRequest, Target
from pretune.studio.settings import Limits, Settings
from pretune.studio.solvers import Solvers, Work
from pretune.studio.store import Store
from pretune.studio.work import Desk, fronts, read_scenario, solve


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(settings=Settings(folder=tmp_path))


def solver_processes() -> list[BaseProcess]:
    """This process's solvers; it may have other children, left by libraries that other tests use."""
    return [child for child in multiprocessing.active_children() if child.name.startswith("pretune-solver")]


def test_a_front_that_nobody_waits_for_stops_after_a_point(desk: Desk) -> None:
    key = str(read_scenario(desk, ScenarioRequest(example="digits")).model_dump()["scenario_id"])
    looks: Iterator[bool] = iter([False, True])
    desk.stopped = lambda: next(looks)
    with pytest.raises(Refused) as caught:
        fronts(desk, ParetoRequest(scenario_id=key, points=60))
    assert caught.value.status == 499
    assert next(looks, None) is None


def test_a_front_that_takes_too_long_ends_after_a_point(desk: Desk) -> None:
    key = str(read_scenario(desk, ScenarioRequest(example="digits")).model_dump()["scenario_id"])
    desk.end = -1.0
    with pytest.raises(Refused) as caught:
        fronts(desk, ParetoRequest(scenario_id=key, points=60))
    assert (caught.value.status, caught.value.field) == (422, "time_limit")


class SecondThought(threading.Event):
    """Set from the second look on: once the work has begun."""

    looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_a_solver_that_is_told_to_stop_does_and_serves_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped while it is at work: the process goes on to other work, and is not replaced."""
    monkeypatch.setattr("pretune.studio.solvers.GRACE_S", 300.0)  # however busy the machine is
    solvers = Solvers(Settings(folder=tmp_path, solvers=1))
    try:
        asyncio.run(solvers.ask("scenario", ScenarioRequest(example="campus"), slow=True))
        before = {child.pid for child in solver_processes()}
        key = next((tmp_path / ".studio" / "scenarios").glob("*.json")).stem
        request = ParetoRequest(scenario_id=key, points=60, tolerance=1e-5)
        work = Work(kind="pareto", request=request, seconds=300.0, dropped=SecondThought())
        with pytest.raises(Refused) as caught:
            solvers._slow.submit(solvers._do, work).result()
        assert caught.value.status == 499
        asyncio.run(solvers.ask("scenario", ScenarioRequest(example="digits"), slow=True))
        assert {child.pid for child in solver_processes()} == before
    finally:
        solvers.close()


def test_a_solver_that_died_is_replaced(studio: Studio) -> None:
    key = studio.example("digits")
    children = solver_processes()
    assert children
    for child in children:
        child.kill()
        child.join()
    assert studio.post("/plan", {"scenario_id": key}).status_code == 200


def test_no_more_wait_than_allowed(tmp_path: Path) -> None:
    solvers = Solvers(Settings(folder=tmp_path, limits=Limits(waiting=0)))
    with pytest.raises(Refused) as caught:
        asyncio.run(solvers.ask("plan", PlanRequest()))
    assert caught.value.status == 429
    assert threading.active_count() < 50


def test_a_scenario_outlives_its_solver(desk: Desk) -> None:
    """Another process knows it by its id: scenarios are on disk, with the defaults they took."""
    found = read_scenario(desk, ScenarioRequest(example="digits")).model_dump()
    other = Desk(settings=desk.settings)
    again = read_scenario(other, ScenarioRequest(scenario_id=found["scenario_id"])).model_dump()
    assert again["sha256"] == found["sha256"]
    assert found["defaults"]
    assert other.find(Target(scenario_id=found["scenario_id"]))[0].defaults == tuple(found["defaults"])


def test_dragging_begins_where_the_last_plan_was(desk: Desk) -> None:
    key = str(read_scenario(desk, ScenarioRequest(example="digits")).model_dump()["scenario_id"])
    first = solve(desk, PlanRequest(scenario_id=key)).model_dump()
    assert desk.kept[key].rounds == (first["pretrain"]["rounds"], first["finetune"]["rounds"])
    tight = solve(desk, PlanRequest(scenario_id=key, delay_s=1e-7)).model_dump()
    assert tight["status"] == "infeasible"
    assert desk.kept[key].rounds == (first["pretrain"]["rounds"], first["finetune"]["rounds"])


def test_only_so_many_scenarios_are_kept(tmp_path: Path) -> None:
    store = Store(folder=tmp_path, most=3)
    keys = [store.save({"name": str(k)}, ()) for k in range(5)]
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert store.load(keys[-1]) == ({"name": "4"}, ())
    for bad in (keys[0], "../" + keys[-1], keys[-1].upper() + "x", ""):
        with pytest.raises(Refused) as caught:
            store.load(bad)
        assert caught.value.status == 404
