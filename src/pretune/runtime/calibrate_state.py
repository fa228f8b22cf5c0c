"""What a calibration has seen so far, in a file that an interrupted one goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretune.convergence.estimate.path import Look
from pretune.convergence.estimate.repeat import Repetition
from pretune.errors import InputError
from pretune.runtime.checkpoint import write_whole


@dataclass(kw_only=True, eq=False)
class State:
    """Repetitions that are done, the looks of the one that is not, and the seconds they took."""

    path: Path
    identity: dict[str, Any]
    done: list[Repetition] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def open(path: Path, identity: Mapping[str, Any], *, resume: bool) -> State:
        """A new state, or with `resume` what the file holds, if there is one.

        Raises:
            InputError: there is a file and `resume` is false, or it is damaged, or of another calibration.
        """
        fresh = State(path=path, identity=dict(identity))
        if not path.exists():
            return fresh
        if not resume:
            raise InputError(
                f"{path}: an unfinished calibration is there; go on with --resume, or remove it with --force"
            )
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            found = State(
                path=path,
                identity=dict(tree["identity"]),
                done=[Repetition.from_dict(one) for one in tree["done"]],
                looks=[Look.from_dict(look) for look in tree["looks"]],
                seconds=float(tree["seconds"]),
            )
        except (OSError, ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}: is not the state of a calibration, or damaged; start afresh with --force"
            ) from None
        other = [
            key for key in fresh.identity if found.identity.get(key) != json.loads(json.dumps(fresh.identity[key]))
        ]
        if other:
            raise InputError(
                f"{path}: was begun with other {', '.join(other)}; give the same again, or start afresh with --force"
            )
        return found

    def save(self) -> None:
        """Write all of it; a crash leaves the old file or the new one.

        Raises:
            InputError: the file can't be written.
        """
        tree = {
            "pretune_calibration": 1,
            "identity": self.identity,
            "seconds": self.seconds,
            "done": [one.to_dict() for one in self.done],
            "looks": [look.to_dict() for look in self.looks],
        }
        try:
            write_whole(self.path, json.dumps(tree, allow_nan=False).encode())
        except OSError as error:
            raise InputError(f"{self.path}: can't be written ({error.strerror})") from None
