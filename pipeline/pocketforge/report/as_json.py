"""A report as JSON: the content of report.json, which schema.json describes."""

from __future__ import annotations

import json

from pocketforge.records import Report


def write(report: Report) -> str:
    # It goes through a terminal as it is: of all control characters JSON lets DEL alone stand for itself.
    return json.dumps(report.to_json(), indent=1, sort_keys=True, allow_nan=False).replace("\x7f", "\\u007f")
