"""What a notebook shows of a scenario, a plan and a ledger; and the notebook of the examples, executed."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import sample_run
from pretune.ledger import Ledger, load_ledger
from pretune.plans import Plan, Status
from pretune.report.notebook import MOST_DEVICES
from pretune.scenario import Fleet, Scenario, scenario_from_dict
from scenario_samples import DEVICE, small

HOSTILE = "<script>alert(1)</script>"
EXAMPLE = Path(__file__).parent.parent / "examples" / "notebook.ipynb"


class Card(HTMLParser):
    """The tags of a card, which must nest, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def card(thing: Scenario | Plan | Ledger | Fleet) -> Card:
    html = thing._repr_html_()
    assert "http" not in html  # nothing is fetched
    assert not re.search(r"\son\w+=", html)
    shown = Card(html)
    assert "script" not in shown.tags
    return shown


def hostile(**changes: object) -> Scenario:
    names = [f"{HOSTILE}{k}" for k in range(3)]
    devices = [{**DEVICE, "name": name} for name in names]
    return scenario_from_dict(small(name=f"lab {HOSTILE}", devices=devices, **changes))


def test_a_scenario_shows_its_budgets_and_devices() -> None:
    shown = card(hostile())
    for words in ("lab <script>alert(1)</script>", "3 devices", "2 kJ and 10 min", f"{HOSTILE}2", "1.2 GHz"):
        assert words in shown.text


def test_a_plan_shows_its_proof_and_decisions() -> None:
    scenario = scenario_from_dict(sample_run.tree())
    plan = sample_run.plan_for(scenario, 30, 20)
    shown = card(plan)
    for words in ("Proven lower bound", "Fine-tuning", "Pre-training", "cam-0", f"and {10 - MOST_DEVICES} more"):
        assert words in shown.text
    named = scenario_from_dict(
        sample_run.tree(
            devices=[{**device, "name": f"{HOSTILE}{k}"} for k, device in enumerate(sample_run.tree()["devices"])]
        )
    )
    assert f"{HOSTILE}0" in card(sample_run.plan_for(named, 30, 20)).text


def test_a_plan_that_there_is_not_says_why() -> None:
    plan = Plan(status=Status.INFEASIBLE, criterion="final", scenario_sha256="0", message=f"nothing fits {HOSTILE}")
    shown = card(plan)
    assert f"Nothing fits {HOSTILE}" in shown.text
    assert "Proven" not in shown.text


def test_a_ledger_shows_planned_beside_realised(tmp_path: Path) -> None:
    ledger = load_ledger(sample_run.folder(tmp_path / "run"))
    shown = card(ledger)
    total = ledger.table()[-1]
    for words in ("Before training", "Both stages", "Energy, planned", f"{total.rounds} rounds"):
        assert words in shown.text
    assert "0 rounds" in card(Ledger(records=())).text


def test_a_large_fleet_is_cut_with_a_count() -> None:
    columns = {key: np.full(200_000, value) for key, value in DEVICE.items()}
    shown = card(Fleet.from_columns(**columns))
    assert shown.tags.count("tr") == MOST_DEVICES + 1
    assert "200,000 devices" in shown.text
    assert f"and {200_000 - MOST_DEVICES:,} more" in shown.text
    assert "shared" in card(Fleet.from_columns(2, uplink_hz=1e6, **{**DEVICE, "bandwidth_hz": None})).text


def test_the_card_wears_the_report_s_colours() -> None:
    html = hostile()._repr_html_()
    assert html.count(".pretune-card {\n    --page") + html.count(".pretune-card {\n  --page") == 2  # light and dark
    assert ":root" not in html


def test_the_example_notebook_is_stored_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)


def test_the_example_notebook_runs_in_a_fresh_kernel(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ipykernel")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(EXAMPLE, as_version=4)
    (tmp_path / "digits.yaml").write_text((EXAMPLE.parent / "digits.yaml").read_text())
    client = nbclient.NotebookClient(
        book, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that speak with the kernel
        client.execute()
    shown = [
        output.data for cell in book.cells if cell.cell_type == "code" for output in cell.outputs if "data" in output
    ]
    cards = [data["text/html"] for data in shown if "pretune-card" in data.get("text/html", "")]
    assert len(cards) >= 3
    assert any("image/png" in data for data in shown)
    said = " ".join(
        output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "accuracy" in said
