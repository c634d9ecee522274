"""A report as one HTML page that loads and runs nothing: for a browser, a phone, a printer, an attachment.

What is foreign in it (names, messages) is text: the template escapes all that it is given, and what a screen does not
show (control characters, marks of writing direction) is made visible as in the terminal.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.records import Report
from pocketforge.streams import printable

# A build writes a page at its end: its light parent must not have loaded this before.
if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from pocketforge.report.page.parts import Page

_HERE = Path(__file__).parent


def write(report: Report) -> str:
    from pocketforge.report.page.sections import page_of

    return rendered(page_of(report))


def rendered(page: Page) -> str:
    """A page as HTML."""
    text: str = _environment().get_template("page.html").render(page=page)
    return text.rstrip("\n")


def in_notebook(report: Report) -> str:
    """The report in a few rows, to stand in a notebook's cell or another page."""
    from pocketforge.report.choice import quality_of
    from pocketforge.report.page.notebook import devices_of, target_rows, wrong_lines

    text: str = (
        _environment()
        .get_template("notebook.html")
        .render(
            report=report,
            quality=quality_of(report),
            times=devices_of(report),
            rows=target_rows(report),
            wrong=wrong_lines(report),
        )
    )
    return text


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from pocketforge.report.page.svg import target_colour

    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["target_colour"] = target_colour
    made.filters["breakable"] = _breakable
    return made


def _visible(value: Any) -> Any:
    """Text without what a reader would not see; what is markup of ours stays."""
    return printable(value, lines=True) if type(value) is str else value


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line behind its marks."""
    from markupsafe import Markup, escape

    parts = (escape(printable(part, lines=True)) for part in re.split(r"(?<=[_./+-])", name))
    return Markup("<wbr>").join(parts)
