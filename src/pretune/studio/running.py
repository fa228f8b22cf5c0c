"""The routes of runs and calibrations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from pretune.errors import InputError
from pretune.report import script_hash
from pretune.studio import requests as asked
from pretune.studio.answers import Refused
from pretune.studio.describe_run import compared, detail, info, result
from pretune.studio.follow import events
from pretune.studio.jobs import Jobs
from pretune.studio.planning import BODY, refusals
from pretune.studio.responses import ScenarioAnswer
from pretune.studio.run_models import RunInfo, RunResult, Runs, RunsCompared
from pretune.studio.settings import Settings
from pretune.studio.solvers import Solvers

RunKey = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="A run's id.")]
OtherKey = Annotated[str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="A run's id.")]
ONE = refusals(401, 403, 404, 422)
_EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Records so far."},
        "event": {"enum": ["records", "replans", "status", "reset", "end"]},
        "data": {
            "type": "string",
            "description": "JSON: a `Series`, `Replans`, a `RunInfo`, nothing, or the last status.",
        },
    },
}
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)


def running_routes(settings: Settings, solvers: Solvers, jobs: Jobs) -> APIRouter:
    """The router; what it says of a run is read from the run's folder each time."""
    routes = APIRouter(tags=["runs"])
    following = {"now": 0}

    async def _begun(kind: str, body: asked.Target, words: list[str], record: dict[str, Any]) -> RunInfo:
        if find_spec("torch") is None:
            message = "PyTorch is not installed; install it with: pip install 'pretune[train]'"
            raise Refused(422, message, "extra")
        scenario = json.loads(await solvers.ask("scenario-file", asked.Target(**_target(body))))
        if scenario.get("task") is None:
            message = "task: is missing; to run, a scenario needs a model and data, for example task: {name: digits}"
            raise Refused(422, message, "task")
        known = {"name": scenario["name"], "budget": scenario["budget"], "scenario_id": body.scenario_id}
        job = await asyncio.to_thread(jobs.start, kind, scenario, {**known, **record}, words)
        return await asyncio.to_thread(info, job)

    @routes.post("/runs", status_code=201, response_model=RunInfo, responses=BODY)
    async def start(body: asked.RunRequest) -> RunInfo:
        """Plan the scenario and carry the plan out, in a process of its own."""
        words = ["--seed", str(body.seed), "--tolerance", repr(body.tolerance), "--aggregation", body.aggregation]
        record: dict[str, Any] = {"seed": body.seed}
        steering = {"control": body.control, "replan": body.replan, "outage": body.outage}
        if body.replan != "off" and body.control == "none":
            should = "rounds where replan is not off: a new plan takes every round's clocks and powers to be chosen"
            raise InputError.field("control", body.control, should)
        if body.control != "none" or body.outage > 0.0:
            words += ["--control", body.control, "--replan", body.replan, "--outage", repr(body.outage)]
            record["steering"] = steering
        return await _begun("run", body, words, record)

    @routes.post("/calibrate", status_code=201, response_model=RunInfo, responses=BODY)
    async def calibrate(body: asked.CalibrateRequest) -> RunInfo:
        """Measure the convergence constants, in a process of its own; its result is a scenario."""
        words = [
            *("--samples", str(body.samples), "--seconds", repr(body.seconds)),
            *("--repetitions", str(body.repetitions), "--seed", str(body.seed)),
            *["--overwrite"] * body.overwrite,
        ]
        return await _begun("calibration", body, words, {"seed": body.seed})

    @routes.get("/runs", responses=refusals(401, 403))
    def runs() -> Runs:
        """The runs and calibrations in the studio's folder, the newest first."""
        return Runs(runs=[info(job) for job in jobs.all()])

    @routes.get("/runs/compare", responses=refusals(401, 403, 404, 409, 422))
    def compare(a: OtherKey, b: OtherKey) -> RunsCompared:
        """Two runs side by side."""
        return compared(result(jobs.find(a)), result(jobs.find(b)))

    @routes.get("/runs/{run_id}", responses=ONE)
    def status(run_id: RunKey) -> RunInfo:
        """How far a run is."""
        return detail(jobs.find(run_id))

    @routes.get("/runs/{run_id}/result", responses=refusals(401, 403, 404, 409, 422, 429))
    async def run_result(run_id: RunKey) -> RunResult:
        """What a run came to, so far: totals, the course of loss and cost, the summary."""
        job = jobs.find(run_id)
        found = await asyncio.to_thread(result, job)
        if job.kind == "calibration":
            tree = json.loads(await asyncio.to_thread((job.own / "calibrated.json").read_text, "utf-8"))
            kept = await solvers.ask("scenario", asked.ScenarioRequest(scenario=tree))
            found.scenario_id = ScenarioAnswer.model_validate_json(kept).scenario_id
        return found

    @routes.get(
        "/runs/{run_id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": _EVENT}}}} | ONE | refusals(429),
    )
    async def follow(
        run_id: RunKey, request: Request, last_event_id: Annotated[int, Header(ge=0, le=2**53)] = 0
    ) -> Response:
        """Server-sent events, from `records` to `end`; an event's id is the number of records so far."""
        jobs.find(run_id)
        if following["now"] >= settings.limits.streams:
            raise Refused(429, "events: too many runs are followed at a time; close a page", "events")

        async def stream() -> AsyncIterator[bytes]:
            following["now"] += 1
            try:
                async for event in events(lambda: jobs.find(run_id), last_event_id, request.is_disconnected):
                    yield event
            except Refused:  # its folder was removed
                return
            finally:
                following["now"] -= 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    @routes.post("/runs/{run_id}/cancel", status_code=202, responses=BODY | refusals(409))
    def cancel(run_id: RunKey) -> RunInfo:
        """What Ctrl-C does: the run ends after the round it is in, and can go on later."""
        job = jobs.find(run_id)
        jobs.cancel(job)
        return info(job)

    @routes.post("/runs/{run_id}/resume", status_code=202, responses=BODY | refusals(409))
    def resume(run_id: RunKey) -> RunInfo:
        """Go on with a run that was interrupted."""
        return info(jobs.resume(jobs.find(run_id)))

    @routes.get(
        "/runs/{run_id}/report",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}} | ONE | refusals(409, 429),
    )
    async def report(run_id: RunKey) -> Response:
        """The report, one HTML file that opens offline, of a run that has begun."""
        job = jobs.find(run_id)
        if job.kind == "calibration" or not (job.folder / "ledger.jsonl").is_file():
            raise Refused(409, "run: has no report yet", "id")
        page = await solvers.ask("report", str(job.folder))
        policy = f"{_REPORT_POLICY}; script-src '{script_hash()}'"
        headers = {"content-security-policy": policy, "content-disposition": f'inline; filename="{run_id}.html"'}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    return routes


def _target(body: asked.Target) -> dict[str, Any]:
    return {key: getattr(body, key) for key in asked.Target.model_fields}
