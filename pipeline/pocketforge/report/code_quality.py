"""A report as GitLab's code quality JSON: an issue for each budget that is not kept, each wrong check and each failure.

The fields are those of https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format.
"""

from __future__ import annotations

import hashlib
import json

from pocketforge.records import Report
from pocketforge.report.findings import Finding, findings_of
from pocketforge.streams import printable

# GitLab's words, of info, minor, major, critical and blocker.
_SEVERITY = {"failed": "blocker", "wrong": "critical", "budget": "major"}
# It shows no issue without a line of a file: a report has none, so it is the first of the target's file.
_LINE = 1


def write(report: Report) -> str:
    paths = {target.name: target.artifacts[0].path for target in report.targets if target.artifacts}
    issues, seen = [], set[str]()
    for finding in findings_of(report):
        path = f"release/{paths[finding.target]}" if finding.target in paths else "report.json"
        fingerprint = _fingerprint(report, finding, seen)
        issues.append(
            {
                "description": printable(_description(report, finding)),
                "check_name": f"pocketforge.{finding.kind}",
                "fingerprint": fingerprint,
                "severity": _SEVERITY[finding.kind] if finding.blocks else "minor",
                "location": {"path": printable(path), "lines": {"begin": _LINE}},
            }
        )
    return json.dumps(issues, indent=1, ensure_ascii=False)


def _description(report: Report, finding: Finding) -> str:
    what = f"{finding.name}: " if finding.name else ""
    return f"{report.recipe}, {finding.target}: {finding.verdict}: {what}{finding.words}"


def _fingerprint(report: Report, finding: Finding, seen: set[str]) -> str:
    """The same for the same problem in each build, whatever was measured: GitLab tells by it what is new.

    Two alike are told apart by their order: GitLab shows only the first of each fingerprint.
    """
    parts = [report.recipe, finding.kind, finding.target, finding.name, finding.device]
    for number in range(len(seen) + 1):
        text = json.dumps([*parts, number])
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in seen:
            break
    seen.add(digest)
    return digest
