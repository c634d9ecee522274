"""Reading report.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from rich.errors import ConsoleError

from pocketforge.errors import RecipeError
from pocketforge.files import refuse_special
from pocketforge.records import SCHEMA_VERSION, Report
from pocketforge.report.validity import first_fault

_WRONG_CONTENT = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, ConsoleError)


def report_file(path: Path) -> Path:
    """report.json of a folder; a file is one itself."""
    return path / "report.json" if path.is_dir() else path


def load_report(path: Path) -> Report:
    """A report from its file or its folder. Raises RecipeError when there is none, or it is not a report."""
    file = report_file(path)
    hint = "pocketforge build writes one into build/NAME/report.json"
    of_another = f"{hint}; what a later Pocketforge wrote, that one reads (pocketforge docs report)"
    try:
        refuse_special(file)
        return report_of(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecipeError(f"no report at {file}", hint) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the report {file}: {reason}", of_another) from None


def report_of(data: object) -> Report:
    """A report's JSON, read. Raises ValueError, with the first place that the schema does not allow."""
    try:
        return Report.from_json(data)
    except ValueError as error:
        fault = first_fault(data) if isinstance(data, dict) and data.get("schema_version") == SCHEMA_VERSION else ""
        raise ValueError(f"not a whole report: {fault}" if fault else str(error)) from None


@contextlib.contextmanager
def shown(path: Path) -> Iterator[None]:
    """What is done with a report within: where it fails because the file is no report, RecipeError says what is wrong
    with it. Any other error stays what it is."""
    try:
        yield
    except _WRONG_CONTENT as error:
        file = report_file(path)
        fault = first_fault(json.loads(file.read_text(encoding="utf-8")))
        if fault:
            raise RecipeError(f"{file} is not a whole report: {fault}", "pocketforge build writes it anew") from error
        raise
