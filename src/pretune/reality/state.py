"""What must be kept between two rounds, and what a round meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.physics.types import Bools, Floats

ARRAYS = ("scatter", "shadow", "up", "warmth_k")


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """What all devices meet in one round; arrays of shape (K,), read-only.

    `gain` is the channel power gain throughout the round, zero where there is no channel at all. `available` says
    which devices answer. `clock_limit_hz` is the highest clock there is now. `compute_factor` multiplies the time of
    computing and, at the same power, its energy. `time_s` is when the round begins.
    """

    round: int
    time_s: float
    gain: Floats
    available: Bools
    clock_limit_hz: Floats
    compute_factor: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Where all processes stand at the beginning of a round; `round` counts those that were met (0 before the first).

    `scatter` (K, 2) is the scattered part of the fading, normal, of variance one half each; `shadow` (K,) the
    shadowing over its standard deviation; `up` (K,) who is there; `warmth_k` (K,) the temperature's rise. An array has
    the length zero where nothing of its kind varies. All that is random in round r comes from (seed, r), so this is
    all that a checkpoint needs.
    """

    round: int
    time_s: float
    scatter: Floats
    shadow: Floats
    up: Bools
    warmth_k: Floats

    def to_arrays(self) -> dict[str, Any]:
        """As arrays for an .npz file; `from_arrays` gives the same state again, to the last bit."""
        head = {"round": np.int64(self.round), "time_s": np.float64(self.time_s)}
        return {**head, **{key: getattr(self, key) for key in ARRAYS}}

    def to_dict(self) -> dict[str, Any]:
        """As plain values for a JSON file; `from_dict` gives the same state again, to the last bit."""
        head = {"round": self.round, "time_s": self.time_s}
        return {**head, **{key: getattr(self, key).tolist() for key in ARRAYS}}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Any]) -> State:
        """The state that `to_arrays` wrote.

        Raises:
            InputError: an array is missing or of another kind.
        """
        return State.from_dict(arrays)

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> State:
        """The state that `to_dict` wrote.

        Raises:
            InputError: a key is missing or of another kind.
        """
        try:
            scatter = np.array(tree["scatter"], dtype=np.float64).reshape(-1, 2)
            return State(
                round=int(tree["round"]),
                time_s=float(tree["time_s"]),
                scatter=scatter,
                shadow=np.array(tree["shadow"], dtype=np.float64).reshape(-1),
                up=np.array(tree["up"], dtype=np.bool_).reshape(-1),
                warmth_k=np.array(tree["warmth_k"], dtype=np.float64).reshape(-1),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the state of the channels is damaged ({error})") from None
