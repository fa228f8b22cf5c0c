from __future__ import annotations

import re
from pathlib import Path

import pytest

from pretune.device import Device
from pretune.loader import read_tree
from pretune.planning import Planning
from pretune.scenario import Budget, Convergence, Radio, Server, Workload, load_scenario, scenario_from_dict
from pretune.schema_docs import VARYING, main, render
from scenario_samples import DEVICE, SMALL, small, write_json

PAGE = Path(__file__).parent.parent / "docs" / "scenario.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m pretune.schema_docs docs/scenario.md"


def test_the_page_is_written_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "page.md")])
    main([])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == capsys.readouterr().out == render()


@pytest.mark.parametrize("model", [Workload, Server, Radio, Budget, Convergence, Device, *VARYING.values(), Planning])
def test_every_field_is_described(model: type) -> None:
    for key, field in model.model_fields.items():
        assert field.description.endswith("."), key
        assert f"| `{key}` |" in render()


def test_the_examples_of_the_page_load(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", render(), re.DOTALL)
    whole, band, fleet, mapped, folder, drawn, varying, trace, planning = examples
    path = tmp_path / "example.yaml"
    path.write_text(whole)
    assert len(load_scenario(path).devices) == 2
    path.write_text(band)
    shared = small(radio=read_tree(path)["radio"], devices__0__bandwidth_hz=..., devices__1__bandwidth_hz=...)
    assert scenario_from_dict(shared).devices.bandwidth_hz.tolist() == [5e6, 5e6]
    path.write_text(drawn)
    assert len(scenario_from_dict(small(devices=read_tree(path)["devices"])).devices) == 50
    path.write_text(fleet)
    (tmp_path / "fleet.csv").write_text(f"{','.join(DEVICE)}\n{','.join(str(value) for value in DEVICE.values())}\n")
    assert len(scenario_from_dict({**SMALL, **read_tree(path)}, tmp_path).devices) == 1
    path.write_text(mapped)
    line = [DEVICE[key] for key in DEVICE if key not in ("gain", "max_clock_hz", "samples")]
    heads = [key for key in DEVICE if key not in ("gain", "max_clock_hz", "samples")]
    (tmp_path / "inventory.csv").write_text(
        f"site,gain_db,clock,images,{','.join(heads)}\nroof,-100,1200,600,{','.join(map(str, line))}\n"
    )
    device = scenario_from_dict({**SMALL, **read_tree(path)}, tmp_path).devices[0]
    assert (device.name, device.gain, device.max_clock_hz, device.samples) == ("roof", 1e-10, 1.2e9, 600)
    path.write_text(folder)
    (tmp_path / "profiles").mkdir()
    write_json(tmp_path / "profiles" / "cam-1.json", {"pretune_profile": 1, "device": DEVICE})
    assert scenario_from_dict({**SMALL, **read_tree(path)}, tmp_path).devices.names == ("cam-1",)
    path.write_text(varying)
    assert scenario_from_dict({**SMALL, **read_tree(path)}).variation.overrides["cam-1"].fading is None
    path.write_text(planning)
    with_both = {**SMALL, **read_tree(path), "variation": {"fading": {"kind": "rayleigh"}}}
    assert scenario_from_dict(with_both).planning.share == 0.05
    path.write_text(trace)
    (tmp_path / "gains.csv").write_text("device,time,gain\ncam-2,0,1e-11\ncam-2,600,0\n")
    assert scenario_from_dict({**SMALL, **read_tree(path)}, tmp_path).variation.trace.names == ("cam-2",)


def test_the_examples_in_the_tables_are_valid() -> None:
    for model in (Workload, Server, Radio, Budget, Device):
        rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|[^|]*\| `([^`]+)` \|", render(), re.MULTILINE)
        values = {key: example for key, example in rows if key in model.model_fields and key != "weight"}
        model(**values)
