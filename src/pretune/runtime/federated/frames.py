"""What goes over a stream: a frame is a few named values (JSON) and perhaps tensors (safetensors). Nothing is pickled.

    4 bytes "PTF1" | 4 bytes big-endian length of the header | header, a JSON object | body, safetensors or nothing

Every frame that belongs to a round says which one. A reader trusts nothing: it is bounded in size, each value is of
the kind it should be, and what is wrong with it is said in one line.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

MAGIC = b"PTF1"
MOST_HEADER = 1 << 16
"""Bytes a header may have."""
SLACK = 1 << 18
"""Bytes a frame may have beside its tensors' own: header, and the names and shapes in the safetensors file."""
PROTOCOL = 1
"""Counted up when a frame changes its meaning."""


class BadFrame(Exception):
    """A frame that can't be used; the message says why, in words for a log."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One message. `kind` says what it is (messages.py), `values` are plain JSON values, `body` its tensors, packed."""

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""

    def pack(self) -> bytes:
        """The bytes of it."""
        head = json.dumps({"kind": self.kind, **self.values}, allow_nan=False, separators=(",", ":")).encode()
        if len(head) > MOST_HEADER:
            raise ValueError(f"a header of {len(head)} bytes, at most {MOST_HEADER} are allowed")
        return b"".join((MAGIC, struct.pack(">I", len(head)), head, self.body))

    def text(self, key: str) -> str:
        """A text of at most 500 characters."""
        value = self.values.get(key)
        if not isinstance(value, str) or len(value) > 500:
            raise BadFrame(f"{key} holds no text")
        return value

    def whole(self, key: str) -> int:
        """A whole number from 0 to 2^63 - 1."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise BadFrame(f"{key} holds no whole number >= 0")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadFrame(f"{key} is not a finite number")
        return float(value)


def unpack(data: bytes) -> Frame:
    """The frame of these bytes.

    Raises:
        BadFrame: it is cut off, too long a header, or no frame at all.
    """
    if len(data) < 8 or data[:4] != MAGIC:
        raise BadFrame("is no frame of this protocol")
    (size,) = struct.unpack(">I", data[4:8])
    if size > MOST_HEADER or len(data) < 8 + size:
        raise BadFrame("is cut off, or its header is too long")
    try:
        tree = json.loads(data[8 : 8 + size], parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadFrame("its header is not JSON") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str):
        raise BadFrame("its header names no kind")
    kind = tree.pop("kind")
    return Frame(kind=kind, values=tree, body=data[8 + size :])


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of these tensors."""
    return save_tensors({name: tensor.detach().contiguous() for name, tensor in tensors.items()})


def unpack_tensors(body: bytes, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a body, which must have the names, shapes and kinds of `like`.

    Raises:
        BadFrame: no safetensors file, or other tensors than those.
    """
    try:
        found: dict[str, Tensor] = load_tensors(body)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise BadFrame(f"holds no whole tensors ({(str(error).splitlines() or [''])[0][:120]})") from None
    if set(found) != set(like):
        odd = sorted(set(found) ^ set(like))
        raise BadFrame(f"holds other tensors than the model's ({odd[0][:80]})")
    for name, tensor in found.items():
        if tensor.shape != like[name].shape or tensor.dtype != like[name].dtype:
            should = f"{tuple(like[name].shape)} {like[name].dtype}"
            raise BadFrame(f"{name[:80]} has shape {tuple(tensor.shape)} {tensor.dtype}, should have {should}")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
