"""The federation's parts by themselves: frames, keys, configurations, actuators, counters, clocks, messages."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime_helpers import hand_plan, small_scenario, tiny_task

pytest.importorskip("grpc", reason="needs the extra `flower`")

from federated_helpers import NAMES

from pretune.errors import InputError
from pretune.fieldbook import field_summary, load_fieldbook
from pretune.ledger import Stage
from pretune.runtime.federated.actuators import Cpufreq, applied, read_actuator
from pretune.runtime.federated.clock import Clock
from pretune.runtime.federated.config import load_device_config, load_server_config
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.frames import BadFrame, Frame, unpack
from pretune.runtime.federated.keys import enroll, load_device_key, load_public_keys, sign, verify
from pretune.runtime.federated.messages import Order, model_frame, read_update, weights_of
from pretune.runtime.federated.meter import Meter, find_meter
from pretune.runtime.options import Options
from pretune.runtime.run import run

ORDER = Order(
    stage=Stage.FINETUNE, seed=0, batch=4, first=0, clock_hz=1.2e9, power_w=0.1, compute_s=0.01, upload_s=0.02
)


def test_whatever_is_done_to_a_frame_it_is_read_or_refused():
    """Cut anywhere or with any byte changed: a frame, or BadFrame, and nothing else."""
    model = tiny_task().build(0)
    data = model_frame(model, 3).pack()
    like = weights_of(model)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        broken = bytearray(data[: int(generator.integers(0, len(data)))] if generator.random() < 0.3 else data)
        for _ in range(int(generator.integers(1, 6))):
            if broken:
                broken[int(generator.integers(0, min(len(broken), 400)))] = int(generator.integers(0, 256))
        try:
            read_update(unpack(bytes(broken)), like)
        except BadFrame:
            refused += 1
    assert refused == 400  # a model is never an update
    assert unpack(Frame(kind="x", values={"a": 1.5}, body=b"abc").pack()).body == b"abc"


@pytest.mark.parametrize("header", [b"[]", b'{"kind": 3}', b"{", b'{"kind": "x", "a": NaN}', b"\xff"])
def test_a_header_that_is_none_is_refused(header):
    with pytest.raises(BadFrame):
        unpack(b"PTF1" + len(header).to_bytes(4, "big") + header)


def test_enrolling_twice_makes_nothing_twice_and_keys_are_secret(tmp_path):
    assert len(enroll(tmp_path, ["localhost", "10.0.0.1"], ["a", "b"])) == 4
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert enroll(tmp_path, ["localhost"], ["a", "b", "c"]) == ["key of c"]
    assert all(path.read_bytes() == data for path, data in before.items())
    for key in tmp_path.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    mine = load_device_key(tmp_path / "devices/a/device.key")
    theirs = load_public_keys(tmp_path / "server/devices", "abc")
    signature = sign(mine, {"run": "1"})
    assert verify(theirs["a"], {"run": "1"}, signature)
    assert not verify(theirs["a"], {"run": "2"}, signature)
    assert not verify(theirs["b"], {"run": "1"}, signature)
    assert not verify(theirs["a"], {"run": "1"}, "no base64!")
    with pytest.raises(InputError, match="names a folder"):
        enroll(tmp_path, ["localhost"], ["../d"])


SERVER = {"plan": "p", "scenario": "s", "out": "o", "keys": "k"}
DEVICE = {"name": "d0", "scenario": "s", "keys": "k"}


@pytest.mark.parametrize(
    ("load", "tree", "said"),
    [
        (load_server_config, {**SERVER, "plan": None}, "server.plan: is missing"),
        (load_server_config, {**SERVER, "port": "x"}, "server.port: holds 'x'"),
        (load_server_config, {**SERVER, "ports": 1}, "server.ports: is not a key"),
        (load_server_config, {**SERVER, "mode": "udp"}, "server.mode: holds 'udp', should hold one of flower"),
        (load_server_config, {**SERVER, "patience": {"factor": 0.5}}, "server.patience.factor: holds 0.5"),
        (load_server_config, {**SERVER, "control": "some"}, "server.control: holds 'some', should hold one of none"),
        (load_server_config, {**SERVER, "replan": "auto"}, "server.control: holds 'none', should hold rounds where"),
        (load_server_config, {**SERVER, "outage": 0.7}, "server.outage: holds 0.7"),
        (load_server_config, {**SERVER, "patience": {"f": 1}}, "server.patience.f: is not a key"),
        (
            load_server_config,
            {**SERVER, "mode": "direct", "host": "0.0.0.0", "plaintext": True},
            "server.plaintext: holds True, should hold false: 0.0.0.0 is not this machine's loopback",
        ),
        (load_server_config, {**SERVER, "plaintext": True}, "with mode flower there is always TLS"),
        (load_device_config, {**DEVICE, "name": ""}, "device.name"),
        (load_device_config, {**DEVICE, "energy": "guess"}, "device.energy: holds 'guess'"),
        (
            load_device_config,
            {**DEVICE, "mode": "direct", "host": "server.example", "plaintext": True},
            "device.plaintext",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_one_clear_line(tmp_path, load, tree, said):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError) as found:
        load(path)
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_plaintext_needs_its_flag_and_loopback(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SERVER, "mode": "direct", "plaintext": True}))
    assert load_server_config(tmp_path / "c.json").credentials() is None
    (tmp_path / "c.json").write_text(json.dumps({**SERVER, "mode": "direct"}))
    with pytest.raises(InputError, match="pretune enroll"):
        load_server_config(tmp_path / "c.json").credentials()


def _cpu(root: Path, low: int, high: int) -> Path:
    folder = root / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    for name, value in (("scaling_max_freq", high), ("cpuinfo_min_freq", low), ("cpuinfo_max_freq", high)):
        (folder / name).write_text(f"{value}\n")
    return folder / "scaling_max_freq"


def test_cpufreq_sets_the_plan_s_clock_and_puts_it_back(tmp_path):
    file = _cpu(tmp_path, 400_000, 2_000_000)
    actuator = Cpufreq(tmp_path)
    said = applied(actuator, ORDER, 4)
    assert file.read_text() == "1200000"
    assert said.batch == "applied"
    assert said.clock.startswith("applied by cpufreq")
    assert said.power.startswith("not applied")
    actuator.close()
    assert file.read_text() == "2000000"


def test_a_clock_beyond_the_hardware_is_not_called_applied(tmp_path):
    _cpu(tmp_path, 400_000, 1_000_000)
    assert "cpufreq took 1e+09 Hz for 1.2e+09 Hz" in applied(Cpufreq(tmp_path), ORDER, 4).clock
    assert "no cpufreq" in applied(Cpufreq(tmp_path / "nothing"), ORDER, 4).clock


class Broken:
    """A user's actuator that fails."""

    def __init__(self, level: int = 1) -> None:
        self.level = level

    def apply(self, order):
        raise OSError(f"level {self.level}")

    def finish(self, order, began_s):
        """Nothing."""

    def close(self):
        """Nothing."""


def test_a_user_s_own_actuator_is_named_in_the_configuration_and_its_failure_is_told():
    sys.modules["my_actuator"] = sys.modules[__name__]
    try:
        made = read_actuator(Options({"use": "my_actuator:Broken", "level": 3}, "device.actuator"))
        assert made.level == 3
        assert applied(made, ORDER, 4).clock == "not applied: the actuator failed (OSError)"
        for tree, said in (
            ({"use": "my_actuator:Broken", "speed": 3}, "can't be made (TypeError"),
            ({"use": "my_actuator:Path"}, "without apply()"),
            ({"use": "cpu"}, "device.actuator.use: holds 'cpu'"),
            ({"use": "none", "level": 1}, "device.actuator.level: is not a key"),
        ):
            with pytest.raises(InputError) as found:
                read_actuator(Options(tree, "device.actuator"))
            assert said in str(found.value)
    finally:
        del sys.modules["my_actuator"]


def test_the_energy_counter_is_read_and_understood_when_it_begins_anew(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the package, not to be counted twice
    (package / "energy_uj").write_text("900000\n")
    (package / "max_energy_range_uj").write_text("1000000\n")
    meter = find_meter("auto", tmp_path)
    assert meter.counters == (package,)
    before = meter.read()
    (package / "energy_uj").write_text("950000\n")
    assert meter.joules(before, meter.read()) == pytest.approx(0.05)
    (package / "energy_uj").write_text("100000\n")
    assert meter.joules(before, meter.read()) == pytest.approx(0.2)
    assert "rapl" in meter.source


def test_without_a_counter_energy_is_modelled_and_asking_for_one_is_refused(tmp_path):
    assert find_meter("auto", tmp_path) == Meter()
    assert Meter().joules(None, None) is None
    with pytest.raises(InputError, match="no counter that may be read"):
        find_meter("rapl", tmp_path)


def test_of_the_clock_s_readings_the_quickest_counts():
    clock = Clock()
    assert clock.ahead_s is None
    clock.enter(10.0, 110.9, 12.0)  # two seconds there and back: wrong by up to one
    clock.enter(20.0, 120.005, 20.01)
    assert clock.ahead_s == pytest.approx(100.0)
    assert not clock.enter(1e12, 0.0, 30.0)  # the server has never asked then
    assert clock.ahead_s == pytest.approx(100.0)


class FakeGrid:
    """Flower's grid as far as the app uses it: nodes 10 to 13 answer with the client's end of the app."""

    def __init__(self) -> None:
        from pretune.runtime.flower.apps import answer

        self.answer, self.replies = answer, {}
        self.engines = {10 + k: Engine.of(small_scenario(), tiny_task(), name) for k, name in enumerate(NAMES)}

    def get_node_ids(self):
        return list(self.engines)

    def push_messages(self, messages):
        from flwr.app import ConfigRecord, Message, RecordDict

        ids = []
        for message in messages:
            message.metadata._message_id = f"m{len(self.replies)}-{message.metadata.dst_node_id}"
            values = message.content["pretune"]
            engine = self.engines[message.metadata.dst_node_id]
            record = ConfigRecord({"frame": self.answer(engine, values["order"], values["model"])})
            self.replies[message.metadata.message_id] = Message(RecordDict({"pretune": record}), reply_to=message)
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, ids):
        return [self.replies.pop(one) for one in ids if one in self.replies]


def test_the_same_rounds_over_flower_s_own_messages_give_the_same_model(tmp_path, monkeypatch):
    pytest.importorskip("flwr", reason="needs the extra `flower`")
    import torch
    from flwr.supercore.task_identity import TaskIdentity

    # what Flower sets in the process that runs an app
    for key in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, key, 1)

    from pretune.runtime.flower.messages import Messages

    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(0, 4))
    names = {10 + k: name for k, name in enumerate(NAMES)}
    backend = Messages(grid=FakeGrid(), names=names, patience=Patience(floor_s=20.0))
    remote = run(plan, scenario, out=tmp_path / "remote", task=tiny_task(), backend=backend)
    local = run(plan, scenario, out=tmp_path / "local", task=tiny_task())
    for name, tensor in local.model.state_dict().items():
        torch.testing.assert_close(remote.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    rows = field_summary(load_fieldbook(tmp_path / "remote"))
    assert [(row.name, row.answered) for row in rows] == [(name, 4) for name in NAMES]
    assert all(row.upload_s is None and row.compute_s > 0 for row in rows)  # a mailbox tells nothing of airtime


def test_the_app_that_is_shipped_is_tiny_and_installs_nothing(tmp_path):
    import tomllib

    from pretune.runtime.flower.launch import environment
    from pretune.runtime.flower.program import write_program

    folder = write_program(tmp_path / "app")
    tree = tomllib.loads((folder / "pyproject.toml").read_text())
    assert tree["project"]["dependencies"] == []
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2000
    env = environment(tmp_path)
    assert (env["FLWR_TELEMETRY_ENABLED"], env["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
