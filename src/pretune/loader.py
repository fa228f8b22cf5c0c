"""A file becomes a tree of plain values; whatever is wrong with the file becomes one line."""

from __future__ import annotations

import json
import os
import re
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.problems import one_line, shown
from pretune.trees import DEEPEST

LARGEST = 64 * 2**20
"""Bytes a scenario file may have; many devices belong into a fleet file."""


class _Unusable(Exception):
    """Why a text is no tree."""


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a YAML, TOML or JSON file holds.

    Raises:
        InputError: the file can't be read, or is not what its suffix says, or holds something else.
    """
    file = Path(path)
    label = file.name if file.name.isprintable() else shown(file.name)
    if file.suffix.lower() not in _READERS:
        raise InputError(f"{label}: has the suffix {file.suffix!r}, should have one of {', '.join(_READERS)}")
    try:
        if not file.is_file():
            raise InputError(f"{label}: {'is not a file' if file.exists() else 'does not exist'}")
        if file.stat().st_size > LARGEST:
            raise InputError(f"{label}: is larger than {LARGEST >> 20} MiB; put the devices into a fleet file")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{label}: is not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{label}: can't be read ({error.strerror or 'no such file'})") from None
    except ValueError:
        raise InputError(f"{label}: can't be read (not a path)") from None
    return tree_of(text, file.suffix, label)


def tree_of(text: str, suffix: str, label: str = "the scenario") -> dict[str, Any]:
    """The mapping that a text of this suffix holds.

    Raises:
        InputError: it is not what the suffix says, or holds something else.
    """
    if not text.strip():
        raise InputError(f"{label}: is empty")
    try:
        tree = _READERS[suffix.lower()](text)
        _check_depth(tree)
    except RecursionError:
        raise InputError(f"{label}: is nested too deeply") from None
    except _Unusable as reason:
        raise InputError(f"{label}: {one_line(str(reason))}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{label}: holds {shown(tree)}, should hold a mapping with the key 'pretune'")
    return tree


def _check_depth(tree: object) -> None:
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _Unusable(f"is nested more than {DEEPEST} levels deep")
        inner: list[object] = []
        for node in level:
            if isinstance(node, dict):
                inner += [value for value in node.values() if isinstance(value, dict | list)]
            elif isinstance(node, list):
                inner += [value for value in node if isinstance(value, dict | list)]
        level = inner


def _read_json(text: str) -> object:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(items)
        if len(tree) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _Unusable(f"holds the key {shown(twice)} twice")
        return tree

    def constant(name: str) -> float:
        raise _Unusable(f"holds {name}, which is not a JSON number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _Unusable(f"is not JSON: line {error.lineno}, {error.msg}") from None
    except ValueError as error:  # a number of thousands of digits
        raise _Unusable(f"is not usable JSON: {error}") from None


_LONG_KEY = re.compile(r"""^[\w \t"'\[-]*(?:\.[\w \t"'-]*){32}""", re.MULTILINE)


def _read_toml(text: str) -> object:
    if _LONG_KEY.search(text):  # tomllib takes a time that is quadratic in the parts of a dotted key
        raise _Unusable(f"has a key of more than {DEEPEST} parts")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise _Unusable(f"is not TOML: {error}") from None


def _read_yaml(text: str) -> object:
    """YAML 1.2, safe types only.

    Aliases are refused: a few lines of them stand for a billion values, and a scenario needs none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what ruamel warns of is an error below, or harmless
            root = yaml.compose(text)
            _check_nodes(root)
            return yaml.constructor.construct_document(root) if root is not None else None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, " if mark is not None else ""
        reason = (error.problem or error.context or "it can't be read").partition(" with value ")[0]
        raise _Unusable(f"is not YAML: {where}{reason}") from None
    except (
        YAMLError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        NotImplementedError,
    ) as error:
        # Beside its own errors ruamel lets through those of int(), float() and date() over a malformed scalar.
        raise _Unusable(f"is not usable YAML: {str(error).partition(chr(10))[0][:200]}") from None


def _check_nodes(root: Any) -> None:
    seen: set[int] = set()
    level, depth = [root] if root is not None else [], 0
    while level:
        depth += 1
        inner = []
        for node in level:
            line = node.start_mark.line + 1
            if id(node) in seen:
                raise _Unusable(f"uses an alias to line {line}, should spell the value out")
            if depth > DEEPEST:
                raise _Unusable(f"is nested more than {DEEPEST} levels deep at line {line}")
            seen.add(id(node))
            if node.id == "mapping":
                inner += [part for pair in node.value for part in pair]
            elif node.id == "sequence":
                inner += node.value
        level = inner


_READERS: dict[str, Callable[[str], object]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": _read_toml,
    ".json": _read_json,
}
