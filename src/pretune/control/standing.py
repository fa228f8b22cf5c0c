"""Where a steered run is: what is spent, done and left to do, and what was learnt of the devices on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pretune.control.forecast import Expected, Forecast
from pretune.control.moves import Move, Outcome
from pretune.control.noise import Noise
from pretune.control.outlook import LOST_ROUNDS, Outlook
from pretune.convergence.progress import Progress
from pretune.errors import InputError
from pretune.physics.types import Bools, Floats, Ints
from pretune.plans import FinetuneStage, PretrainStage
from pretune.reality import Conditions, State

_KEPT = 1e-12
"""Share of the budgets kept back for rounding errors of the sums; a plan keeps ten times as much."""
_GRACE = 1e-9
"""A plan may use a battery up to the last bit; this is what `pretune check` lets pass for rounding, too."""
_LEARN = 0.2
_BELIEVED = 1.25
"""A clock counts as lying when computing takes this many times as long as it should."""
_SLOWEST = 50.0


@dataclass(kw_only=True, eq=False)
class Standing:
    """Mutable; arrays of shape (K,). `parts_left` are the rounds left in each stage's segment that is under way."""

    energy_left: float
    delay_left: float
    battery_left: Floats
    pretrain_left: int
    finetune_left: int
    parts_left: list[int]
    parts_done: list[int]
    server_batch: int
    server_clock_hz: float
    batch: Ints
    clock_hz: Floats
    power_w: Floats
    upload_s: Floats
    ratio: Floats
    worth_w: float
    longest_s: float
    alive: Bools
    absent_rounds: Ints
    silent: Bools
    """Who was asked last time and really did not answer: being there again does not make up for that."""
    seen_s: Floats
    """When each device was last there."""
    slow: Floats
    """How many times as long as its clock says each device was found to compute."""
    energy_factor: float
    delay_factor: float
    waited_s: float
    since_round_s: float
    drawn_w: Floats | None
    replans: int
    progress: Progress
    forecast: Forecast
    expected: Expected | None
    reality: State
    noise: Noise | None = None
    """What the gradients' variances are found to be, where they are estimated."""

    @staticmethod
    def start(outlook: Outlook, reality: State) -> Standing:
        """Before the first round."""
        plan, scenario, count = outlook.plan, outlook.scenario, len(outlook.fleet)
        pretrain, finetune = plan.pretrain, plan.finetune
        if pretrain is None or finetune is None:
            raise ValueError("a plan without decisions can't be steered")
        prices = plan.multipliers
        energy, delay = -prices.get("energy_j", 0.0), -prices.get("delay_s", 0.0)
        now = Standing(
            energy_left=scenario.budget.energy_j * (1.0 - _KEPT),
            delay_left=scenario.budget.delay_s * (1.0 - _KEPT),
            battery_left=np.array(scenario.devices.battery_j, dtype=np.float64) * (1.0 + _GRACE),
            pretrain_left=pretrain.rounds,
            finetune_left=finetune.rounds,
            parts_left=[0, 0],
            parts_done=[0, 0],
            server_batch=0,
            server_clock_hz=0.0,
            batch=np.ones(count, dtype=np.int64),
            clock_hz=np.array(outlook.fleet.clock_max),
            power_w=np.array(outlook.fleet.power_max),
            upload_s=np.zeros(count),
            ratio=np.ones(count),
            worth_w=delay / energy if energy > 0.0 and delay > 0.0 else 1.0,
            longest_s=outlook.rules.patience * outlook.span_s,
            alive=np.ones(count, dtype=np.bool_),
            absent_rounds=np.zeros(count, dtype=np.int64),
            silent=np.zeros(count, dtype=np.bool_),
            seen_s=np.zeros(count),
            slow=np.ones(count),
            energy_factor=1.0,
            delay_factor=1.0,
            waited_s=0.0,
            since_round_s=0.0,
            drawn_w=None,
            replans=0,
            progress=Progress.start(outlook.base),
            forecast=Forecast(list(outlook.first.scenes)),
            expected=None,
            reality=reality,
        )
        now._enter_part(0, pretrain.parts)
        now._enter_part(1, finetune.parts)
        return now

    @property
    def rounds(self) -> int:
        """Rounds of both stages that were done."""
        return self.progress.pretrain + self.progress.finetune

    def slowness(self, outlook: Outlook) -> Floats:
        """How many times as long as their clocks say devices are given to compute."""
        return outlook.spare * np.where(self.slow > _BELIEVED, self.slow, 1.0)

    def weights(self, outlook: Outlook) -> Floats:
        """The weights of those that are not lost."""
        return outlook.weights_of(self.alive)

    def raised(self, outlook: Outlook) -> Floats:
        """These weights over how likely the devices are to answer."""
        found: Floats = self.weights(outlook) / outlook.probability
        return found

    def spend(self, time_s: float, energy_j: float, device_j: Floats | None) -> None:
        """Take from what is left."""
        self.delay_left -= time_s
        self.energy_left -= energy_j
        if device_j is not None:
            self.battery_left = self.battery_left - device_j

    def seen(self, here: Bools, time_s: float, outlook: Outlook) -> str:
        """Who is there now; returns what is new about who counts as lost, in words."""
        heard = here & ~(self.silent & self.alive)
        self.silent = self.silent & ~heard
        self.absent_rounds = np.where(heard, 0, np.where(here, self.absent_rounds, self.absent_rounds + 1))
        self.seen_s = np.where(heard, time_s, self.seen_s)
        gone = np.where(
            np.isfinite(outlook.away_s), time_s - self.seen_s > outlook.away_s, self.absent_rounds >= LOST_ROUNDS
        )
        alive = np.where(self.alive, ~gone, here)
        names = np.array(outlook.scenario.devices.names)
        news = [
            f"{' and '.join(names[who].tolist())} {what}"
            for who, what in ((self.alive & ~alive, "lost"), (alive & ~self.alive, "back"))
            if who.any()
        ]
        self.alive = alive
        return ", ".join(news)

    def learn(self, move: Move, outcome: Outcome, met: Conditions, missing: Bools) -> None:
        """How long computing really took; of who gave up it is known that it would have taken longer.

        Of who is `missing` nothing is known but that it counts as away until it answers.
        """
        told = self.slow + _LEARN * (met.compute_factor - self.slow)
        late = np.minimum(self.slow * 1.5, _SLOWEST)
        self.slow = np.where(outcome.done, told, np.where(move.who & ~missing, late, self.slow))
        self.absent_rounds = np.where(outcome.done, 0, self.absent_rounds + missing)
        self.silent = (self.silent | missing) & ~outcome.done

    def tick(self, stage: int, outlook: Outlook) -> None:
        """A round of the segment under way was done: on to the next segment where it was the last."""
        if self.parts_left[stage] == 0:
            return  # planned anew: one piece
        self.parts_left[stage] -= 1
        if self.parts_left[stage] == 0:
            self.parts_done[stage] += 1
            whole = outlook.plan.finetune if stage else outlook.plan.pretrain
            self._enter_part(stage, () if whole is None else whole.parts)

    def _enter_part(self, stage: int, parts: tuple[PretrainStage, ...] | tuple[FinetuneStage, ...]) -> None:
        if self.parts_done[stage] >= len(parts):
            return
        part = parts[self.parts_done[stage]]
        self.parts_left[stage] = part.rounds
        if isinstance(part, PretrainStage):
            self.server_batch, self.server_clock_hz = part.batch, part.clock_hz
        else:
            self.batch, self.clock_hz = part.batch.copy(), part.clock_hz.copy()
            self.power_w, self.upload_s = part.power_w.copy(), part.upload_s.copy()

    def to_dict(self) -> dict[str, Any]:
        """Plain values; infinity (no battery limit) is written as null."""
        tree: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Progress | Forecast | State | Noise):
                tree[one.name] = value.to_dict()
            elif isinstance(value, Expected):
                tree[one.name] = asdict(value)
            elif isinstance(value, np.ndarray):
                tree[one.name] = [None if v == math.inf else v for v in value.tolist()]
            else:
                tree[one.name] = value
        return tree

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Standing:
        """What `to_dict` wrote.

        Raises:
            InputError: a key is missing or of another kind.
        """
        whole, flags = {"batch", "absent_rounds"}, {"alive", "silent"}
        try:
            values: dict[str, Any] = {}
            tree = {"silent": [False] * len(tree["alive"]), **tree}  # older checkpoints know of no real devices
            value: Any
            for one in fields(Standing):
                value = tree.get("noise") if one.name == "noise" else tree[one.name]
                if one.name == "noise":  # what was begun before there was such a key goes on without
                    value = None if value is None else Noise.from_dict(value)
                elif one.name == "progress":
                    value = Progress(**value)
                elif one.name == "forecast":
                    value = Forecast.from_dict(value)
                elif one.name == "reality":
                    value = State.from_dict(value)
                elif one.name == "expected":
                    value = None if value is None else Expected(**value)
                elif isinstance(value, list) and one.name not in ("parts_left", "parts_done"):
                    kind: Any = np.int64 if one.name in whole else np.bool_ if one.name in flags else np.float64
                    value = np.array([math.inf if v is None else v for v in value], dtype=kind)
                values[one.name] = value
            return Standing(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the state of the run's steering is damaged ({error})") from None


def made_up(shares: Floats, wanted: Bools, left: Bools) -> float:
    """By what the shares of those that are left have to be raised to add up to those of all that were wanted."""
    total = float(shares[left].sum())
    return float(shares[wanted].sum()) / total if total > 0.0 else 1.0
