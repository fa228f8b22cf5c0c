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
    if options.has("file"):
        file, name = options.text("file"), options.text("function", "make_task")
        module = _from_file(base / Path(file).expanduser(), file)
    else:
        options.skip("file")
        target = options.text("function")
        where, colon, name = target.partition(":")
        if not (where and colon and name):
            raise InputError.field("task.function", target, 'module:function (or a "file" beside it)')
        module = _imported(where)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError.field("task.function", name, f"a function of {module.__name__.rpartition('.')[2]}")
    return _call(function, name, options.rest())


def _from_file(path: Path, given: str) -> ModuleType:
    """Run a task file as a module of its own, under a name that no other file's has."""
    if not path.is_file():
        raise InputError.field("task.file", given, "a Python file that exists")
    name = f"pretune_task_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError.field("task.file", given, "a Python file (its name should end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"task.file: {given} can't be run ({_told(error)})") from error
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(f"task.function: module {name} can't be imported ({_told(error)})") from error


def _call(function: Callable[..., Any], name: str, options: dict[str, Any]) -> Task:
    try:
        task = function(**options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"task.function: {name} failed ({_told(error)})") from error
    if not isinstance(task, Task):
        raise InputError(f"task.function: {name} returns {type(task).__name__}, should return a pretune task (Task)")
    return task


def _told(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
