"""A report as OpenMetrics text, which GitLab's metrics reports and Prometheus' file collectors read.

A gauge for each metric, a sample for each target and device; how many budgets have which verdict, and which of those
that are not kept are waived, with until when, by whom and why. Without times: the same report gives the same bytes.
Format: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from pocketforge.records import GateResult, Report
from pocketforge.report.budget_words import budget_name, output_of
from pocketforge.streams import printable

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_NOT_OF_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_VERDICTS = ("PASS", "FAIL", "MISSING", "INCONCLUSIVE")
_Samples = dict[str, float]


def write(report: Report) -> str:
    families: dict[str, _Samples] = {}
    for each in report.measurements:
        labels = {"target": each.target, "device": each.device, "metric": each.metric, "output": output_of(each)}
        metric, _, part = each.metric.partition(" ")
        name = f"pocketforge_{_NOT_OF_NAMES.sub('_', metric)}" if not part else "pocketforge_worst_part"
        # A later value of the same thing would be a second sample of one name, which no reader takes.
        families.setdefault(name, {}).setdefault(_labels({"recipe": report.recipe, **labels}), each.value)
    verdicts = dict.fromkeys(_VERDICTS, 0)
    for gate in report.gates:
        verdicts[gate.verdict] += 1
    families["pocketforge_budgets"] = {
        _labels({"recipe": report.recipe, "verdict": verdict}): float(count) for verdict, count in verdicts.items()
    }
    waived = {_labels({"recipe": report.recipe, **_waived(gate)}): 1.0 for gate in report.gates if gate.waiver}
    if waived:
        families["pocketforge_waived"] = waived
    families["pocketforge_passes"] = {_labels({"recipe": report.recipe}): float(report.verdict == "PASS")}
    return "\n".join([*_lines(families.items()), "# EOF"])


def _waived(gate: GateResult) -> dict[str, str]:
    return {
        "target": gate.target,
        "device": gate.device,
        "budget": budget_name(gate),
        "verdict": gate.verdict,
        "waiver": gate.waiver,
    }


def _lines(families: Iterable[tuple[str, _Samples]]) -> Iterator[str]:
    for name, samples in sorted(families):
        yield f"# TYPE {name} gauge"
        yield from (f"{name}{labels} {value!r}" for labels, value in samples.items())


def _labels(labels: Mapping[str, str]) -> str:
    """Those that say something."""
    said = (f'{name}="{printable(text).translate(_ESCAPES)}"' for name, text in labels.items() if text)
    return f"{{{','.join(said)}}}"
