"""A run as one HTML file that opens offline: no outside resource, no server, light and dark.

`write_report` is what runs use; pages of other kinds (`compare_page`, `front_page`) go through `fill` and `write_page`.
Jinja2 is imported only when a page is written.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from importlib import resources
from pathlib import Path

from pretune.errors import InputError

__all__ = ["REPORT_NAME", "fill", "page_style", "render", "script_hash", "write_page", "write_report"]

REPORT_NAME = "report.html"
_UNIT = re.compile(r"(?<=\d) (?=[pnµmkMGT]?(?:J|s|Hz|W)\b|%|min\b|h\b)")


def render(folder: str | os.PathLike[str]) -> str:
    """The report's HTML for a run's folder, complete or not.

    Raises:
        InputError: the folder or one of its files is missing or damaged.
    """
    from pretune.report.folder import read_folder
    from pretune.report.view import page

    return fill("page.html.j2", page(read_folder(folder)))


def fill(template: str, page: object) -> str:
    """One HTML file from a template of this package and what it shows; style and script are part of it."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_kept_together,
    )
    return environment.get_template(template).render(
        page=page,
        # Our own files, which hold no data; everything else is escaped.
        style=Markup(page_style()),
        script=Markup(_part("page.js")),
        script_hash=script_hash(),
    )


def script_hash() -> str:
    """The one script that a report holds, as a content security policy names it."""
    digest = hashlib.sha256(_part("page.js").encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def write_report(
    folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, force: bool = False
) -> Path:
    """Write the report of a run's folder, by default into it; whole or not at all.

    Raises:
        InputError: the folder is damaged, or the file exists and `force` is not set.
    """
    target = Path(folder) / REPORT_NAME if out is None else Path(out)
    if target.exists() and not force:
        raise InputError(f"{target}: exists already; give another name or --force")
    return write_page(render(folder), target)


def write_page(html: str, target: Path) -> Path:
    """Write a page's file, whole or not at all.

    Raises:
        InputError: it can't be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(html, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise InputError(f"{target}: can't be written ({error.strerror})") from None
    return target


def _kept_together(value: object) -> object:
    """A number and its unit never end up on two lines."""
    return _UNIT.sub("\u00a0", value) if type(value) is str else value


def page_style() -> str:
    """The style sheet that the report and the studio's page share."""
    return _part("page.css")


def _part(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
