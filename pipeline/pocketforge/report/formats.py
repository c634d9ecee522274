"""In which formats a report can be written: visible rows of name → module, imported on use.

A module has `write(report: Report) -> str`, the whole text of a file, without the newline at its end; one whose row
says `compares` also `write_against(report: Report, before: Report) -> str`, with what changed since a baseline.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
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
        ending: Of its files, with the dot: `--output FILE` finds the format by it, by the longest that fits.
        compares: Whether it shows what changed since a baseline.
    """

    module: str
    title: str
    ending: str
    compares: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError: a row that lacks something is a fault of the program, or of a plug-in."""
        if not self.module or not self.title:
            raise ValueError("a report format has a module and a title")
        if not self.ending.startswith("."):
            raise ValueError(f"ending of a report format must begin with a dot, found {self.ending!r}")


class Writer(Protocol):
    """A format's module."""

    def write(self, report: Report) -> str: ...


class Comparer(Writer, Protocol):
    """The module of one that `compares`."""

    def write_against(self, report: Report, before: Report) -> str: ...


_FORMATS = {
    "text": ReportFormat("pocketforge.report.terminal", "tables, as in the terminal", ".txt"),
    "json": ReportFormat("pocketforge.report.as_json", "report.json itself, for programs", ".json"),
    "markdown": ReportFormat("pocketforge.report.markdown", "all verdicts, for a job's summary", ".md", compares=True),
    "comment": ReportFormat(
        "pocketforge.report.comment", "what is wrong first, for a pull request", ".comment.md", compares=True
    ),
    "html": ReportFormat("pocketforge.report.page", "a page of its own, with plots, for a browser", ".html"),
    "junit": ReportFormat("pocketforge.report.junit", "a test case for each budget and check, for CI", ".xml"),
    "code-quality": ReportFormat(
        "pocketforge.report.code_quality", "an issue for each problem, for GitLab", ".codequality.json"
    ),
    "openmetrics": ReportFormat("pocketforge.report.open_metrics", "every value, for GitLab and Prometheus", ".prom"),
    "benchmark": ReportFormat(
        "pocketforge.report.benchmark_json", "github-action-benchmark's customSmallerIsBetter", ".benchmark.json"
    ),
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


def written(name: str, report: Report, before: Report | None = None) -> str:
    """The report in a format. before: a baseline's, to show what changed since.

    Raises RecipeError for a name that none has and for a baseline that the format does not show, PluginFailed for a
    package's that fails.
    """
    module = writer(name)
    call = "write" if before is None else "write_against"
    if before is not None and not FORMATS[name].compares:
        able = [each for each, row in FORMATS.usable().items() if row.compares]
        raise RecipeError(
            f"report format {name} does not show what changed since a baseline",
            f"leave out --baseline, or take one that does: {', '.join(able)}",
        )
    with FORMATS.calling(name, f"{FORMATS[name].module}:{call}"):
        text = module.write(report) if before is None else cast("Comparer", module).write_against(report, before)
    if not isinstance(text, str):
        plugin = FORMATS.brought_by(name)
        raise PluginFailed(
            f"{plugin.words if plugin else f'report format {name}'}: {FORMATS[name].module}:{call} must give a str, "
            f"found a {type(text).__name__}",
            plugin.hint if plugin else "",
        )
    return text


def format_of(path: PurePath) -> str:
    """The format that a file's ending means. Raises RecipeError when it means none, PluginFailed when it means two."""
    ours = _longest(path, _FORMATS)
    if ours:  # packages are not asked
        return ours[0]
    usable = FORMATS.usable()
    named = _longest(path, usable)
    if len(named) > 1:
        raise PluginFailed(
            f"{usable[named[0]].ending} is the ending of report formats {' and '.join(named)}",
            "say which with --format",
        )
    if named:
        return named[0]
    endings = ", ".join(row.ending for row in usable.values())
    hint = "; ".join(["say which with --format", *FORMATS.broken()])
    raise RecipeError(f"{path.name} has the ending of no report format ({endings})", hint)


def _longest(path: PurePath, rows: Mapping[str, ReportFormat]) -> list[str]:
    """The formats whose ending fits; of several endings the longest."""
    fits = {name: len(row.ending) for name, row in rows.items() if path.name.endswith(row.ending)}
    return [name for name, length in fits.items() if length == max(fits.values())]
