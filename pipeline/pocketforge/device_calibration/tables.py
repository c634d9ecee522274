"""The outcome of a calibration as text, for a terminal and for docs/estimates.md."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.device_calibration.calibrate import Calibrated
from pocketforge.device_calibration.errors import Share, Summary
from pocketforge.estimation.calibration_file import Calibration
from pocketforge.estimation.fitting import NAMES


def markdown(outcome: Calibrated) -> str:
    """All tables, each under a heading of the third level."""
    parts = [
        "### Fitted constants\n\n" + constants(outcome.calibration),
        "### Errors\n\n" + _table(_ERRORS, [_error_row(s) for s in outcome.summaries]),
        "### Signs and coverage\n\n" + _table(_SHARES, [_share_row(s) for s in outcome.shares]),
        "### Intervals\n\n" + _table(_INTERVALS, _interval_rows(outcome)),
    ]
    if outcome.models:
        rows = [
            [m.point, m.left_out, f"{m.measured_ms:.1f}", f"{m.estimated_ms:.1f}", f"{m.ratio:.2f}"]
            for m in outcome.models
        ]
        parts.append(
            "### Whole models, each predicted without any measurement of its device\n\n" + _table(_MODELS, rows)
        )
    if outcome.ratios:
        rows = [
            [r.ratio, f"{r.measured:.2f}", f"{r.estimated:.2f}", f"{r.estimated / r.measured - 1:+.1%}"]
            for r in outcome.ratios
        ]
        parts.append("### Ratios of whole models on one core type\n\n" + _table(_RATIOS, rows))
    parts.append(ORIENTATION[0].upper() + ORIENTATION[1:] + ".")
    return "\n\n".join(parts) + "\n"


def constants(calibration: Calibration) -> str:
    """The fitted constants of each core type, and on how many points."""
    rows = []
    for core, fitted in sorted(calibration.cores.items()):
        values = fitted.parameters.to_json()
        rows.append([core, str(fitted.points), *(f"{values[name]:.3g}" for name in NAMES)])
    for kind, shared in sorted(calibration.shared.items()):
        rows.append([f"all {kind}", "shared", *(f"{shared.to_json()[name]:.3g}" for name in NAMES)])
    return _table(_PARAMETERS, rows)


def text(outcome: Calibrated) -> str:
    """For a terminal: what was fitted, then the errors."""
    lines = []
    for core, fitted in sorted(outcome.calibration.cores.items()):
        lines.append(f"{core}: {fitted.points} points of {', '.join(fitted.devices)}")
        values = fitted.parameters.to_json()
        lines.append("  " + ", ".join(f"{name} {values[name]:.4g}" for name in NAMES))
    for kind, shared in sorted(outcome.calibration.shared.items()):
        lines.append(f"all {kind} core types, shared")
        lines.append("  " + ", ".join(f"{name} {value:.4g}" for name, value in shared.to_json().items()))
    lines += ["", f"held out: {len(outcome.groups.held_out)} points; SHA-256 of their names {outcome.split}", ""]
    rows = [[s.what, s.method, str(s.points), *_percent(s)] for s in outcome.summaries]
    widths = [max(len(row[i]) for row in [_ERRORS, *rows]) for i in range(len(_ERRORS))]
    for row in [_ERRORS, *rows]:
        lines.append(
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    lines.append("")
    lines += [f"{s.what}, {s.method}: {s.share:.1%} of {s.points}" for s in outcome.shares]
    lines += ["", ORIENTATION, ""]
    lines += [
        f"{m.point}: measured {m.measured_ms:.1f} ms, estimated without its device {m.estimated_ms:.1f} ms"
        for m in outcome.models
    ]
    lines += [f"{r.ratio}: measured {r.measured:.2f}, estimated {r.estimated:.2f}" for r in outcome.ratios]
    return "\n".join(lines).rstrip()


ORIENTATION = (
    "for orientation, on other points: nn-Meter's predictors, fitted on kernels measured on the same Pixel 4, state "
    "99 % of whole models within 10 % (L. L. Zhang et al., MobiSys 2021)"
)
_PARAMETERS = ["core", "points", *NAMES]
_ERRORS = ["what", "method", "points", "median", "p90", "worst", "bias"]
_SHARES = ["what", "method", "points", "share"]
_INTERVALS = ["for", "factor", "points", "groups", "from"]
_MODELS = ["model", "left out", "measured, ms", "estimated, ms", "ratio"]
_RATIOS = ["ratio", "measured", "estimated", "error"]


def _interval_rows(outcome: Calibrated) -> list[list[str]]:
    return [
        [name, f"× ÷ {e.factor:.2f}", str(e.points), str(e.groups), e.basis]
        for name, e in sorted(outcome.calibration.errors.items())
    ]


def _share_row(s: Share) -> list[str]:
    return [s.what, s.method, str(s.points), f"{s.share:.1%}"]


def _error_row(s: Summary) -> list[str]:
    return [s.what, s.method, str(s.points), *_percent(s)]


def _percent(s: Summary) -> list[str]:
    return [f"{s.median:.1%}", f"{s.p90:.1%}", f"{s.worst:.1%}", f"{s.bias:+.1%}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
