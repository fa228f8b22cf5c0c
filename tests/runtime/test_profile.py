"""`pretune profile`: what is counted, timed and read, on this machine and on made-up ones; nothing is filled in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runtime_helpers import norm_task, small_scenario, tiny_task
from torch import nn

from pretune.cli import main
from pretune.errors import InputError, MissingExtra
from pretune.fleetfolder import load_entry
from pretune.ledger import Stage
from pretune.loader import read_tree
from pretune.profiling import power
from pretune.profiling import profile as profile_module
from pretune.profiling.clock import ClockLog, ClockReader, find_clock
from pretune.profiling.energy import Absent, Counter, find_counter
from pretune.profiling.entry import entry_of, missing_from, read_given, yaml_of
from pretune.profiling.machine import machine_of
from pretune.profiling.model import model_cost
from pretune.profiling.power import Powers, Reading, measure_powers, switching
from pretune.profiling.profile import Profile, Wish, profile
from pretune.profiling.speed import Stepper, median_interval
from pretune.runtime.federated.actuators import Cpufreq
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.messages import Order, model_frame, weights_of
from pretune.runtime.task import Samples, Task
from pretune.scenario import scenario_from_dict

GIVEN = {"max_power_w": 0.2, "gain": 3.1e-11, "bandwidth_hz": 2e6, "samples": 600}
STEADY = ClockReader(source="made up", read=lambda: [1e9, 2e9])
UNCOUNTED = Absent(why="no counter here")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for one another on a busy machine make no test better."""
    monkeypatch.setattr(profile_module, "all_threads", lambda: 1)


def quick(task: Task | None = None, **changes: Any) -> Profile:
    options = {"clock": STEADY, "counter": UNCOUNTED, **changes}
    return profile(None, task=task or tiny_task(), wish=options.pop("wish", Wish(seconds=0.05)), **options)


# --- the model ---------------------------------------------------------------------------------------------------


def test_flops_and_payload_are_those_of_the_layers() -> None:
    """A linear layer n -> m: 2nm a sample forward, and as much again for the gradient of its weights."""
    task = Task(
        name="line",
        model=lambda generator: nn.Linear(5, 3),
        general=Samples(x=torch.zeros(8, 5), y=torch.zeros(8, dtype=torch.int64)),
        train=Samples(x=torch.zeros(8, 5), y=torch.zeros(8, dtype=torch.int64)),
        test=Samples(x=torch.zeros(8, 5), y=torch.zeros(8, dtype=torch.int64)),
    )
    cost = model_cost(task, 0)
    assert cost.flops_per_sample == 2 * 5 * 3 * 2
    assert cost.parameters == 18
    assert cost.upload_bits == cost.download_bits == 18 * 32


def test_the_frame_s_size_is_that_of_the_frame_a_device_sends() -> None:
    cost, task = model_cost(tiny_task(), 0), tiny_task()
    engine = Engine(name="d", scenario_sha256="0" * 64, data=task.train, model=task.build(0).train(), loss=task.loss)
    figures = {"clock_hz": 1e9, "power_w": 0.1, "compute_s": 0.1, "upload_s": 0.1}
    engine.take(Order(stage=Stage.FINETUNE, seed=0, batch=4, first=0, **figures))
    sent = engine.answer(model_frame(task.build(1), 1), "0" * 16, 1.0).pack()
    assert abs(cost.upload_frame_bits / 8 - len(sent)) < 400  # words about clock and power, and digits of times
    assert cost.download_frame_bits == 8 * len(model_frame(task.build(1), 1).pack())
    assert cost.upload_frame_bits > cost.upload_bits
    assert sum(tensor.numel() for tensor in weights_of(task.build(0)).values()) >= cost.parameters


def test_a_model_with_batch_norm_can_be_profiled() -> None:
    cost = model_cost(norm_task(), 0)
    assert cost.download_bits > cost.upload_bits  # its buffers
    found = quick(norm_task())
    assert found.flops_per_s is not None
    assert min(timing.batch for timing in found.sweep) == 4  # it refuses a single sample


def test_a_model_whose_gradient_fails_is_one_line() -> None:
    def no_gradient(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return output.detach().sum(dim=1)

    some = tiny_task()
    task = Task(name="x", model=some.model, general=some.general, train=some.train, test=some.test, loss=no_gradient)
    with pytest.raises(InputError, match=r"^task\.(loss: can't be differentiated|model: fails on a training step)"):
        quick(task)


class Scale(nn.Module):
    """Has no product that PyTorch counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] * self.weight


def test_what_pytorch_does_not_count_is_unmeasured() -> None:
    some = Samples(x=torch.ones(8, 4), y=torch.zeros(8, dtype=torch.int64))
    task = Task(name="scale", model=lambda generator: Scale(), general=some, train=some, test=some)
    found = quick(task)
    entry = entry_of(found, "d", GIVEN)
    assert found.flops_per_s is None
    assert entry["workload"]["flops_per_sample"] is None
    assert entry["device"]["flops_per_cycle"] is None
    assert entry["measured"]["unmeasured"]["flops_per_cycle"] == "PyTorch counts no operations in this model"
    assert "flops_per_cycle" in missing_from(entry)
    json.dumps(entry, allow_nan=False)


# --- speed -------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 9, 25, 100):
        hits = 0
        for _ in range(2000):
            low, _, high = median_interval(rng.exponential(size=n).tolist())
            hits += low <= math.log(2.0) <= high
        assert hits / 2000 >= 0.94, n
    low, middle, high = median_interval([3.0, 1.0, 2.0])
    assert (low, middle, high) == (1.0, 2.0, 3.0)
    many = median_interval(rng.exponential(size=100).tolist())
    assert many[2] - many[0] < 0.8  # and is no wider than it need be: all of them would span about 5


def test_the_sweep_times_batches_with_one_thread_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "all_threads", lambda: 2)
    before = torch.get_num_threads()
    found = quick(wish=Wish(seconds=0.05, batch=7))
    assert torch.get_num_threads() == before
    assert {timing.threads for timing in found.sweep} == {1, 2}
    assert {timing.batch for timing in found.sweep if timing.threads == 1} >= {1, 4, 7, 16}
    assert found.chosen.batch == 7
    assert all(timing.low_s <= timing.step_s <= timing.high_s for timing in found.sweep)
    assert all(timing.repetitions >= 6 for timing in found.sweep)
    flops = found.cost.flops_per_sample
    assert flops is not None
    assert found.flops_per_s == flops * 7 / found.chosen.step_s
    assert found.flops_per_cycle == found.flops_per_s / 2e9  # one thread: the faster core's clock


def test_a_machine_that_is_busy_with_something_else_is_said_to_be() -> None:
    found = quick(clock=ClockReader(source="made up", note="a virtual machine", read=lambda: [1e9]))
    assert 0 < found.chosen.processor_share <= 1
    for share, count in ((0.5, 2), (0.95, 1)):
        other = replace(found, chosen=replace(found.chosen, processor_share=share))
        assert len(other.notes) == count
        assert other.notes[-1] == "the clock is that of a virtual machine"
    busy = entry_of(replace(found, chosen=replace(found.chosen, processor_share=0.43)), "d", {})["measured"]["notes"]
    assert busy[0].startswith("the machine was busy with something else (this process got 43% of its 1 processor)")


def test_the_entry_s_batch_is_no_larger_than_the_device_s_samples() -> None:
    found = quick(wish=Wish(seconds=0.05, most=10))
    assert max(timing.batch for timing in found.sweep) == 10
    assert found.chosen.batch <= 10


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ({"seconds": 0.0}, "--seconds: holds 0.0"),
        ({"seconds": math.nan}, "--seconds: holds nan"),
        ({"threads": 10**6}, "--threads: holds 1000000, should hold a whole number from 1 to"),
        ({"device": "tpu"}, "--device: holds 'tpu', should hold cpu or cuda"),
    ],
)
def test_a_wish_that_can_t_be_had(wish: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as bad:
        quick(wish=Wish(**wish))
    assert bad.value.problems[0].startswith(line)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="PyTorch finds no CUDA device here"):
        Stepper.of(tiny_task(), 0, "cuda")


# --- clock -------------------------------------------------------------------------------------------------------


def cpu(root: Path, core: int, **files: int) -> Path:
    folder = root / f"cpu{core}" / "cpufreq"
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


CPUINFO = (
    "processor : 0\nmodel name : Some CPU\nflags : fpu {flag}\ncpu MHz : 2599.998\n\nprocessor : 1\ncpu MHz : 1200.5\n"
)


def test_the_clock_is_read_from_cpufreq_first(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(flag="sse"))
    cpu(tmp_path, 0, scaling_cur_freq=1_800_000)
    cpu(tmp_path, 1, scaling_cur_freq=900_000)
    reader = find_clock(tmp_path, tmp_path / "cpuinfo")
    assert reader.source.startswith("cpufreq")
    assert reader.read is not None
    assert reader.read() == [1.8e9, 0.9e9]
    (tmp_path / "cpu1" / "cpufreq" / "scaling_cur_freq").unlink()
    assert reader.read() == [1.8e9]


@pytest.mark.parametrize(("flag", "doubt"), [("sse", ""), ("hypervisor", "a virtual machine")])
def test_else_from_proc(tmp_path: Path, flag: str, doubt: str) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(flag=flag))
    reader = find_clock(tmp_path / "none", tmp_path / "cpuinfo")
    assert reader.read is not None
    assert reader.read() == [2599.998e6, 1200.5e6]
    assert reader.note.startswith(doubt)
    assert machine_of("cpu", tmp_path / "cpuinfo")["processor"] == "Some CPU"
    assert machine_of("cpu", tmp_path / "cpuinfo")["virtual"] is (flag == "hypervisor")


def test_without_a_clock_there_are_no_flops_per_cycle(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Processor : ARMv7\n")
    reader = find_clock(tmp_path / "none", tmp_path / "cpuinfo")
    assert reader.read is None
    found = quick(clock=reader)
    entry = entry_of(found, "d", GIVEN)
    assert found.flops_per_s is not None  # this one needs no clock
    assert entry["device"]["max_clock_hz"] is None
    assert entry["device"]["flops_per_cycle"] is None
    assert "tells no clock" in entry["measured"]["unmeasured"]["max_clock_hz"]


def test_a_reading_is_that_of_the_busy_cores() -> None:
    log = ClockLog(threads=2)
    for clocks in ([1.0, 3.0, 2.0, 0.5], [4.0, 4.0, 1.0], [0.0]):
        log.add(clocks)
    assert log.readings == [2.5, 4.0]


# --- energy ------------------------------------------------------------------------------------------------------


def test_rapl_is_read_as_by_a_federated_device(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("900")
    (zone / "max_energy_range_uj").write_text("1000")
    counter = find_counter("cpu", tmp_path)
    assert isinstance(counter, Counter)
    assert counter.source.startswith("rapl")
    before = counter.read()
    (zone / "energy_uj").write_text("100")  # it has begun anew
    assert counter.joules(before, counter.read()) == pytest.approx(200e-6)


class Board:
    """As Zeus' Jetson: energies in millijoules, by rail."""

    def __init__(self, **rails: float) -> None:
        self.rails = rails

    def get_available_metrics(self) -> set[str]:
        return set(self.rails)

    def get_total_energy_consumption(self) -> SimpleNamespace:
        self.rails = {key: value + 1500.0 for key, value in self.rails.items()}
        return SimpleNamespace(**self.rails)


class Library:
    """As the module zeus.device."""

    def __init__(self, board: Board | None = None, gpu: bool | None = None) -> None:
        self.board, self.gpu = board, gpu

    def get_soc(self) -> Board:
        if self.board is None:
            raise RuntimeError("No observable SoC was found on the current machine.\nand more")
        return self.board

    def get_gpus(self) -> Any:
        if self.gpu is None:
            raise RuntimeError("NVML unavailable")
        return SimpleNamespace(
            supports_get_total_energy_consumption=lambda index: self.gpu,
            get_total_energy_consumption=lambda index: 5000.0,
        )


@pytest.mark.parametrize(
    ("rails", "words"),
    [
        ({"cpu_energy_mj": 1.0, "total_energy_mj": 9.0}, "Board through Zeus, the processor's rail"),
        ({"total_energy_mj": 9.0, "gpu_energy_mj": 1.0}, "Board through Zeus, the whole board"),
    ],
)
def test_the_rails_of_a_board_are_read_through_the_library(tmp_path: Path, rails: dict[str, float], words: str) -> None:
    counter = find_counter("cpu", tmp_path, lambda: Library(Board(**rails)))
    assert isinstance(counter, Counter)
    assert counter.source == words
    assert counter.joules(counter.read(), counter.read()) == 1.5
    assert counter.joules(2.0, 1.0) is None
    assert counter.joules(None, 1.0) is None


def test_a_gpu_s_counter_is_read_through_the_library(tmp_path: Path) -> None:
    counter = find_counter("cuda", tmp_path, lambda: Library(gpu=True))
    assert isinstance(counter, Counter)
    assert counter.read() == 5000.0
    for gpu, why in ((False, "no energy counter"), (None, "NVML unavailable")):
        absent = find_counter("cuda", tmp_path, lambda gpu=gpu: Library(gpu=gpu))
        assert isinstance(absent, Absent)
        assert why in absent.why


def test_why_there_is_no_counter_is_said(tmp_path: Path) -> None:
    def not_installed() -> Any:
        raise MissingExtra("energy", "zeus")

    for library, why in (
        (not_installed, "pip install 'pretune[energy]'"),
        (Library, "Zeus finds no other counter (No observable SoC was found on the current machine.)"),
        (lambda: Library(Board(gpu_energy_mj=1.0)), "no rail of its processor"),
    ):
        absent = find_counter("cpu", tmp_path, library)
        assert isinstance(absent, Absent)
        assert why in absent.why


# --- power and capacitance ---------------------------------------------------------------------------------------


def powers(*active: tuple[float, float | None], rest: float | None = 3.0) -> Powers:
    return Powers(
        source="made up",
        rest=None if rest is None else Reading(power_w=rest, seconds=1.0, clock_hz=None),
        active=tuple(Reading(power_w=watts, seconds=1.0, clock_hz=clock) for watts, clock in active),
        set_by="set by cpufreq",
    )


def test_the_capacitance_is_fitted_where_the_clock_was_set() -> None:
    kappa, static = 2.5e-28, 4.0
    clocks = (1e9, 1.5e9, 2e9)
    found = switching(powers(*((static + kappa * clock**3, clock) for clock in clocks)))
    assert found.capacitance == pytest.approx(kappa)
    assert found.static_power_w == pytest.approx(static)
    assert "3 clocks set by cpufreq" in found.how


def test_else_it_is_from_the_power_at_rest_and_says_so() -> None:
    found = switching(powers((8.0, 2e9), rest=3.0))
    assert found.capacitance == pytest.approx(5.0 / 8e27)
    assert found.static_power_w == 3.0
    assert found.how.startswith("one clock only")
    assert "8 W computing at 2e+09 Hz less 3 W at rest" in found.how


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        (powers(), "could not be read while computing"),
        (powers((8.0, None)), "the machine tells no clock"),
        (powers((8.0, 2e9), rest=None), "the power at rest could not be read"),
        (powers((2.0, 2e9), rest=3.0), "draws no more (2 W) than rest (3 W)"),
        (powers((9.0, 1e9), (8.0, 2e9)), "don't follow static + capacitance * clock^3"),
        (powers((1.0, 1e9), (20.0, 2e9)), "don't follow"),  # static power would be negative
    ],
)
def test_powers_that_make_no_capacitance_leave_it_unmeasured(readings: Powers, why: str) -> None:
    found = switching(readings)
    assert found.capacitance is None
    assert found.static_power_w is None
    assert why in found.how


class Processor:
    """A made-up machine: its counter obeys P = 2 + 1e-27 f^3 and the limit of its clock, in a time of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = {"scaling_max_freq": 2_000_000, "cpuinfo_min_freq": 500_000, "cpuinfo_max_freq": 2_000_000}
        self.file = cpu(root, 0, **limits) / "scaling_max_freq"
        self.root, self.now, self.joules, self.busy = root, 0.0, 0.0, False
        monkeypatch.setattr(power, "time", SimpleNamespace(monotonic=self.tick, sleep=self.pass_by))
        monkeypatch.setattr(power, "settle", lambda: None)
        self.counter = Counter(source="made up", read=lambda: self.joules, joules=lambda before, after: after - before)
        self.clock = ClockReader(source="made up", read=lambda: [self.hz])

    @property
    def hz(self) -> float:
        return 1e3 * int(self.file.read_text())

    def pass_by(self, seconds: float, watts: float = 2.0) -> None:
        self.now += seconds
        self.joules += watts * seconds

    def tick(self) -> float:
        return self.now

    def stepper(self) -> Any:
        def timeit(number: int) -> None:
            self.pass_by(0.01, 2.0 + 1e-27 * self.hz**3)

        return SimpleNamespace(device="cpu", timer=lambda batch, threads: SimpleNamespace(timeit=timeit))


def test_the_clock_is_set_for_the_powers_and_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Processor(tmp_path, monkeypatch)
    found = measure_powers(
        machine.counter,
        machine.clock,
        machine.stepper(),
        batch=4,
        threads=1,
        seconds=4.0,
        limits=Cpufreq(tmp_path),
    )
    assert [reading.clock_hz for reading in found.active] == [1e9, 1.5e9, 2e9]
    assert found.rest is not None
    assert found.rest.power_w == pytest.approx(2.0)
    constants = switching(found)
    assert constants.capacitance == pytest.approx(1e-27, rel=1e-6)
    assert constants.static_power_w == pytest.approx(2.0, rel=1e-6)
    assert machine.file.read_text().strip() == "2000000"


def test_a_clock_that_can_t_be_set_is_measured_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Processor(tmp_path, monkeypatch)

    def refuse(self: Cpufreq, clock_hz: float) -> float:
        raise PermissionError

    monkeypatch.setattr(Cpufreq, "limit", refuse)
    found = measure_powers(
        machine.counter, machine.clock, machine.stepper(), batch=4, threads=1, seconds=4.0, limits=Cpufreq(tmp_path)
    )
    assert found.set_by == "the clock can't be set: cpufreq refuses (PermissionError)"
    constants = switching(found)
    assert constants.capacitance == pytest.approx(1e-27, rel=1e-6)
    assert constants.how.startswith("one clock only (the clock can't be set: cpufreq refuses")


# --- the entry and the command -----------------------------------------------------------------------------------


def test_an_entry_says_what_is_missing_and_loads_once_it_is_given(tmp_path: Path) -> None:
    found = quick()
    entry = entry_of(found, "cam-1", {})
    assert missing_from(entry) == ["capacitance", "max_power_w", "gain", "bandwidth_hz", "samples"]
    assert entry["measured"]["unmeasured"]["capacitance"] == "no counter here"
    (tmp_path / "a.yaml").write_text(yaml_of(entry))
    with pytest.raises(InputError, match=r"^a\.yaml: capacitance, max_power_w, gain, bandwidth_hz, samples are not"):
        load_entry(tmp_path / "a.yaml")
    whole = entry_of(found, "cam-1", {**GIVEN, "capacitance": 1e-28})
    (tmp_path / "a.yaml").write_text(yaml_of(whole))
    device = load_entry(tmp_path / "a.yaml")
    assert (device.name, device.samples, device.capacitance) == ("cam-1", 600, 1e-28)
    assert device.max_clock_hz == 2e9
    assert device.flops_per_cycle == pytest.approx(found.flops_per_cycle, rel=1e-5)
    assert read_tree(tmp_path / "a.yaml") == whole  # every figure comes back from YAML as it was
    assert whole["measured"]["given"] == [*GIVEN, "capacitance"]
    assert "capacitance" not in whole["measured"]["unmeasured"]


def test_measured_powers_go_into_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Processor(tmp_path, monkeypatch)
    monkeypatch.setattr(Stepper, "timer", _timer_of(machine, Stepper.timer))
    found = quick(clock=machine.clock, counter=machine.counter, limits=Cpufreq(tmp_path))
    entry = entry_of(found, "d", GIVEN)
    assert entry["device"]["capacitance"] == pytest.approx(1e-27, rel=1e-5)
    assert entry["device"]["static_power_w"] == pytest.approx(2.0, rel=1e-5)
    assert missing_from(entry) == []
    assert len(entry["measured"]["figures"]["power"]["computing"]) == 3
    assert set(entry["measured"]["unmeasured"]) == set()


def _timer_of(machine: Processor, real: Any) -> Any:
    """The real timer for the sweep, the made-up machine's where the power is read."""

    def timer(self: Stepper, batch: int, threads: int) -> Any:
        made = machine.stepper().timer(batch, threads)
        swept = real(self, batch, threads)
        return SimpleNamespace(
            blocked_autorange=swept.blocked_autorange, timeit=lambda number: made.timeit(number) or swept.timeit(number)
        )

    return timer


def test_what_the_user_says_is_read_with_units() -> None:
    assert read_given(["gain=-105 dB", "samples = 600", "max_power_w=23 dBm"]) == {
        "gain": pytest.approx(10**-10.5),
        "samples": 600,
        "max_power_w": pytest.approx(0.19952623),
    }
    with pytest.raises(InputError) as bad:
        read_given(["gain", "gian=1", "gain=1", "gain=2", "samples=1.5"])
    assert [line.split(",")[0] for line in bad.value.problems] == [
        "--set: holds 'gain'",
        "--set.gian: is not a known key; did you mean 'gain'?",
        "--set gain: is given twice",
        "--set samples: holds '1.5'",
    ]


SCENARIO = {"task": {"name": "digits", "model": {"kind": "mlp", "hidden": 8}}}


def test_the_command_writes_an_entry_that_makes_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(SCENARIO))
    (tmp_path / "profiles").mkdir()
    out = tmp_path / "profiles" / "cam-1.yaml"
    words = ["profile", str(tmp_path / "mine.json"), "--seconds", "0.2", "--name", "cam-1", "-o", str(out)]
    known = {**GIVEN, "capacitance": 1e-28, "flops_per_cycle": 4, "max_clock_hz": 1e9}
    for key, value in known.items():
        words += ["--set", f"{key}={value}"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Sustained" in shown
    assert "cam-1.yaml" in shown.replace("\n", "")
    assert main(words) == 2  # nothing is overwritten
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--force", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("missing") == []
    assert printed == read_tree(out)
    fleet = small_scenario().to_dict() | {"devices": {"folder": "profiles"}}
    assert scenario_from_dict(fleet, tmp_path).devices.max_clock_hz.tolist() == [1e9]


def test_bad_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(SCENARIO))
    (tmp_path / "none.json").write_text("{}")
    path = str(tmp_path / "mine.json")
    for words, line in (
        ([str(tmp_path / "none.json")], "pretune: task: is missing"),
        ([path, "-o", str(tmp_path / "x.txt")], f"pretune: {tmp_path / 'x.txt'}: has the suffix '.txt', should have"),
        ([path, "--set", "gian=3"], "pretune: --set.gian: is not a known key; did you mean 'gain'?"),
        ([path, "--name", "a\nb", "--seconds", "0.05"], "pretune: --name: holds 'a\\nb', should hold a name"),
        ([str(tmp_path / "absent.yaml")], "pretune: absent.yaml: does not exist"),
    ):
        assert main(["profile", *words, "-q"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(line)
        assert error.count("\n") == 1
