"""Benchmarks are collected by `python benchmarks/run.py`; `--tiny` makes each of them a matter of a second."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tiny", action="store_true", help="small fleets and short searches: does it run at all?")


@pytest.fixture
def tiny(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--tiny"))
