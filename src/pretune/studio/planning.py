"""The routes that compute: scenarios, plans, checks, comparisons, fronts."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

from fastapi import APIRouter, Request, Response

from pretune.studio import requests as asked
from pretune.studio import responses as told
from pretune.studio.answers import Refused
from pretune.studio.examples import TITLES, example_tree
from pretune.studio.settings import Settings
from pretune.studio.solvers import Solvers
from pretune.version import __version__

_LOOK_S = 0.1
_SAID = {
    400: "The body is no JSON.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site.",
    404: "There is no such scenario or run.",
    408: "The body took too long.",
    409: "Not in this state of the run.",
    413: "The body is too long.",
    415: "The body is no JSON.",
    422: "Bad input: one line that names the field.",
    429: "Too many requests at a time.",
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    return {code: {"model": told.Refusal, "description": _SAID[code]} for code in codes}


BODY = refusals(400, 401, 403, 404, 408, 413, 415, 422, 429)


def planning_routes(settings: Settings, solvers: Solvers) -> APIRouter:
    """The router; its answers are made by the solvers, as JSON already."""
    routes = APIRouter(tags=["planning"])

    async def solved(kind: str, body: Any, request: Request, *, slow: bool = False, file: str = "") -> Response:
        """The solvers' answer, unless the one who asked goes away before it is there."""
        work = asyncio.ensure_future(solvers.ask(kind, body, slow=slow))
        while not work.done():
            await asyncio.wait({work}, timeout=_LOOK_S)
            if not work.done() and await request.is_disconnected():
                work.cancel()
                raise Refused(499, "stopped: nobody waits for the answer any more")
        headers = {"content-disposition": f'attachment; filename="{file}"'} if file else None
        return Response(work.result(), media_type="application/json", headers=headers)

    @routes.post("/scenario", response_model=told.ScenarioAnswer, responses=BODY)
    async def scenario(body: asked.ScenarioRequest, request: Request) -> Response:
        """Read a scenario (text, tree, example, or a known one with changes) and keep it under an id."""
        return await solved("scenario", body, request)

    @routes.post("/scenario/file", response_model=dict[str, Any], responses=BODY)
    async def scenario_file(body: asked.Target, request: Request) -> Response:
        """The scenario file (JSON, SI), with the budgets that are given."""
        return await solved("scenario-file", body, request, file="scenario.json")

    @routes.post("/plan", response_model=told.PlanAnswer, responses=BODY)
    async def plan(body: asked.PlanRequest, request: Request) -> Response:
        """Plan within the budgets; an infeasible scenario is an answer, too, and says what would do."""
        return await solved("plan", body, request)

    @routes.post("/plan/file", response_model=dict[str, Any], responses=BODY)
    async def plan_file(body: asked.PlanFileRequest, request: Request) -> Response:
        """The plan file that `pretune run` takes, with the scenario file of the same budgets."""
        return await solved("plan-file", body, request, slow=True, file="plan.json")

    @routes.post("/check", response_model=told.CheckAnswer, responses=BODY)
    async def check(body: asked.CheckRequest, request: Request) -> Response:
        """Recompute every claim of a plan without the solver."""
        return await solved("check", body, request, slow=True)

    @routes.post("/compare", response_model=told.CompareAnswer, responses=BODY)
    async def compare(body: asked.CompareRequest, request: Request) -> Response:
        """The joint plan beside the baselines; ends when the connection does."""
        return await solved("compare", body, request, slow=True)

    @routes.post("/pareto", response_model=told.ParetoAnswer, responses=BODY)
    async def pareto(body: asked.ParetoRequest, request: Request) -> Response:
        """The energy-delay-objective fronts; ends when the connection does."""
        return await solved("pareto", body, request, slow=True)

    @routes.get("/examples", responses=refusals(401, 403))
    def examples() -> told.Examples:
        """The scenarios that come with the studio."""
        return told.Examples(examples=[_example(name) for name in TITLES])

    @routes.get("/status", responses=refusals(401, 403))
    def status() -> told.StatusAnswer:
        """Whether the studio is ready, and what it allows."""
        limits = {key: float(value) for key, value in vars(settings.limits).items()}
        return told.StatusAnswer(
            version=__version__,
            ready=solvers.ready.is_set(),
            first=settings.first,
            can_run=find_spec("torch") is not None,
            task_files=[path.name for path in settings.task_files],
            limits=limits,
        )

    return routes


def _example(name: str) -> told.ExampleInfo:
    tree = example_tree(name)
    devices = tree["devices"]
    title, description = TITLES[name]
    return told.ExampleInfo(
        name=name,
        title=title,
        description=description,
        devices=len(devices) if isinstance(devices, list) else int(devices["count"]),
        can_run="task" in tree,
    )
