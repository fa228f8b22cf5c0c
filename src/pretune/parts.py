"""The base of the scenario's models, and the translation of pydantic's errors into pretune's."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pretune.fields import mark_of
from pretune.problems import Problems, Refused, join


class Part(BaseModel):
    """A frozen part of a scenario; unknown keys are errors, and every error is an `InputError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise problems_of(type(self), error).error() from None

    # Without this mark pydantic would call __init__ for nested parts too, and their paths would be lost.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def problems_of(model: type[BaseModel], error: ValidationError) -> Problems:
    """Pydantic's errors over `model`, as lines ``path: holds X, should hold Y``."""
    problems = Problems()
    for item in error.errors(include_url=False):
        loc, kind, value = item["loc"], item["type"], item["input"]
        above = _path(loc[:-1])
        path = join(above, loc[-1]) if loc else ""
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Refused):
            problems.more(cause.problems, path)
        elif kind == "missing":
            problems.missing(path, _should(model, loc))
        elif kind in ("extra_forbidden", "invalid_key"):
            problems.unknown(above, _model_at(model, loc[:-1]).model_fields, loc[-1])
        elif kind == "should":
            problems.holds(path, value, item["msg"])
        elif kind == "enum":
            problems.holds(path, value, str(item["ctx"]["expected"]))
        else:
            problems.holds(path, value, _should(model, loc))
    return problems


def mapping_of(model: type[BaseModel]) -> str:
    """What should stand where the model is read."""
    return f"a mapping with the keys {', '.join(model.model_fields)}"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path = join(path, part)
    return path


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for key in loc:
        inner = model.model_fields[str(key)].annotation
        for kind in (inner, *getattr(inner, "__args__", ())):  # also behind `| None`
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def _should(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What the field at `loc` should hold, from its own description."""
    above, here = _model_at(model, loc[:-1]), _model_at(model, loc)
    if here is not above or not loc:
        return mapping_of(here)
    field = above.model_fields[str(loc[-1])]
    mark = mark_of(field)
    if mark is not None:
        return mark.should
    if isinstance(field.annotation, type) and issubclass(field.annotation, Enum):
        return f"one of {', '.join(repr(option.value) for option in field.annotation)}"
    return str((field.examples or [field.description])[0])
