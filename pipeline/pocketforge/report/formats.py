"""In which formats a report can be written: visible rows of name → module, imported on use.

A module has `write(report: Report) -> str`, the whole text of a file, without the newline at its end.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, cast

from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.plugins import Registry
from pocketforge.recipe import suggest
from pocketforge.records import Report


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """One format.

    Attributes:
        module: Its name; it has `write`.
        title: What it is for, in a few words.
        ending: Of its files, with the dot: `--output FILE` finds the format by it.
    """

    module: str
    title: str
    ending: str

    def __post_init__(self) -> None:
        """Raises ValueError: a row that lacks something is a fault of the program, or of a plug-in."""
        if not self.module or not self.title:
            raise ValueError("a report format has a module and a title")
        if not self.ending.startswith("."):
            raise ValueError(f"ending of a report format must begin with a dot, found {self.ending!r}")


class Writer(Protocol):
    """A format's module."""

    def write(self, report: Report) -> str: ...


_FORMATS = {
    "text": ReportFormat("pocketforge.report.terminal", "tables, as in the terminal", ".txt"),
    "json": ReportFormat("pocketforge.report.as_json", "report.json itself, for programs", ".json"),
    "markdown": ReportFormat("pocketforge.report.markdown", "the verdicts, for a pull request", ".md"),
    "html": ReportFormat("pocketforge.report.page", "a page of its own, with plots, for a browser", ".html"),
    "junit": ReportFormat("pocketforge.report.junit", "a test case for each budget and check, for CI", ".xml"),
}


def _fault_of_plugin(row: ReportFormat) -> str:
    """Why a package cannot bring this format."""
    ours = {each.ending: name for name, each in _FORMATS.items()}
    return f"ending {row.ending} is that of format {ours[row.ending]}" if row.ending in ours else ""


FORMATS = Registry("report_formats", ReportFormat, _FORMATS, fault_of=_fault_of_plugin)


def writer(name: str) -> Writer:
    """A format's module. Raises RecipeError for a name that none has."""
    if name not in FORMATS:
        raise RecipeError(f"no report format is named {name!r}{suggest(name, FORMATS)}")
    # A module is what the row says it is: there is nothing to check that calling it does not.
    with FORMATS.calling(name, FORMATS[name].module):
        return cast("Writer", importlib.import_module(FORMATS[name].module))


def written(name: str, report: Report) -> str:
    """The report in a format. Raises RecipeError for a name that none has, PluginFailed for a package's that fails."""
    module = writer(name)
    with FORMATS.calling(name, f"{FORMATS[name].module}:write"):
        text = module.write(report)
    if not isinstance(text, str):
        plugin = FORMATS.brought_by(name)
        raise PluginFailed(
            f"{plugin.words if plugin else f'report format {name}'}: {FORMATS[name].module}:write must give a str, "
            f"found a {type(text).__name__}",
            plugin.hint if plugin else "",
        )
    return text


def format_of(path: PurePath) -> str:
    """The format that a file's ending means. Raises RecipeError when it means none, PluginFailed when it means two."""
    for name, row in _FORMATS.items():
        if path.suffix == row.ending:
            return name
    usable = FORMATS.usable()
    named = [name for name, row in usable.items() if path.suffix == row.ending]
    if len(named) > 1:
        raise PluginFailed(
            f"{path.suffix} is the ending of report formats {' and '.join(named)}", "say which with --format"
        )
    if named:
        return named[0]
    endings = ", ".join(row.ending for row in usable.values())
    hint = "; ".join(["say which with --format", *FORMATS.broken()])
    raise RecipeError(f"{path.name} has the ending of no report format ({endings})", hint)
