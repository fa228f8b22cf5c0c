"""The application: guard, API, page. `create_app` is all that others use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.staticfiles import StaticFiles

from pretune.errors import PretuneError
from pretune.report import page_style
from pretune.studio.answers import Refused, refusal_of
from pretune.studio.guard import COOKIE, Guard, Keys
from pretune.studio.jobs import Jobs
from pretune.studio.planning import planning_routes
from pretune.studio.running import running_routes
from pretune.studio.settings import Settings
from pretune.studio.solvers import Solvers
from pretune.version import __version__

PREFIX = "/api/v1"


def create_app(settings: Settings, keys: Keys | None = None) -> FastAPI:
    """The studio of some settings; its solvers start with it and end with it."""
    keys = Keys(settings.token) if keys is None else keys
    solvers = Solvers(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        solvers.warm()
        yield
        solvers.close()

    app = FastAPI(
        title="pretune studio",
        version=__version__,
        description="Plans, fronts, comparisons and runs of two-stage edge learning. Errors are one line.",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        lifespan=lifespan,
    )
    app.include_router(planning_routes(settings, solvers), prefix=PREFIX)
    app.include_router(running_routes(settings, solvers, Jobs(settings=settings)), prefix=PREFIX)
    _pages(app, keys)
    _errors(app)
    app.add_middleware(Guard, settings=settings, keys=keys)
    return app


def _pages(app: FastAPI, keys: Keys) -> None:
    folder = Path(str(resources.files("pretune.studio"))) / "static"

    @app.get("/static/page.css", include_in_schema=False)
    def style() -> Response:
        """The report's style sheet, which the page builds on."""
        return Response(page_style(), media_type="text/css; charset=utf-8")

    app.mount("/static", StaticFiles(directory=folder), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return Response((folder / "index.html").read_bytes(), media_type="text/html; charset=utf-8")

    @app.get("/login", include_in_schema=False)
    def login(code: str = "") -> Response:
        """The link that the terminal shows: works once, leaves a cookie, goes on to the page without the code."""
        if len(code) > 100 or not keys.spend(code):
            raise Refused(401, "code: was used already, or is too old; the terminal shows how to get in", "code")
        return _welcome(keys, Response(status_code=303, headers={"location": "/"}))

    @app.post("/login", include_in_schema=False)
    def login_with_token(request: Request) -> Response:
        """With the token as a bearer: leaves the cookie, for a page that asks for the token."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if keys.needed and not (kind.lower() == "bearer" and keys.opens(token.strip())):
            raise Refused(401, "authorization: is missing or wrong", "authorization")
        return _welcome(keys, Response(status_code=204))


def _welcome(keys: Keys, response: Response) -> Response:
    if keys.needed:
        response.set_cookie(COOKIE, keys.cookie, httponly=True, samesite="strict", path="/", max_age=30 * 86400)
    return response


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
        return Response(error.body, status_code=error.status, media_type="application/json", headers=headers)

    @app.exception_handler(PretuneError)
    async def known(_: Request, error: PretuneError) -> Response:
        found = refusal_of(error)
        return Response(found.body, status_code=found.status, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        found = Refused(error.status_code, str(error.detail).lower())
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return Response(found.body, status_code=error.status_code, media_type="application/json", headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        lines = [_line(one) for one in error.errors()[:20]]
        found = Refused(422, lines[0], lines[0].partition(": ")[0], lines if len(lines) > 1 else ())
        return Response(found.body, status_code=422, media_type="application/json")

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> Response:
        body = {"error": {"field": "", "message": f"internal error: {type(error).__name__}", "problems": []}}
        return JSONResponse(body, status_code=500)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """All methods of a path: the framework names those of the first route alone."""
    found: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found)


def _line(error: Any) -> str:
    """One line for one bad field of a body or a query."""
    steps = [step for step in error["loc"][1:] if not str(step).startswith(("function-", "constrained-"))]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
    said = str(error["msg"])
    return " ".join(f"{path[:200] or error['loc'][0]}: {said[:1].lower()}{said[1:]}".split())
