"""The studio's page for everybody: keyboard alone, screen readers (axe), narrow screens, the token, the same words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_browser import SHOWN, browser, studio, why_not

import sample_run
from pretune.report import render, words

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
TOKEN = "a-token-of-thirty-characters-xx"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio behind a token: what it takes to get in is part of what is tested."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    with studio(folder / "runs", "--token-file", str(folder / "token")) as found:
        yield found.partition("login?")[0]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def keys(chrome: Any, address: str) -> Any:
    """What a browser keeps after it was asked for the token and got it right the second time."""
    context = chrome.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector("dialog.token")
    page.fill("#token", "wrong-but-long-enough-to-be-one")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('dialog.token .bad').textContent !== ''")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(SHOWN)
    state = context.storage_state()
    context.close()
    return state


def opened(chrome: Any, address: str, keys: Any, **how: Any) -> Any:
    page = chrome.new_context(storage_state=keys, **how).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector(SHOWN)
    return page


def test_the_keyboard_reaches_everything(chrome: Any, address: str, keys: Any) -> None:
    page = opened(chrome, address, keys, viewport={"width": 1280, "height": 900})
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    reached, invisible = set(), []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outlined = page.evaluate(
            "() => { const one = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(one);"
            " return [one === document.body ? '' : one.id || one.textContent.trim(),"
            " outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2]; }"
        )
        if not name:  # past the last one, and round again
            continue
        reached.add(name)
        if not outlined:
            invisible.append(name)
    wanted = {"nav-plan", "nav-runs", "energy", "energy-text", "delay", "delay-text", "reset", "example", "open-file"}
    wanted |= {"open-paste", "open-fleet", "tab-fields", "start-run", "save-plan", "save-scenario", "device-filter"}
    wanted |= {"device-binds", "device-scroll", "Clock"}
    assert wanted <= reached
    assert invisible == []
    before = page.get_attribute("#results", "data-shown")
    page.focus("#energy")
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.wait_for_function("(before) => document.getElementById('results').dataset.shown !== before", arg=before)
    page.locator("#device-heads button", has_text="Batch").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#device-heads [aria-sort=ascending]")
    page.focus("#tab-fields")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.id") == "tab-text"
    assert page.locator("#panel-text").is_visible()
    page.focus("#open-paste")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("() => document.activeElement.id") == "open-paste"
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious(chrome: Any, address: str, keys: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra browser)")
    size = {"width": width, "height": 900}
    page = opened(chrome, address, keys, viewport=size, color_scheme=scheme, bypass_csp=True)
    page.wait_for_selector("#compare tr.best")
    page.wait_for_selector("#front svg >> nth=1")
    found = []

    def look(where: str) -> None:
        result = axe.Axe().run(page).response
        found.extend(
            (where, one["impact"], one["id"], [node["html"][:150] for node in one["nodes"]])
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
        )

    for group in page.locator("#panel-fields summary").all():
        group.click()
    look("plan")
    page.click("#open-fleet")
    page.fill("dialog textarea", "name,gain\na,1e-9\n")
    look("dialog")
    page.keyboard.press("Escape")
    page.select_option("#example", "tight")
    page.wait_for_selector("#infeasible", state="visible")
    look("infeasible")
    page.goto(address + "#/runs")
    page.wait_for_selector("#run-list")
    look("runs")
    assert found == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_report(chrome: Any, tmp_path: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra browser)")
    report = tmp_path / "report.html"
    report.write_text(render(sample_run.folder(tmp_path / "run")), encoding="utf-8")
    page = chrome.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True).new_page()
    page.goto(report.as_uri())
    found = [
        one["id"] for one in axe.Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")
    ]
    assert found == []
    page.context.close()


def test_a_narrow_screen_scrolls_one_way(chrome: Any, address: str, keys: Any) -> None:
    page = opened(chrome, address, keys, viewport={"width": 390, "height": 844})
    page.wait_for_selector("#compare tr.best")
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    assert page.locator("#energy").bounding_box()["width"] > 200
    page.goto(address + "#/runs")
    page.wait_for_selector("#run-list")
    assert page.evaluate(wide) == 0
    page.context.close()


def test_nothing_moves_for_those_who_asked_for_it(chrome: Any, address: str, keys: Any) -> None:
    page = opened(chrome, address, keys, reduced_motion="reduce")
    moving = (
        "() => [...document.querySelectorAll('*')]"
        ".filter((one) => getComputedStyle(one, '::before').animationName !== 'none').length"
    )
    assert page.evaluate(moving) == 0
    page.context.close()


def test_the_page_writes_numbers_as_the_terminal_does(chrome: Any, address: str, keys: Any) -> None:
    page = opened(chrome, address, keys)
    values = [
        0.0,
        1.0,
        0.5,
        999.96,
        1999.9,
        0.0123,
        3e-12,
        9.1e8,
        1.5e9,
        123456.0,
        1e-7,
        59.94,
        119.96,
        90.0,
        599.8,
        7261.0,
    ]
    values += [3e5, 5e13, 0.9999999, 2.0 / 3.0, 35.0, 1e-4, 12345678.0, sys.float_info.epsilon]
    kinds = ["joules", "seconds", "significant", "percent", "gap"]
    written = page.evaluate(
        "async ([values, kinds]) => { const words = await import('/static/words.js');"
        " return values.map((value) => kinds.map((kind) => words[kind](value))); }",
        [values, kinds],
    )
    for value, shown in zip(values, written, strict=True):
        wanted = [
            words.joules(value),
            words.seconds(value),
            words.significant(value),
            words.percent(value),
            words.gap(value),
        ]
        assert [text.replace("\u00a0", " ") for text in shown] == wanted, value
    page.context.close()
