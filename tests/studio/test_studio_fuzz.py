"""The API against its own description: schemathesis makes requests from it, good ones and bad ones.

No answer may be a server error; each must have a status, a type and a body that the description knows, and what the
description forbids must be refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from studio_server import API, Limits, Settings, Studio, serving

pytest.importorskip("schemathesis")
import schemathesis
from schemathesis.checks import positive_data_acceptance

from pretune.studio.app import create_app
from sample_run import folder as made_run

EXAMPLES = int(os.environ.get("PRETUNE_FUZZ_EXAMPLES", "5"))
"""For each operation; a long fuzz by hand takes thousands."""
RUN = "made-by-hand"
_ID = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with a run to ask for, and no room for further ones."""
    runs = tmp_path_factory.mktemp("fuzzed")
    made_run(runs / RUN)
    with serving(runs, limits=Limits(jobs=0, solve_s=3.0, devices=200)) as studio:
        yield studio


@pytest.fixture(scope="module")
def known(fuzzed: Studio) -> str:
    return fuzzed.example("digits")


api = schemathesis.openapi.from_dict(create_app(Settings(folder=Path())).openapi())
# the cases that schemathesis works out itself are most of the time: by hand only
api.config.phases.coverage.enabled = "PRETUNE_FUZZ_EXAMPLES" in os.environ


@api.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_keeps_to_its_description(case: Any, fuzzed: Studio, known: str) -> None:
    if isinstance(case.body, dict) and _ID.fullmatch(str(case.body.get("scenario_id"))):
        case.body["scenario_id"] = known  # else all that is asked for is unknown
    if "run_id" in (case.path_parameters or {}) and len(str(case.path_parameters["run_id"])) % 2:
        case.path_parameters["run_id"] = RUN
    case.call_and_validate(base_url=fuzzed.url, timeout=600, excluded_checks=[positive_data_acceptance])
    assert API in case.operation.path
