"""Reading report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.records import Report

SCHEMA = Path(__file__).with_name("schema.json")


def load_report(path: Path) -> Report:
    """A report from its file or its folder. Raises RecipeError when there is none, or it is not a report."""
    file = path / "report.json" if path.is_dir() else path
    hint = "pocketforge build writes one into build/NAME/report.json"
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        return Report.from_json(data)
    except FileNotFoundError:
        raise RecipeError(f"no report at {file}", hint) from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read the report {file}: {error}", hint) from None
