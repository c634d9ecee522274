"""`pocketforge report show --output`: a report in a file, in any format."""

from __future__ import annotations

from pathlib import Path

from pocketforge.files import write_whole
from pocketforge.records import Report
from pocketforge.report.formats import format_of, written


def save(report: Report, path: Path, form: str | None = None, before: Report | None = None) -> None:
    """Write the report into a file, whole. form: by the file's ending where it is None.

    before: a baseline's report, for formats that show what changed. Raises RecipeError for a format that there is not,
    PluginFailed for a package's that fails, StoreError where the file cannot be written.
    """
    write_text(path, written(form or format_of(path), report, before))


def write_text(path: Path, text: str) -> None:
    """Text of a format as a file of lines."""
    write_whole(path, f"{text}\n".encode("utf-8", "backslashreplace"))
