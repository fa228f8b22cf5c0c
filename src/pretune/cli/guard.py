"""From an exception to one line on standard error and an exit code; nothing else decides either.

0 done, 2 bad usage or bad input, 3 proven infeasible, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from pretune.errors import CheckFailed, InputError, PretuneError
from pretune.report.words import printable

DEBUG = "PRETUNE_DEBUG"
INTERRUPTED = 130
MOST_LINES = 20


class Interrupted(Exception):
    """Ctrl-C came while something was going on that can be taken up again; the message says how."""


def guarded(call: Callable[[], int]) -> int:
    """Run a command; whatever it raises becomes a line and an exit code."""
    _lenient_streams()
    try:
        code = call()
        if code == INTERRUPTED:  # typer turns Ctrl-C into this by itself
            complain("interrupted")
        if sys.stdout is not None:  # it is None when the shell closed it (>&-)
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _unwritable()  # the reader went away, which is its right: not a word
    except Exception as error:  # noqa: BLE001  the one place where nothing may get through
        return _explain(error)


def complain(*lines: str) -> None:
    """Lines for people on standard error, with what could move the cursor made visible."""
    try:
        for line in lines:
            print(f"pretune: {printable(line)}", file=sys.stderr)
    except OSError:
        pass  # standard error is closed: the exit code still says it


def _explain(error: Exception) -> int:
    if os.environ.get(DEBUG, "") not in ("", "0"):
        import traceback

        traceback.print_exc()
    if isinstance(error, (InputError, CheckFailed)):
        lines = [line for problem in error.problems for line in problem.splitlines()]
        complain(*lines[:MOST_LINES])
        if len(lines) > MOST_LINES:
            complain(f"... and {len(lines) - MOST_LINES} more")
        return error.exit_code
    if isinstance(error, PretuneError):
        complain(" ".join(str(error).splitlines()))
        return error.exit_code
    if isinstance(error, Interrupted):
        complain(str(error))
        return INTERRUPTED
    usage = _usage(error)
    if usage is not None:
        complain(usage)
        return 2
    if type(error).__name__ == "Abort":
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, OSError):
        where = "standard output" if error.filename is None else os.fsdecode(error.filename)
        complain(f"{where}: {error.strerror or error}")
        return _unwritable() if error.filename is None else 1
    if isinstance(error, MemoryError):
        complain("out of memory")
        return 1
    text = " ".join(f"{type(error).__name__}: {error}".split())
    complain(f"internal error: {text} (set {DEBUG}=1 for the traceback)")
    return 1


def _usage(error: Exception) -> str | None:
    """The line for a mistake on the command line. Which click typer carries differs, so it is known by its shape."""
    if not (hasattr(error, "format_message") and getattr(error, "exit_code", None) == 2):
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pretune"
    message = " ".join(str(error.format_message()).split()) or "bad usage"
    return f"{message.rstrip('.')} (see {command} --help)"


def _unwritable() -> int:
    """Standard output can't be written; keep the interpreter from trying again, and complaining, at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    return 1


def _lenient_streams() -> None:
    """A terminal that can't show a character shows its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
