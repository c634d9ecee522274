"""Reading report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pocketforge.errors import RecipeError
from pocketforge.files import refuse_special
from pocketforge.records import Report, Verdict

SCHEMA = Path(__file__).with_name("schema.json")


def report_file(path: Path) -> Path:
    """report.json of a folder; a file is one itself."""
    return path / "report.json" if path.is_dir() else path


def load_report(path: Path) -> Report:
    """A report from its file or its folder. Raises RecipeError when there is none, or it is not a report."""
    file = report_file(path)
    hint = "pocketforge build writes one into build/NAME/report.json"
    try:
        refuse_special(file)
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        report = Report.from_json(data)
        _check(report)
        return report
    except FileNotFoundError:
        raise RecipeError(f"no report at {file}", hint) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the report {file}: {reason}", hint) from None


def _check(report: Report) -> None:
    """What the JSON's shape alone does not say: verdicts are known words, and measured values are numbers."""
    for words, known in (
        ([report.verdict], ("PASS", "FAIL", "ERROR")),
        ([gate.verdict for gate in report.gates], get_args(Verdict)),
        ([target.status for target in report.targets], ("built", "wrong", "failed")),
    ):
        for word in words:
            if word not in known:
                raise ValueError(f"wanted one of {', '.join(known)}, found {word!r}")
    values = [*(m.value for m in report.measurements), *(s.wall_s for s in report.steps), report.wall_s]
    for value in [*values, *(sample for m in report.measurements for sample in m.samples)]:
        if type(value) not in (int, float):
            raise ValueError(f"wanted a number, found {value!r}")
