"""Runs and calibrations: processes of the command line, a folder each, and nothing that only this process knows.

runs/<id>                    the run's folder, as `pretune run -o` makes it
runs/.studio/jobs/<id>       job.json (what was asked, which process), scenario.json, out, log; of a calibration also
                             calibrated.json

What is going on is read from there each time, so a studio that is started again knows it all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretune.report.words import printable
from pretune.studio import process
from pretune.studio.answers import Refused
from pretune.studio.intake import checked
from pretune.studio.settings import Settings

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MOST_LISTED = 200
LOG_BYTES = 4000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run or calibration on disk; `record` is empty for a run that the studio did not start."""

    id: str
    folder: Path
    """Of the run itself; a calibration has none."""
    own: Path
    record: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """run or calibration."""
        return str(self.record.get("kind", "run"))

    @property
    def alive(self) -> bool:
        """Whether its process is at work; of a run started elsewhere, whether somebody holds its folder."""
        return self.own_process is not None or self._is_held_elsewhere

    @property
    def own_process(self) -> int | None:
        """The pid of the process that the studio (this one or an earlier one) started, if that is at work."""
        pid, birth = self.record.get("pid"), self.record.get("birth")
        return pid if isinstance(pid, int) and birth is not None and process.birth(pid) == birth else None

    @property
    def _is_held_elsewhere(self) -> bool:
        return (self.folder / ".lock").is_file() and not self.ended and _is_held(self.folder / ".lock")

    @property
    def ended(self) -> bool:
        """Whether there is a result."""
        return self._result.is_file()

    @property
    def _result(self) -> Path:
        return self.own / "calibrated.json" if self.kind == "calibration" else self.folder / "summary.json"

    @property
    def complaint(self) -> str:
        """The last line that its process wrote about what went wrong."""
        try:
            with (self.own / "log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_BYTES))
                lines = file.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.removeprefix("pretune: ") for line in lines if line.startswith("pretune: ")]
        return printable(said[-1]) if said else ""

    def tree(self, name: str) -> dict[str, Any]:
        """A small JSON file of the run's folder; empty where there is none (yet)."""
        return read_tree(self.folder / name)


def read_tree(path: Path) -> dict[str, Any]:
    """A JSON file that may be missing, or half there."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _is_held(lock: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@dataclass(kw_only=True)
class Jobs:
    """All runs below the operator's folder."""

    settings: Settings
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key: str) -> Job:
        """The job of an id.

        Raises:
            Refused: 404, there is none.
        """
        job = self._job(key) if ID.fullmatch(key) else None
        if job is None:
            raise Refused(404, f"run: there is no run {printable(key)[:70]!r} here", "id")
        return job

    def all(self) -> list[Job]:
        """The newest first."""
        process.reap()
        names: dict[str, float] = {}
        for place in (self.settings.folder, self.settings.own / "jobs"):
            with contextlib.suppress(OSError):
                for entry in os.scandir(place):
                    if ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                        names[entry.name] = max(names.get(entry.name, 0.0), entry.stat().st_mtime)
        newest = sorted(names, key=lambda name: (-names[name], name))
        return [job for name in newest[:MOST_LISTED] if (job := self._job(name)) is not None]

    def _job(self, key: str) -> Job | None:
        process.reap()
        folder, own = self.settings.folder / key, self.settings.own / "jobs" / key
        if folder.is_symlink():
            return None
        record = read_tree(own / "job.json")
        if not record and not ((folder / "plan.json").is_file() and (folder / "scenario.json").is_file()):
            return None
        return Job(id=key, folder=folder, own=own, record=record)

    def start(self, kind: str, scenario: Mapping[str, Any], record: Mapping[str, Any], words: list[str]) -> Job:
        """Start a job; `words` are the command's options beside its files.

        Raises:
            Refused: 429, there are as many at work as there may be.
        """
        with self._guard:
            self._refuse_more()
            key = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            own = self.settings.own / "jobs" / key
            own.mkdir(parents=True)
            (own / "scenario.json").write_text(json.dumps(scenario, allow_nan=False), encoding="utf-8")
            kept = {**record, "kind": kind, "created": time.time(), "words": words}
            return self._launch(Job(id=key, folder=self.settings.folder / key, own=own, record=kept), resume=False)

    def resume(self, job: Job) -> Job:
        """Go on with a job that was interrupted.

        Raises:
            Refused: 409, it is at work or has ended; 429.
            InputError: its task's code is not granted any more.
        """
        with self._guard:
            if job.alive:
                raise Refused(409, "run: is at work", "id")
            if job.ended:
                raise Refused(409, "run: has ended", "id")
            if not job.record:
                where = job.folder.name
                raise Refused(409, f"run: was not started here; go on with pretune run --resume -o {where}", "id")
            self._refuse_more()
            # the operator may have started the studio afresh, with other task files
            limits, files = self.settings.limits, self.settings.task_files
            checked(read_tree(job.own / "scenario.json"), most_devices=limits.devices, task_files=files)
            begun = (job.own / "calibrated.json.calibration.json").is_file() or (job.folder / "run.json").is_file()
            return self._launch(job, resume=begun)

    def cancel(self, job: Job) -> None:
        """What Ctrl-C does: it ends after the round it is in, and can be taken up again.

        Raises:
            Refused: 409, it is not at work, or not a process of the studio's.
        """
        pid = job.own_process
        if pid is None:
            raise Refused(409, "run: is not at work, or was not started here", "id")
        process.interrupt(pid)

    def _launch(self, job: Job, *, resume: bool) -> Job:
        scenario = str(job.own / "scenario.json")
        if job.kind == "calibration":
            words = ["calibrate", scenario, "-o", str(job.own / "calibrated.json"), "--json"]
        else:
            words = ["run", scenario, "-o", str(job.folder), "--quiet"]
        words += [*map(str, job.record["words"]), *["--resume"] * resume]
        pid = process.start(words, out=job.own / "out", log=job.own / "log")
        record = {**job.record, "pid": pid, "birth": process.birth(pid)}
        part = job.own / "job.json.part"
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        part.replace(job.own / "job.json")
        return Job(id=job.id, folder=job.folder, own=job.own, record=record)

    def _refuse_more(self) -> None:
        most = self.settings.limits.jobs
        if sum(job.alive for job in self.all()) >= most:
            message = (
                f"jobs: {most} run{' is' if most == 1 else 's are'} at work, which is the most; wait or cancel one"
            )
            raise Refused(429, message, "jobs")
