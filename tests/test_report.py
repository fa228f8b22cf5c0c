"""The report: one page that opens offline, escapes what it shows, and says when a run is not complete."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import sample_run
from pretune.errors import InputError
from pretune.report import render, write_report
from pretune.report.charts import MOST_POINTS, Axis, Line, chart, ticks
from pretune.report.devices import MOST_ROWS
from pretune.report.folder import read_folder
from pretune.report.spending import device_columns, shares
from pretune.report.words import joules, percent, printable, quantity, seconds, significant

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "line", "rect", "path", "circle", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers what the tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    content = sample_run.tree(name=f"lab {HOSTILE}")
    content["devices"][1]["name"] = HOSTILE
    content["devices"][2]["name"] = "\"><img src=x onerror='alert(2)'>"
    return sample_run.folder(tmp_path / "run", content=content)


def test_the_page_parses_and_says_what_happened(tmp_path: Path) -> None:
    html = render(sample_run.folder(tmp_path / "run"))
    page = Page(html)
    text = page.text.replace("\u00a0", " ")
    assert "40 rounds of pre-training and 20 of fine-tuning on 10 devices" in text
    assert "from 10.0 % to 98.5 %" in text
    assert "Incomplete" not in text
    assert "Every round took exactly the time and energy that were planned for it." in text
    assert "One more millijoule lowers the bound by 1.2e-7" in text
    assert "At these rounds, more delay would not lower the bound." in text
    assert page.count("svg") == 6
    assert not re.search(r"\bnan\b", html, re.I)


def test_the_page_loads_nothing(hostile: Path) -> None:
    html = render(hostile)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html, re.I)
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base")
        assert "src" not in attributes
        assert "href" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_names_are_escaped(hostile: Path) -> None:
    html = render(hostile)
    page = Page(html)
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert HOSTILE not in html
    assert HOSTILE in page.text


def test_the_one_script_is_the_one_that_is_allowed(tmp_path: Path) -> None:
    import base64
    import hashlib

    html = render(sample_run.folder(tmp_path / "run"))
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("done", [0, 1, 40, 45])
def test_an_incomplete_run_says_so(tmp_path: Path, done: int) -> None:
    text = Page(render(sample_run.folder(tmp_path / "run", done=done))).text.replace("\u00a0", " ")
    assert "Incomplete run." in text
    assert f"{min(done, 40)} of 40 pre-training and {max(done - 40, 0)} of 20 fine-tuning rounds" in text


def test_a_run_that_was_killed_may_lack_the_end_of_its_last_line(tmp_path: Path) -> None:
    run = sample_run.folder(tmp_path / "run", done=45)
    ledger = run / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-30])
    assert read_folder(run).rounds_done == (40, 4)
    assert "Incomplete run." in render(run)


@pytest.mark.parametrize(("pretrain", "finetune"), [(30, 0), (0, 30)])
def test_one_stage_alone(tmp_path: Path, pretrain: int, finetune: int) -> None:
    text = Page(render(sample_run.folder(tmp_path / "run", pretrain=pretrain, finetune=finetune))).text
    assert "not used" in text
    assert ("The devices, in one fine-tuning round" in text) == (finetune > 0)


@pytest.mark.parametrize("name", ["plan.json", "scenario.json", "ledger.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    run = sample_run.folder(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(InputError, match=f"holds no {re.escape(name)}"):
        render(run)


@pytest.mark.parametrize("name", ["plan.json", "scenario.json", "ledger.jsonl", "summary.json", "run.json"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    run = sample_run.folder(tmp_path / "run")
    text = (run / name).read_text()
    (run / name).write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        render(run)
    assert len(str(caught.value).splitlines()) == 1


def test_a_summary_that_is_no_object(tmp_path: Path) -> None:
    run = sample_run.folder(tmp_path / "run")
    (run / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="should hold an object"):
        render(run)


def test_a_damaged_line_in_the_middle_of_an_unfinished_run(tmp_path: Path) -> None:
    run = sample_run.folder(tmp_path / "run", done=9)
    lines = (run / "ledger.jsonl").read_text().splitlines()
    (run / "ledger.jsonl").write_text("\n".join([*lines[:3], "{", *lines[3:]]))
    with pytest.raises(InputError, match="damaged"):
        render(run)


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        render(tmp_path / "nothing")


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    run = sample_run.folder(tmp_path / "run")
    target = write_report(run)
    assert target == run / "report.html"
    first = target.read_text()
    with pytest.raises(InputError, match="exists already"):
        write_report(run)
    assert write_report(run, force=True).read_text() == first
    assert write_report(run, tmp_path / "other.html").read_text() == first
    with pytest.raises(InputError, match="can't be written"):
        write_report(run, tmp_path / "no" / "folder.html")
    assert not list(tmp_path.glob("**/*.part"))


def test_a_round_that_differs_from_its_plan_is_told(tmp_path: Path) -> None:
    run = sample_run.folder(tmp_path / "run")
    lines = (run / "ledger.jsonl").read_text().splitlines()
    record = json.loads(lines[10])
    record["realised_j"] *= 1.25
    lines[10] = json.dumps(record)
    (run / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    page = Page(render(run))
    assert "differs by 25.00\u00a0%" in page.text
    assert page.count("svg") == 7


def test_a_large_fleet_is_cut_and_says_so(tmp_path: Path) -> None:
    content = sample_run.tree()
    content["devices"] = [{**content["devices"][0], "name": f"d{k}"} for k in range(MOST_ROWS + 7)]
    html = render(sample_run.folder(tmp_path / "run", content=content, pretrain=3, finetune=3))
    assert "7 more devices are in plan.json." in html
    assert len(html) < 1_000_000


def test_shares_add_up_to_the_plan(tmp_path: Path) -> None:
    for access in ("fdma", "tdma"):
        content = sample_run.tree(radio={"access": access, "broadcast_bandwidth_hz": 2e7})
        run = read_folder(sample_run.folder(tmp_path / access, content=content))
        found = shares(run.plan, run.scenario)
        assert sum(share.energy_j for share in found) == pytest.approx(run.plan.energy_j, rel=1e-12)
        assert sum(share.delay_s for share in found) == pytest.approx(run.plan.delay_s, rel=1e-12)
        columns = device_columns(run.plan, run.scenario)
        assert columns is not None
        devices = sum(share.energy_j for share in found if share.cause in ("device compute", "upload"))
        assert 20 * columns.round_j.sum() == pytest.approx(devices, rel=1e-12)


def test_charts_draw_what_they_are_given() -> None:
    x = np.linspace(1.0, 5.0, 3000)
    drawn = chart(
        "t", [Line(label="a", colour="pre", x=x, y=np.sin(x), style="noisy")], Axis(label="x"), Axis(label="y")
    )
    assert drawn is not None
    assert str(drawn).count("L") < 4 * MOST_POINTS
    assert 'class="range pre"' in drawn
    empty = Line(label="a", colour="pre", x=np.array([1.0]), y=np.array([np.nan]))
    assert chart("t", [empty], Axis(label="x"), Axis(label="y")) is None
    flat = Line(label="a", colour="pre", x=np.array([2.0]), y=np.array([0.0]))
    assert "<circle" in str(chart("t", [flat], Axis(label="x"), Axis(label="y", from_zero=True)))
    log = Line(label="a", colour="pre", x=np.array([1.0, 2.0, 3.0]), y=np.array([1.0, 0.0, 1.0]))
    assert "nan" not in str(chart("t", [log], Axis(label="x"), Axis(label="y", log=True)))


def test_ticks_are_round_and_inside() -> None:
    for low, high in [(0.0, 1.0), (0.0, 812.0), (-3.7, 0.2), (1e-9, 3e-9), (1e6, 1.0001e6)]:
        found = ticks(low, high)
        assert 2 <= len(found) <= 7
        assert all(low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high) for value in found)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (quantity(9.1e8, "Hz"), "910 MHz"),
        (quantity(0.0, "J"), "0 J"),
        (quantity(999.96, "J"), "1 kJ"),
        (quantity(float("nan"), "J"), "-"),
        (quantity(float("inf"), "J"), "no limit"),
        (joules(1999.9, 5), "1.9999 kJ"),
        (joules(0.0123), "12.3 mJ"),
        (seconds(0.05), "50 ms"),
        (seconds(90.0), "90 s"),
        (seconds(599.8), "9 min 59.8 s"),
        (seconds(7261.0), "2 h 01 min"),
        (seconds(3e5), "3.5 days"),
        (significant(123456.0), "123500"),
        (significant(1e-7), "1e-7"),
        (percent(0.5), "50.0 %"),
        (percent(3e-6), "0.0003 %"),
        (printable("a\x1b[31m\u202eb\n"), "a\\x1b[31m\\u202eb\\n"),
    ],
)
def test_words(shown: str, wanted: str) -> None:
    assert shown == wanted
