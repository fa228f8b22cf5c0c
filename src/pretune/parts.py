"""The base of the scenario's models, and the translation of pydantic's errors into pretune's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pretune.errors import InputError
from pretune.fields import Quantity, Text
from pretune.problems import Problems, Refused, join, shown


class Part(BaseModel):
    """A frozen part of a scenario; unknown keys are errors, and every error is an `InputError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise refusal(type(self), error) from None

    # Without this mark pydantic would call __init__ for nested parts too, and their paths would be lost.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def refusal(model: type[BaseModel], error: ValidationError) -> InputError:
    """Pydantic's errors over `model`, as lines ``path: holds X, should hold Y``."""
    problems = Problems()
    for item in error.errors(include_url=False):
        loc, kind, value = item["loc"], item["type"], item["input"]
        path = ""
        for part in loc:
            path = join(path, part)
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Refused):
            problems.more(cause.problems)
        elif kind == "missing":
            problems.missing(path, _should(model, loc))
        elif kind in ("extra_forbidden", "invalid_key"):
            parent = _model_at(model, loc[:-1])
            problems.unknown(path[: -len(join("", loc[-1])) - 1] if len(loc) > 1 else "", loc[-1], parent.model_fields)
        elif kind == "should":
            problems.holds(path, value, item["msg"])
        elif kind == "enum":
            problems.holds(path, value, str(item["ctx"]["expected"]))
        else:
            problems.holds(path or "the scenario", value, _should(model, loc))
    return problems.error()


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _should(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What the field at `loc` should hold, from its own description."""
    if not loc or str(loc[-1]) not in (fields := _model_at(model, loc[:-1]).model_fields):
        return f"a mapping with the keys {', '.join(model.model_fields)}"
    field = fields[str(loc[-1])]
    for mark in field.metadata:
        if isinstance(mark, Quantity | Text):
            return mark.should
    inner = _model_at(model, loc)
    if issubclass(inner, BaseModel) and inner is not _model_at(model, loc[:-1]):
        return f"a mapping with the keys {', '.join(inner.model_fields)}"
    return field.description or shown(field.annotation)
