"""A band that devices share, from the scenario file to the ledger: who has a bandwidth, and whose word counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.draws import draw
from pretune import certify
from pretune.errors import CheckFailed, InputError
from pretune.fleet import Fleet
from pretune.planner import plan
from pretune.planner.admission import admit
from pretune.plans import load_plan, plan_from_dict
from pretune.report.spending import device_columns, shares
from pretune.runtime.charges import charge_finetune
from pretune.scenario import Scenario, scenario_from_dict
from scenario_samples import DEVICE, small

BANDLESS = {key: value for key, value in DEVICE.items() if key != "bandwidth_hz"}


def shared(**changes: Any) -> dict[str, Any]:
    """Two devices that share 10 MHz."""
    band = {"radio__uplink_bandwidth_hz": "10 MHz", "devices__0__bandwidth_hz": ..., "devices__1__bandwidth_hz": ...}
    return small(**{**band, **changes})


def refusal(tree: dict[str, Any], base: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(tree, base)
    return str(caught.value)


def test_every_form_of_a_fleet_can_share(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(f"{','.join(BANDLESS)}\n" + f"{','.join(map(str, BANDLESS.values()))}\n" * 4)
    for devices, count in (
        ([BANDLESS, BANDLESS], 2),
        ({"file": "fleet.csv"}, 4),
        ({"count": 5, "draw": BANDLESS}, 5),
    ):
        scenario = scenario_from_dict(shared() | {"devices": devices}, tmp_path)
        assert scenario.devices.bandwidth_hz.tolist() == [1e7 / count] * count
        assert "radio.bandwidth_shares = optimal" in scenario.defaults
        assert scenario_from_dict(scenario.to_dict()) == scenario
        assert all("bandwidth_hz" not in row for row in scenario.to_dict()["devices"])
        again = scenario.replace(radio={**scenario.to_dict()["radio"], "uplink_bandwidth_hz": 2e7})
        assert again.devices.bandwidth_hz.tolist() == [2e7 / count] * count
        assert again != scenario
    assert Scenario(**{**shared(), "devices": list(scenario.devices)}).devices == scenario.devices


def test_nobody_has_a_bandwidth_of_its_own_in_a_shared_band(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(f"{','.join(DEVICE)}\n{','.join(map(str, DEVICE.values()))}\n")
    line = "is given, should be left out: the devices share radio.uplink_bandwidth_hz"
    assert refusal(small(radio__uplink_bandwidth_hz=1e7)) == f"devices.bandwidth_hz: {line}"
    in_file = refusal(shared() | {"devices": {"file": "fleet.csv"}}, tmp_path)
    assert in_file == f"devices.bandwidth_hz (fleet.csv): {line}"
    drawn = refusal(shared() | {"devices": {"count": 2, "draw": DEVICE}})
    assert drawn == f"devices.draw.bandwidth_hz: {line}"
    fleet = scenario_from_dict(small()).devices
    assert "they share radio.uplink_bandwidth_hz" in refusal(shared() | {"devices": fleet})
    with pytest.raises(InputError, match=r"radio\.uplink_bandwidth_hz is not given"):
        Scenario(**{**small(), "devices": Fleet.from_rows([BANDLESS], uplink_hz=1e7)})


def test_a_band_needs_fdma_and_shares_need_a_band() -> None:
    assert refusal(shared(radio__access="tdma")).startswith("radio.uplink_bandwidth_hz: holds")
    assert refusal(small(radio__bandwidth_shares="equal")).startswith("radio.bandwidth_shares: is given")
    assert refusal(shared(radio__bandwidth_shares="some")) == (
        "radio.bandwidth_shares: holds 'some', should hold 'equal' or 'optimal'"
    )
    assert refusal(shared(radio__uplink_bandwidth_hz="0 MHz")).startswith("radio.uplink_bandwidth_hz: holds '0 MHz'")
    missing = refusal(small(devices__0__bandwidth_hz=...))
    assert missing.startswith("devices[0].bandwidth_hz: is missing")


def test_a_radio_in_error_says_nothing_about_the_devices() -> None:
    assert refusal(shared(radio__broadcast_bandwidth_hz=-1.0)).count("\n") == 0
    assert refusal(small(radio__broadcast_bandwidth_hz=-1.0)).count("\n") == 0


def test_scenarios_without_a_band_are_what_they_were() -> None:
    scenario = scenario_from_dict(small())
    assert not {"uplink_bandwidth_hz", "bandwidth_shares"} & set(scenario.to_dict()["radio"])
    assert not any("uplink" in line or "shares" in line for line in scenario.defaults)


def test_equal_shares_are_bandwidths_of_their_own() -> None:
    """The ordinary problem: the same plan as with the parts written out."""
    drawn = draw(5, access="fdma", count=3, energy="tight", batteries=False).scenario
    tree = drawn.to_dict()
    rows = [{**row, "bandwidth_hz": 1.5e6} for row in tree["devices"]]
    apart = plan(Scenario(**{**tree, "devices": rows}), tolerance=1e-3)
    for row in tree["devices"]:
        del row["bandwidth_hz"]
    tree["radio"] |= {"uplink_bandwidth_hz": 4.5e6, "bandwidth_shares": "equal"}
    scenario = Scenario(**tree)
    together = plan(scenario, tolerance=1e-3)
    assert together.objective == pytest.approx(apart.objective, rel=1e-12)
    assert together.finetune is not None
    assert together.finetune.bandwidth_hz is None
    certify.check(together, scenario)


def test_the_plans_bandwidths_count_everywhere(tmp_path: Path) -> None:
    scenario = draw(0, access="fdma", count=3, energy="tight", shares="optimal").scenario
    found = load_plan(plan(scenario, tolerance=1e-3).save(tmp_path / "plan.json"))
    stage = found.finetune
    assert stage is not None
    assert stage.rounds > 0
    assert stage.bandwidth_hz is not None
    assert np.ptp(stage.bandwidth_hz) > 0.1 * stage.bandwidth_hz.mean()
    certify.check(found, scenario)
    charge = charge_finetune(scenario, stage, stage.batch)
    assert charge.realised_s == pytest.approx(stage.round_s, rel=1e-12)
    assert charge.realised_j == pytest.approx(charge.planned_j, rel=1e-12)
    columns = device_columns(found, scenario)
    assert columns is not None
    assert columns.upload_s == pytest.approx(stage.upload_s, rel=1e-12)
    assert sum(share.energy_j for share in shares(found, scenario)) == pytest.approx(found.energy_j, rel=1e-9)


def test_forged_bandwidths_are_caught() -> None:
    scenario = draw(0, access="fdma", count=3, energy="tight", shares="optimal").scenario
    found = plan(scenario, tolerance=1e-3)
    tree = found.to_dict()
    rows = tree["finetune"]["devices"]
    rows[0]["bandwidth_hz"] *= 2.0
    with pytest.raises(CheckFailed, match="bandwidth"):
        certify.check(plan_from_dict(tree), scenario)
    del rows[0]["bandwidth_hz"]
    with pytest.raises(InputError, match="should be all or none"):
        plan_from_dict(tree)
    for row in rows:
        row.pop("bandwidth_hz", None)
    with pytest.raises(CheckFailed, match="should hold a bandwidth_hz each"):
        certify.check(plan_from_dict(tree), scenario)
    assert found.certificate is not None
    forged = [{**entry, "band": 10.0 * entry.get("band", 0.0)} for entry in found.certificate["prices"]]
    with pytest.raises(CheckFailed):
        certify.check(replace(found, certificate={**found.certificate, "prices": forged}), scenario)


def test_schedules_and_shares_do_not_go_together() -> None:
    scenario = draw(0, access="fdma", count=3, batteries=False, shares="optimal").scenario.replace(schedule=2)
    with pytest.raises(InputError, match=r"^schedule: holds 2, should hold 1 where radio\.bandwidth_shares"):
        plan(scenario)


@pytest.mark.parametrize("kind", ["optimal", "equal"])
def test_admission_knows_no_shared_band(kind: str) -> None:
    with pytest.raises(InputError, match=r"^radio\.uplink_bandwidth_hz: holds .* should hold null"):
        admit(draw(0, access="fdma", count=3, shares=kind).scenario)
