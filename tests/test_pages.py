"""The pages of `pretune compare` and `pretune pareto`: one offline file each, escaped, with every plan in it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from pretune.cli import main
from pretune.report.charts import Axis, Line, chart, fine_ticks
from pretune.report.compare_page import TITLES
from pretune.scenario import load_scenario
from test_report import HOSTILE, Page

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.yaml"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    tree = load_scenario(EXAMPLE).to_dict()
    tree["name"] = f"lab {HOSTILE}"
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def loads_nothing(html: str) -> bool:
    """No address in the page but the name of SVG's markup, which is not even there inline."""
    return not re.search(r"""(?:src|href)=|url\(|https?:""", html) and "default-src 'none'" in html


def test_the_comparison_is_one_page(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare.html"
    ways = ["fixed-batch", "finetune-only", "random"]
    only = [option for way in ways for option in ("--only", way)]
    assert main(["compare", str(hostile), "--html", str(out), "--json", *only]) == 0
    rows = json.loads(capsys.readouterr().out)["compared"]
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert loads_nothing(html)
    assert HOSTILE not in html
    text = page.text.replace("\u00a0", " ")
    assert "lab <script>alert(1)</script>" in text
    for row in rows:
        assert TITLES[row["name"]] in text
        assert f"{row['ratio']:.4f}" in text
    assert main(["compare", str(hostile), "--html", str(out), *only]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_fronts_are_one_page(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "front.html"
    sweep = ["--delay", "1e-9:1", "--points", "3"]
    assert main(["pareto", str(hostile), "--html", str(out), "--json", *sweep]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    html = out.read_text(encoding="utf-8")
    text = Page(html).text.replace("\u00a0", " ")
    assert loads_nothing(html)
    assert HOSTILE not in html
    assert "nan" not in html.lower()
    assert sum(point["status"] == "infeasible" for point in points) == text.count("infeasible") == 1
    for point in points:
        if "objective" in point:
            assert f"{point['objective']:.6g}" in text
    assert main(["pareto", str(hostile), "--html", str(tmp_path / "no" / "such.html")]) == 2
    assert main(["pareto", str(hostile), "--grid", "--points", "2", "--html", str(tmp_path / "grid.html")]) == 0
    assert "More of both" in (tmp_path / "grid.html").read_text(encoding="utf-8")


def test_pages_say_that_nothing_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = load_scenario(EXAMPLE).to_dict()
    tree["budget"] = {"energy_j": 1e-9, "delay_s": 1e-6}
    path = tmp_path / "none.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    for command, more in (("compare", ["--only", "random"]), ("pareto", ["--energy", "1e-9:1e-8", "--points", "2"])):
        out = tmp_path / f"{command}.html"
        assert main([command, str(path), *more, "--html", str(out)]) == 3
        text = Page(out.read_text(encoding="utf-8")).text
        assert "Nothing fits" in text or "infeasible" in text.lower()
    capsys.readouterr()


def test_tight_axes_stay_close_to_the_values() -> None:
    for low, high in ((0.1, 2.5), (3.0, 3.1), (1e-6, 1e3), (0.9, 12.0), (5.0, 9.0)):
        found = fine_ticks(low, high)
        assert 2 <= len(found) <= 12
        assert all(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in found)
        assert found == sorted(found)
    line = Line(label="a", colour="pre", x=np.array([0.1, 1.0, 2.5]), y=np.array([1.0, 0.5, 0.2]), style="dots")
    axis = Axis(label="budget", log=True, tight=True)
    drawn = str(chart("t", [line], axis, axis))
    across = [float(value) for value in re.findall(r'<circle[^>]* cx="([0-9.]+)"', drawn)]
    # equal ratios are equal distances: 0.1 to 1 is log(10) / log(2.5) times as far as 1 to 2.5
    assert (across[1] - across[0]) / (across[2] - across[1]) == pytest.approx(math.log(10) / math.log(2.5), rel=0.01)
