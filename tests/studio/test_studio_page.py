"""The studio's page in a real browser: load, drag, explain, export, run, reload."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_browser import SHOWN, browser, studio, why_not

import pretune
from pretune.cli import main
from pretune.report import words
from pretune.scenario import load_scenario
from sample_run import tree as made_tree

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"
SLOW_MS = 120_000
MANY = """async () => {
  const { DeviceTable } = await import('/static/devices.js');
  const n = 10000, of = (f) => Array.from({ length: n }, (_, i) => f(i)), ones = of(() => 1);
  const mixed = (i) => (i * 7919) % n;
  window.table = new DeviceTable();
  window.table.show({ name: of((i) => `node-${i}`), batch: of((i) => mixed(i) + 1), clock_hz: of((i) => 1e9 + i),
    power_w: of((i) => mixed(i) / 1e5), bandwidth_hz: ones, compute_s: ones, upload_s: ones, slack_s: ones,
    round_j: ones, total_j: ones, binds: of((i) => (i % 2 ? ['power'] : [])) });
}"""
PRECISE = '#results[data-tolerance="0.0001"]'


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("studio") / "runs"
    with studio(folder) as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chrome: Any, address: str) -> Iterator[Any]:
    """The page with the first example planned; what the browser complains of fails the test."""
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    found.set_default_timeout(SLOW_MS)
    complaints: list[str] = []
    found.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.goto(address)
    found.wait_for_selector(SHOWN)
    yield found
    context.close()
    # a refusal is an answer, which the page shows; the browser lists it all the same
    assert [line for line in complaints if "status of 422" not in line] == []


def budgets(page: Any) -> tuple[float, float]:
    energy, delay = page.get_attribute("#results", "data-shown").split(" ")
    return float(energy), float(delay)


def settled(page: Any, *, after: tuple[float, float] | None = None) -> tuple[float, float]:
    """The budgets on the screen once a precise plan is there, other ones than `after`."""
    told = "" if after is None else f"{after[0]!r} {after[1]!r}"
    page.wait_for_function(
        "(told) => { const { shown, tolerance } = document.getElementById('results').dataset;"
        " return tolerance === '0.0001' && shown && shown.split(' ').map(Number).join() !== told; }",
        arg=",".join(f"{float(value):.17g}".rstrip("0").rstrip(".") for value in told.split(" ")) if told else "",
    )
    return budgets(page)


def fact(page: Any, name: str) -> str:
    return page.locator("#facts > div", has_text=name).locator("dd").inner_text()


def test_it_shows_the_plan_of_the_first_example(page: Any) -> None:
    assert page.inner_text("#title") == "digits"
    plan = pretune.plan(load_scenario(EXAMPLE))
    assert float(fact(page, "Objective of this plan")) == pytest.approx(plan.objective, rel=1e-3)
    assert page.locator("#device-rows tr").count() == len(load_scenario(EXAMPLE).devices)
    causes = page.locator("#spending tbody td:nth-child(2)").all_inner_texts()
    assert causes == ["server compute", "broadcast", "device compute", "upload"]
    assert page.locator("#prices li").count() == 2
    page.wait_for_selector("#front svg .mark >> nth=1", state="attached")
    page.wait_for_selector("#compare tr.best")
    assert "joint plan" in page.inner_text("#compare tr.best")
    assert page.locator("#compare tbody tr").count() >= 7


def test_a_drag_moves_the_plan(page: Any) -> None:
    before, rounds = budgets(page), page.inner_text("#tiles")
    box = page.locator("#energy").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.03 * step), middle)
    page.mouse.up()
    energy, delay = settled(page, after=before)
    assert energy > 1.5 * before[0]
    assert delay == before[1]
    assert page.inner_text("#tiles") != rounds
    wanted = pretune.plan(load_scenario(EXAMPLE).with_budget(energy_j=energy))
    assert float(fact(page, "Objective of this plan")) == pytest.approx(wanted.objective, rel=1e-3)
    assert f"energy={energy:g}" in page.url


def test_only_the_newest_of_many_moves_is_asked_for_and_shown(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data) if request.url.endswith("/plan") else None)
    before = budgets(page)
    page.evaluate(
        "() => { const slider = document.getElementById('delay'); for (let i = 0; i < 40; i++) {"
        " slider.value = 500 + 5 * i; slider.dispatchEvent(new Event('input', { bubbles: true })); } }"
    )
    _, delay = settled(page, after=before)
    assert len(asked) < 10
    assert json.loads(asked[-1])["delay_s"] == delay
    assert page.get_attribute("#delay", "aria-valuetext").replace("\u00a0", " ") == words.seconds(delay)


def test_budgets_are_typed_with_units(page: Any) -> None:
    before = budgets(page)
    page.fill("#energy-text", "0.7 J")
    page.keyboard.press("Enter")
    assert settled(page, after=before) == (0.7, before[1])
    assert page.input_value("#energy-text") == "700 mJ"
    page.fill("#energy-text", "much")
    page.keyboard.press("Enter")
    page.wait_for_selector("#energy-text[aria-invalid=true]")
    assert "energy_j: holds 'much', should hold" in page.inner_text("#energy-bad")
    assert budgets(page) == (0.7, before[1])


def test_an_infeasible_scenario_is_explained_and_mended(page: Any) -> None:
    page.select_option("#example", "tight")
    page.wait_for_selector("#infeasible", state="visible")
    said = page.inner_text("#infeasible")
    assert "These limits clash" in said
    assert "would do" in said
    assert page.locator("#feasible").is_hidden()
    assert page.locator("#save-plan").is_disabled()
    before = budgets(page)
    page.locator("#infeasible button").first.click()
    page.wait_for_selector("#feasible", state="visible")
    after = settled(page, after=before)
    assert after[0] > before[0] or after[1] > before[1]
    assert page.locator("#infeasible").is_hidden()


def test_values_are_edited_with_units_and_refused_by_name(page: Any) -> None:
    page.locator("#panel-fields summary", has_text="Server").click()
    field = page.locator('[data-path="server.max_clock_hz"]')
    assert field.input_value() == "1.5 GHz"
    field.fill("-3 GHz")
    field.press("Enter")
    page.wait_for_selector('[data-path="server.max_clock_hz"][aria-invalid=true]')
    assert "server.max_clock_hz: holds" in page.inner_text('[id="field-server.max_clock_hz-bad"]')
    address = page.url
    field.fill("300 MHz")
    field.press("Enter")
    page.wait_for_url(lambda url: url != address)
    assert page.input_value('[data-path="server.max_clock_hz"]') == "300 MHz"
    page.click("#undo")
    page.wait_for_function("() => document.querySelector('[data-path=\"server.max_clock_hz\"]').value === '1.5 GHz'")


def test_the_text_is_edited_and_its_errors_name_the_fields(page: Any) -> None:
    page.click("#tab-text")
    text = page.input_value("#text")
    assert "max_clock_hz: 1.5 GHz" in text
    page.fill("#text", text.replace("name: digits", "name: mine", 1).replace("access: fdma", "access: morse"))
    page.click("#apply-text")
    page.wait_for_selector("#text-bad", state="visible")
    assert "radio.access: holds 'morse'" in page.inner_text("#text-bad")
    page.fill("#text", text.replace("name: digits", "name: mine", 1))
    page.click("#apply-text")
    page.wait_for_function("() => document.getElementById('title').textContent === 'mine'")


def test_scenarios_come_from_files_pasting_and_csv(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", files=[{"name": "x.yaml", "mimeType": "text/yaml", "buffer": EXAMPLE.read_bytes()}])
    page.wait_for_selector(PRECISE)
    page.click("#open-paste")
    page.fill("#paste-text", "pretune: 1\nname: half")
    page.get_by_role("button", name="Load", exact=True).click()
    page.wait_for_selector("dialog .bad li")
    assert "workload" in page.inner_text("dialog .bad")
    page.fill("#paste-text", EXAMPLE.read_text().replace("name: digits", "name: pasted", 1))
    page.get_by_role("button", name="Load", exact=True).click()
    page.wait_for_function("() => document.getElementById('title').textContent === 'pasted'")
    csv = "who,Gain dB,samples,band,power,clock,capacitance,flops_per_cycle\n" + "".join(
        f"node-{i},{-100 - i},{50 + i},2,200,1.2,1e-27,2\n" for i in range(12)
    )
    page.click("#open-fleet")
    page.fill("dialog textarea", csv)
    columns = {
        "who": "name",
        "Gain dB": "gain",
        "band": "bandwidth_hz",
        "power": "max_power_w",
        "clock": "max_clock_hz",
    }
    for column, key in columns.items():
        page.select_option(f'dialog select[aria-label="Key of column {column}"]', key)
    for column, unit in (("Gain dB", "dB"), ("band", "MHz"), ("power", "mW"), ("clock", "GHz")):
        page.fill(f'dialog input[aria-label="Unit of column {column}"]', unit)
    page.get_by_role("button", name="Use this fleet").click()
    page.wait_for_function("() => document.getElementById('device-rows').textContent.includes('node-11')")
    assert "12 devices" in page.inner_text("#scenario-words")


def test_what_is_exported_passes_the_check(page: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = budgets(page)
    page.fill("#delay-text", "3.3 s")
    page.keyboard.press("Enter")
    settled(page, after=before)
    saved = {}
    for name in ("plan", "scenario"):
        with page.expect_download() as download:
            page.click(f"#save-{name}")
        saved[name] = tmp_path / f"{name}.json"
        download.value.save_as(saved[name])
    assert main(["check", str(saved["plan"]), str(saved["scenario"])]) == 0
    assert load_scenario(saved["scenario"]).budget.delay_s == 3.3
    capsys.readouterr()


def test_devices_are_sorted_and_filtered_and_only_those_in_sight_are_drawn(page: Any) -> None:
    page.evaluate(MANY)
    rows = page.locator("#device-rows tr[aria-rowindex]")
    page.wait_for_function("() => document.getElementById('device-count').textContent === '10,000 devices'")
    # the page's own table listens to the same fields: what this one does with them is asked of it alone
    page.evaluate("() => { table.sortBy('batch'); }")
    page.wait_for_function("() => document.querySelector('#device-rows td:nth-child(2)').textContent === '1'")
    assert rows.count() < 60
    page.evaluate("() => { document.getElementById('device-scroll').scrollTop = 1e9; }")
    page.wait_for_function("() => document.getElementById('device-rows').textContent.includes('10,000')")
    assert rows.count() < 60
    found = page.evaluate(
        "() => { document.getElementById('device-filter').value = 'power > 90 mW, node-1'; table.filterBy();"
        " return [...table.order]; }"
    )
    assert sorted(found) == [i for i in range(10000) if (i * 7919) % 10000 / 1e5 > 0.09 and str(i).startswith("1")]
    page.fill("#device-filter", "voltage > 3")
    assert "is no column" in page.inner_text("#device-filter-note")


def test_a_run_is_watched_to_its_end_and_through_a_reload(page: Any, address: str) -> None:
    page.click("#start-run")
    page.wait_for_selector("#run-state")
    page.reload()
    page.wait_for_selector('#run-state[data-state="finished"]')
    tiles = page.inner_text("#view-runs .tiles")
    rounds = pretune.plan(load_scenario(EXAMPLE))
    assert rounds.pretrain is not None
    assert rounds.finetune is not None
    assert f"pre-training {rounds.pretrain.rounds} of {rounds.pretrain.rounds}" in tiles
    assert f"fine-tuning {rounds.finetune.rounds} of {rounds.finetune.rounds}" in tiles
    page.wait_for_selector("#h-totals")
    assert page.locator("#view-runs .chart").count() == 4
    assert float(re.search(r"([\d.]+)\s%", page.locator("#view-runs .tile-value").nth(1).inner_text())[1]) > 80.0
    report = page.get_by_role("link", name="Report").get_attribute("href")
    assert page.request.get(address + report).ok
    page.goto(address + "#/runs")
    page.wait_for_selector("#run-list td .state.done")


def test_a_run_is_cancelled_resumed_and_compared(page: Any, address: str) -> None:
    before = budgets(page)
    page.fill("#delay-text", "60 s")
    page.keyboard.press("Enter")
    settled(page, after=before)
    page.click("#start-run")
    page.wait_for_selector("#view-runs .chart svg")
    page.reload()  # in mid-run: what was before is there again, and it goes on
    page.wait_for_selector("#view-runs .chart svg")
    assert page.get_attribute("#run-state", "data-state") == "running"
    page.click("#cancel-run")
    page.wait_for_selector('#run-state[data-state="interrupted"]')
    page.click("#resume-run")
    page.wait_for_selector('#run-state[data-state="running"], #run-state[data-state="planning"]')
    page.click("#cancel-run")
    page.wait_for_selector('#run-state[data-state="interrupted"]')
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("#run-list")
    choices = page.locator("#run-list input[type=checkbox]")
    if choices.count() < 2:
        pytest.skip("the other run's test was not selected")
    choices.nth(0).check()
    choices.nth(1).check()
    page.click("#compare-two")
    page.wait_for_selector("#h-differ")
    assert "delay budget" in page.inner_text("#view-runs")
    assert page.locator("#view-runs .chart").count() == 4


def test_a_steered_run_shows_what_it_plans_anew(page: Any, address: str) -> None:
    """Live, after a reload and after it was interrupted and taken up again; it can't end by itself meanwhile."""
    convergence = {**made_tree()["convergence"], "criterion": "trajectory"}
    endless = made_tree(budget={"energy_j": 2000.0, "delay_s": 2000.0}, convergence=convergence)
    read = page.request.post(address + "api/v1/scenario", data={"scenario": endless}).json()
    page.goto(f"{address}#/plan/{read['scenario_id']}")
    page.wait_for_function("() => document.getElementById('title').textContent === 'small'")
    page.wait_for_selector(PRECISE)
    page.locator("#run-options summary").click()
    page.select_option("#run-replan", "auto")
    assert page.input_value("#run-control") == "rounds"
    page.click("#start-run")
    try:
        page.wait_for_selector("#replans tbody tr >> nth=0")
        rows = page.locator("#replans tbody tr")
        assert "the run begins" in rows.last.inner_text()
        page.reload()
        page.wait_for_selector("#replans tbody tr")
        assert "planned anew when there is a reason" in page.inner_text("#view-runs")
        page.wait_for_selector("#view-runs .chart svg")
        page.click("#cancel-run")
        page.wait_for_selector('#run-state[data-state="interrupted"]')
        before = rows.count()
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="axe is not installed (extra browser)"
        )
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            problems = axe.Axe().run(page).response["violations"]
            assert [one["id"] for one in problems if one["impact"] in ("serious", "critical")] == []
            assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        page.click("#resume-run")
        page.wait_for_selector('#run-state[data-state="running"]')
        page.wait_for_function("(n) => document.querySelectorAll('#replans tbody tr').length >= n", arg=before)
        assert "the run begins" in rows.last.inner_text()
    finally:
        page.click("#cancel-run")
        page.wait_for_selector('#run-state[data-state="interrupted"]')
