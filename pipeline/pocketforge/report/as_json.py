"""A report as JSON: the content of report.json, which schema.json describes."""

from __future__ import annotations

from pocketforge.records import Report


def write(report: Report) -> str:
    # It goes through a terminal as it is: of all control characters JSON lets DEL alone stand for itself.
    return report.to_text().replace("\x7f", "\\u007f")
