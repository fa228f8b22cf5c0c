"""A file becomes a tree of plain values."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a YAML, TOML or JSON file holds."""
    text = Path(path).read_text(encoding="utf-8")
    if Path(path).suffix == ".json":
        tree = json.loads(text)
    else:
        from ruamel.yaml import YAML

        tree = YAML(typ="safe", pure=True).load(text)
    return dict(tree)
