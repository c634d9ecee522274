"""A report as a comment on a pull request: the verdict and what is wrong first, then what changed, then all budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pocketforge.records import Report
from pocketforge.release.markdown import plain, table
from pocketforge.report import markdown
from pocketforge.report.budget_words import budget_name, figure, limit, verdict_words
from pocketforge.report.findings import findings_of

# GitHub takes 65,536 characters in a comment.
MOST_CHARACTERS = 65_000


def write(report: Report) -> str:
    return _bounded(_lines(report))


def write_against(report: Report, before: Report) -> str:
    """With what changed since a baseline's report."""
    return _bounded(_lines(report, before))


def _bounded(lines: Iterator[str]) -> str:
    # A name with an @ would call the person of that name.
    silent = (line.replace("@", "@\u200b") for line in lines)
    return markdown.bounded(silent, MOST_CHARACTERS, "a comment")


def _lines(report: Report, before: Report | None = None) -> Iterator[str]:
    # Unseen: whoever posts it finds the last one by it, and writes over that.
    yield f"<!-- pocketforge:{hashlib.sha256(report.recipe.encode('utf-8', 'surrogatepass')).hexdigest()[:16]} -->"
    yield f"## {plain(report.recipe)}: {report.verdict}"
    found = list(findings_of(report))
    for head, some in (
        ("Fails the build", [each for each in found if each.blocks]),
        ("Warnings", [each for each in found if not each.blocks]),
    ):
        if some:
            yield from ("", f"**{head}**", "")
            yield from (f"- {plain(markdown.finding_line(each))}" for each in some)
    if before is not None:
        yield from ("", *markdown.changes(report, before))
    if report.gates:
        yield from ("", "## Budgets", "")
        yield from table(
            ("verdict", "target", "metric", "limit", "found"),
            ((verdict_words(g), g.target, budget_name(g), limit(g), figure(g.value)) for g in report.gates),
        )
