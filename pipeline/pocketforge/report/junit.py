"""A report as JUnit XML, which CI systems show: a suite for each target, a case for each check and each budget."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pocketforge.records import GateResult, Report, TargetRecord
from pocketforge.report.budget_words import budget_name, figure, limit
from pocketforge.report.findings import steps_of_no_target
from pocketforge.streams import printable


def write(report: Report) -> str:
    suites = Element("testsuites", name=_text(report.recipe), time=f"{report.wall_s:.3f}")
    for target in report.targets:
        _suite(suites, target, [gate for gate in report.gates if gate.target == target.name])
    for step in steps_of_no_target(report):
        suite = SubElement(suites, "testsuite", name=_text(step.lane), tests="1", failures="0", errors="1")
        case = SubElement(suite, "testcase", classname=_text(step.lane), name=_text(f"step: {step.stage}"))
        SubElement(case, "error", message=_text(step.message or "it did not end"))
    for counted in ("tests", "failures", "errors"):
        suites.set(counted, str(sum(int(suite.get(counted, "0")) for suite in suites)))
    indent(suites, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suites, encoding="unicode")


def _suite(suites: Element, target: TargetRecord, gates: list[GateResult]) -> None:
    suite = SubElement(suites, "testsuite", name=_text(target.name))
    built = _case(suite, target, "built")
    if target.status == "failed":
        error = SubElement(built, "error", message=_text(target.error or "it was not built"))
        error.text = _text(f"hint: {target.hint}") if target.hint else None
    for check in target.checks:
        case = _case(suite, target, f"verify: {check.name}")
        if not check.passed:
            SubElement(case, "failure", message=_text(f"wanted {check.wanted}, found {check.found}"))
    named: dict[str, int] = {}
    for gate in gates:
        case = _case(suite, target, _unique(f"budget: {budget_name(gate)} {limit(gate)}", gate, named))
        if gate.blocks:
            message = f"{gate.verdict}: {gate.reason or figure(gate.value)}"
            SubElement(case, "failure", message=_text(message), type=gate.verdict)
        elif gate.verdict != "PASS":  # a mere warning fails nothing
            SubElement(case, "system-out").text = _text(f"warning: {gate.verdict}: {gate.reason}")
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))


def _unique(name: str, gate: GateResult, named: dict[str, int]) -> str:
    """GitLab and Jenkins take two cases of one name for one: a warning says so, a second of the same counts."""
    name += " (warning)" if gate.budget.severity == "warning" else ""
    named[name] = named.get(name, 0) + 1
    return name if named[name] == 1 else f"{name} ({named[name]})"


def _case(suite: Element, target: TargetRecord, name: str) -> Element:
    return SubElement(suite, "testcase", classname=_text(f"{target.runtime}.{target.name}"), name=_text(name))


def _text(text: str) -> str:
    """XML has no way at all to write most control characters."""
    return printable(text)
