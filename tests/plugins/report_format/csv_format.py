"""A report format from outside: a line for each budget, as spreadsheets take it."""

from __future__ import annotations

import csv
import io

from pocketforge.records import Report
from pocketforge.report.formats import ReportFormat

FORMAT = ReportFormat("csv_format", "a line for each budget", ".csv")


def write(report: Report) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("target", "metric", "limit", "found", "verdict"))
    for gate in report.gates:
        rows.writerow((gate.target, gate.budget.metric, gate.budget.limit, gate.value, gate.verdict))
    return text.getvalue().rstrip("\n")
