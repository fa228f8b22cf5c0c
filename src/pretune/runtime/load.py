"""From the scenario's `task` section to a `Task`: a built-in one by name, or the user's own function."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pretune.errors import InputError
from pretune.runtime.builtin import BUILTIN
from pretune.runtime.options import Options
from pretune.runtime.task import Task


def load_task(section: Mapping[str, Any] | None, base: Path | None = None) -> Task:
    """The task that the section describes; relative files are relative to `base` (default: the working folder).

    A section is either ``{name: digits, ...}`` with a name of `builtin.BUILTIN`, or ``{file: my_task.py, function:
    make_task, ...}``, or ``{function: "package.module:make_task", ...}``; in the last two every further key (but
    `partition`, which is read by the runtime) is handed to the function by name. **A task file is code and is run.**

    Raises:
        InputError: one line that names the field: no section, an unknown name, a file or function that can't be
            used, or an option the task does not take.
    """
    base = Path.cwd() if base is None else Path(base)
    if section is None:
        raise InputError(
            "task: is missing; to run, a scenario needs a model and data, for example task: {name: digits}"
        )
    options = Options(section)
    options.skip("partition")
    if options.has("function") or options.has("file"):
        if options.has("name"):
            raise InputError("task.name: is given beside a file or function, should be only one of them")
        options.skip("name")
        return _own(options, base)
    name = options.one_of("name", tuple(BUILTIN))
    return BUILTIN[name](options, base)


def _own(options: Options, base: Path) -> Task:
    task = call_named(options, base)
    if not isinstance(task, Task):
        name = str(options.tree.get("function") or "make_task").rpartition(":")[2]
        kind = type(task).__name__
        raise InputError(f"{options.path}.function: {name} returns {kind}, should return a pretune task (Task)")
    return task


def call_named(options: Options, base: Path) -> Any:
    """What the function makes that a section names by ``file`` and ``function``, or by ``function`` alone.

    The section's other keys are handed to it by name.

    Raises:
        InputError: the file or function can't be used, or it fails.
    """
    at = options.path
    if options.has("file"):
        file, name = options.text("file"), options.text("function", "make_task")
        module = _from_file(base / Path(file).expanduser(), file, at)
    else:
        options.skip("file")
        target = options.text("function")
        where, colon, name = target.partition(":")
        if not (where and colon and name):
            raise InputError.field(f"{at}.function", target, 'module:function (or a "file" beside it)')
        module = _imported(where, at)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError.field(f"{at}.function", name, f"a function of {module.__name__.rpartition('.')[2]}")
    return _call(function, name, options.rest(), at)


def _from_file(path: Path, given: str, at: str) -> ModuleType:
    """Run a task file as a module of its own, under a name that no other file's has."""
    if not path.is_file():
        raise InputError.field(f"{at}.file", given, "a Python file that exists")
    name = f"pretune_task_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError.field(f"{at}.file", given, "a Python file (its name should end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{at}.file: {given} can't be run ({_told(error)})") from error
    return module


def _imported(name: str, at: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(f"{at}.function: module {name} can't be imported ({_told(error)})") from error


def _call(function: Callable[..., Any], name: str, options: dict[str, Any], at: str) -> Any:
    try:
        return function(**options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{at}.function: {name} failed ({_told(error)})") from error


def _told(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
