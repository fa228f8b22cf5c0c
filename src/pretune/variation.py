"""How channels and devices vary over a run: the scenario's `variation`, read and validated.

What the processes are is in `pretune.reality`; what a plan promises under them is in `pretune.uncertainty`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, ValidationError, ValidationInfo, model_validator

from pretune.cell import Cell, PathLoss, Sight
from pretune.fields import Quantity
from pretune.parts import Part, mapping_of, problems_of
from pretune.problems import Problems, join, refused
from pretune.traces import TRACE_SHOULD, Trace, trace_of

__all__ = [
    "SECTIONS",
    "AtEnd",
    "Availability",
    "Correlation",
    "Fading",
    "FadingKind",
    "Jitter",
    "JitterKind",
    "Mobility",
    "Sections",
    "Shadowing",
    "Throttling",
    "Trace",
    "Variation",
]

MOST_WAYPOINTS = 1000


class FadingKind(StrEnum):
    """The law of a round's small-scale fading."""

    RAYLEIGH = "rayleigh"
    RICIAN = "rician"


class Correlation(StrEnum):
    """How the fading of one round goes with that of the round before."""

    NONE = "none"
    GAUSS_MARKOV = "gauss_markov"
    JAKES = "jakes"


class AtEnd(StrEnum):
    """What a device does at the last waypoint."""

    STOP = "stop"
    BACK = "back"
    LOOP = "loop"


class JitterKind(StrEnum):
    """The law of the factor on a computation's time."""

    LOGNORMAL = "lognormal"
    UNIFORM = "uniform"


class Fading(Part):
    """Block fading: one complex gain a round and device, whose power has mean one."""

    kind: FadingKind = Field(description="`rayleigh`: no direct path; `rician`: a direct path of `k_factor`.")
    k_factor: Annotated[float, Quantity(noun="power ratio", unit="", example="6 dB", si=4, most=1e4)] | None = Field(
        default=None, description="Power of the direct path over that of all others (`rician` needs it)."
    )
    correlation: Correlation = Field(
        default=Correlation.NONE,
        description="From round to round: `none`; `gauss_markov`: e^(-Δ/coherence_s); `jakes`: J₀(2π·doppler_hz·Δ) "
        "from each round to the next, Δ seconds later.",
    )
    coherence_s: Annotated[float, Quantity(noun="time", unit="s", example="2 s", si=2)] | None = Field(
        default=None, description="Correlation time (`gauss_markov` needs it)."
    )
    doppler_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="0.5 Hz", si=0.5)] | None = Field(
        default=None, description="Largest Doppler shift (`jakes` needs it)."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = Problems()
        _needed(problems, self, "k_factor", self.kind is FadingKind.RICIAN, f"kind {self.kind.value}")
        how = f"correlation {self.correlation.value}"
        _needed(problems, self, "coherence_s", self.correlation is Correlation.GAUSS_MARKOV, how)
        _needed(problems, self, "doppler_hz", self.correlation is Correlation.JAKES, how)
        problems.refuse()
        return self


class Shadowing(Part):
    """Log-normal shadowing: normal in decibels, first-order autoregressive in time, its power of mean one."""

    std_db: Annotated[float, Quantity(noun="number of decibels", unit="", si=6, zero=True, most=30)] = Field(
        description="Standard deviation."
    )
    correlation_s: Annotated[float, Quantity(noun="time", unit="s", example="60 s", si=60, zero=True)] = Field(
        description="Time after which the correlation has fallen to 1/e; zero for a new draw each round."
    )


def _read_waypoints(value: object) -> tuple[tuple[float, float], ...]:
    should = f"a list of 1 to {MOST_WAYPOINTS} places [x, y], such as [['0 m', '30 m'], [200, 30]]"
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_WAYPOINTS:
        raise refused(value, should)
    problems, length = Problems(), Quantity(noun="length", unit="m", si=30, least=-1e5, most=1e5, zero=True)
    places = []
    for i, pair in enumerate(value):
        try:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError
            places.append((length.read(pair[0]), length.read(pair[1])))
        except ValueError:
            problems.holds(f"[{i}]", pair, "[x, y] in metres from the base station, at most 1e5 each way")
    problems.refuse()
    return tuple(places)


class Mobility(Part):
    """A device's way past the base station, which stands at (0, 0): the path loss changes with the distance.

    The scenario's `gain` is the one at the first waypoint.
    """

    waypoints_m: Annotated[tuple[tuple[float, float], ...], PlainValidator(_read_waypoints)] = Field(
        description="Places [x, y] that it passes, in metres.",
        examples=["a list of places [x, y], such as [['0 m', '30 m'], [200, 30]]"],
    )
    speed_m_per_s: Annotated[float, Quantity(noun="speed", unit="m/s", example="5 km/h", si=1.4, most=1000)] = Field(
        description="Speed along the way."
    )
    at_end: AtEnd = Field(
        default=AtEnd.BACK, description="At the last waypoint: `stop`, go the same way `back`, or `loop` to the first."
    )
    cell: Cell = Field(
        description="Path-loss model, keys as of a drawn population's `cell`. `umi` and `uma` need `line_of_sight` "
        "`always` or `never`; no shadowing is drawn here."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = Problems()
        if self.cell.model is not PathLoss.LOG_DISTANCE and self.cell.line_of_sight not in (Sight.ALWAYS, Sight.NEVER):
            problems.missing("cell.line_of_sight", "always or never: a way has no sight drawn at random")
        for i, place in enumerate(self.waypoints_m):
            if math.hypot(*place) > self.cell.radius_m:
                problems.holds(f"waypoints_m[{i}]", list(place), f"a place within radius_m = {self.cell.radius_m:g}")
        problems.refuse()
        return self


class Availability(Part):
    """Whether a device answers: a Markov chain in time, on and off."""

    mean_up_s: Annotated[float, Quantity(noun="time", unit="s", example="10 min", si=600)] = Field(
        description="Mean time from coming to leaving."
    )
    mean_down_s: Annotated[float, Quantity(noun="time", unit="s", example="30 s", si=30)] = Field(
        description="Mean time from leaving to coming back."
    )

    @property
    def share_up(self) -> float:
        """The long-run share of time that the device is there."""
        return 1.0 / (1.0 + self.mean_down_s / self.mean_up_s)


class Throttling(Part):
    """A clock that falls with the temperature: one thermal resistance and one time constant.

    The temperature's rise over the surroundings nears ``resistance x power``; the highest clock falls in a straight
    line from all of `max_clock_hz` at `from_k` to `floor` of it at `to_k`.
    """

    resistance_k_per_w: Annotated[float, Quantity(noun="thermal resistance", unit="K/W", example="20 K/W", si=20)] = (
        Field(description="Rise of the temperature per watt that the processor draws.")
    )
    time_constant_s: Annotated[float, Quantity(noun="time", unit="s", example="2 min", si=120)] = Field(
        description="Time constant of the warming and the cooling."
    )
    from_k: Annotated[float, Quantity(noun="rise of temperature", unit="K", example="35 K", si=35, most=500)] = Field(
        description="Rise over the surroundings at which throttling begins; a run starts without a rise."
    )
    to_k: Annotated[float, Quantity(noun="rise of temperature", unit="K", example="55 K", si=55, most=500)] = Field(
        description="Rise from which only `floor` is left."
    )
    floor: Annotated[float, Quantity(noun="share", unit="", si=0.4, least=0.01, most=1.0)] = Field(
        default=0.5, description="Share of the highest clock that is always left."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = Problems()
        if not self.from_k < self.to_k:
            problems.holds("to_k", self.to_k, f"more than from_k = {self.from_k:g}")
        problems.refuse()
        return self


class Jitter(Part):
    """A factor on each round's computing time, and on its energy, drawn anew each round."""

    kind: JitterKind = Field(description="`lognormal`: of mean one; `uniform`: between `least` and `most`.")
    sigma: Annotated[float, Quantity(noun="number", unit="", si=0.2, zero=True, most=3.0)] | None = Field(
        default=None, description="Standard deviation of the factor's logarithm (`lognormal` needs it)."
    )
    least: Annotated[float, Quantity(noun="factor", unit="", si=0.9, least=0.01, most=100.0)] | None = Field(
        default=None, description="Smallest factor (`uniform` needs it)."
    )
    most: Annotated[float, Quantity(noun="factor", unit="", si=1.5, least=0.01, most=100.0)] | None = Field(
        default=None, description="Largest factor (`uniform` needs it)."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems, how = Problems(), f"kind {self.kind.value}"
        _needed(problems, self, "sigma", self.kind is JitterKind.LOGNORMAL, how)
        _needed(problems, self, "least", self.kind is JitterKind.UNIFORM, how)
        _needed(problems, self, "most", self.kind is JitterKind.UNIFORM, how)
        if self.least is not None and self.most is not None and self.least > self.most:
            problems.holds("most", self.most, f"at least least = {self.least:g}")
        problems.refuse()
        return self


def _needed(problems: Problems, part: Part, key: str, needed: bool, how: str) -> None:
    value = getattr(part, key)
    if needed and value is None:
        problems.missing(key, f"{type(part).model_fields[key].description}")
    elif value is not None and not needed:
        problems.holds(key, value, f"nothing: {how} has none, leave it out")


class Sections(Part):
    """What may vary; what is left out (or null) does not."""

    fading: Fading | None = Field(default=None, description="Block fading, below.")
    shadowing: Shadowing | None = Field(default=None, description="Log-normal shadowing, below.")
    mobility: Mobility | None = Field(default=None, description="A way past the base station, below.")
    availability: Availability | None = Field(default=None, description="Leaving and coming back, below.")
    throttling: Throttling | None = Field(default=None, description="A clock that falls with the temperature, below.")
    jitter: Jitter | None = Field(default=None, description="A factor on computing times, below.")


SECTIONS = tuple(Sections.model_fields)
DEVICES_SHOULD = "a mapping from devices' names to what differs for them, such as {cam-1: {fading: null}}"


def _read_overrides(value: object) -> tuple[tuple[str, Sections], ...]:
    if isinstance(value, tuple):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise refused(value, DEVICES_SHOULD)
    problems, found = Problems(), []
    for name, tree in value.items():
        if not isinstance(name, str) or not isinstance(tree, Mapping | Sections):
            problems.holds(join("", name), tree, mapping_of(Sections))
            continue
        try:
            found.append((name, tree if isinstance(tree, Sections) else Sections.model_validate(dict(tree))))
        except ValidationError as error:
            problems.more(problems_of(Sections, error), join("", name))
    problems.refuse()
    return tuple(found)


def _read_trace(value: object, info: ValidationInfo) -> Trace | None:
    if value is None or isinstance(value, Trace):
        return value
    return trace_of(value, (info.context or {}).get("base", Path()))


class Variation(Sections):
    """How channels and devices vary over a run; a run with the same seed meets the same fate."""

    seed: Annotated[int, Quantity(noun="as a seed", unit="", si=0, whole=True, zero=True)] = Field(
        default=0, description="Seed of all that is drawn."
    )
    trace: Annotated[Trace | None, PlainValidator(_read_trace)] = Field(
        default=None, description="Measured gains, below.", examples=[TRACE_SHOULD]
    )
    devices: Annotated[tuple[tuple[str, Sections], ...], PlainValidator(_read_overrides)] = Field(
        default=(),
        description="By device's name: sections that replace those above for it; null takes one away.",
        examples=[DEVICES_SHOULD],
    )

    @cached_property
    def overrides(self) -> dict[str, Sections]:
        """What differs, by device's name."""
        return dict(self.devices)

    def groups(self, key: str, names: tuple[str, ...]) -> Iterator[tuple[Any, list[int] | None]]:
        """A section's values: first the common one (for None: all devices), then each other one with its devices.

        A later one replaces an earlier one for its devices; None as a value stands for nothing.
        """
        yield getattr(self, key), None
        given = {name: part for name, part in self.devices if key in part.model_fields_set}
        if not given:
            return
        index = {name: k for k, name in enumerate(names)}
        for name, part in given.items():
            yield getattr(part, key), [index[name]]

    def only(self, names: tuple[str, ...]) -> Variation:
        """The variation of these devices alone."""
        kept = set(names)
        same = {key: getattr(self, key) for key in self.model_fields_set}
        same["devices"] = tuple((name, part) for name, part in self.devices if name in kept)
        same["trace"] = None if self.trace is None else self.trace.only(kept)
        return Variation(**same)

    def wrong_for(self, names: tuple[str, ...], delay_s: float) -> Problems:
        """What does not go with the devices, or with how long the run may last."""
        problems = Problems()
        known = set(names) if self.devices or self.trace is not None else set()
        for name, _ in self.devices:
            if name not in known:
                problems.unknown("variation.devices", names[:1000], name)
        if self.trace is not None:
            for name in self.trace.names:
                if name not in known:
                    problems.unknown("variation.trace", names[:1000], name)
            short = self.trace.ends_before(delay_s)
            if short is not None and not self.trace.repeat:
                name, end_s = short
                problems.say(
                    f"variation.trace: ends at {end_s:g} s for {name!r}, should last the {delay_s:g} s of "
                    "budget.delay_s, or be repeated (repeat: true)"
                )
        return problems

    def to_dict(self) -> dict[str, Any]:
        """The tree of plain values, in SI, that reads back as the same."""
        tree: dict[str, Any] = {"seed": self.seed, **_plain(self)}
        if self.trace is not None:
            tree["trace"] = self.trace.to_dict()
        if self.devices:
            tree["devices"] = {
                name: {key: _plain(part).get(key) for key in SECTIONS if key in part.model_fields_set}
                for name, part in self.devices
            }
        return tree


def _plain(sections: Sections) -> dict[str, Any]:
    """The sections that are there."""
    found: dict[str, Any] = {}
    for key in SECTIONS:
        part = getattr(sections, key)
        if part is not None:
            found[key] = _values(part.model_dump(exclude_none=True))
            if key == "mobility" and "shadowing" not in part.cell.model_fields_set:
                del found[key]["cell"]["shadowing"]
    return found


def _values(tree: Any) -> Any:
    """The tree with names for options and lists for places."""
    if isinstance(tree, dict):
        return {key: _values(value) for key, value in tree.items()}
    return (
        [list(place) for place in tree] if isinstance(tree, tuple) else tree.value if isinstance(tree, Enum) else tree
    )
