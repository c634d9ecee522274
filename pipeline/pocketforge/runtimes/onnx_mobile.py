"""What ONNX Runtime's mobile checker says of an .onnx file."""

from __future__ import annotations

import logging
from pathlib import Path


def mobile_usability(path: Path) -> dict[str, object]:
    """Whether NNAPI or CoreML may help, and its own words for each."""
    from onnxruntime.tools.mobile_helpers import usability_checker

    logger = logging.getLogger("pocketforge.usability")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = _Lines()
    logger.handlers = [handler]
    usable = usability_checker.analyze_model(path, logger=logger)
    verdicts = [line for line in handler.lines if line.startswith("Model should perform well with")]
    return {"accelerators_may_help": bool(usable), "details": verdicts}


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
