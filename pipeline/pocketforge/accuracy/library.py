"""The libraries of metrics, imported when a role needs one, and what to install where they are missing."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest import mock

from pocketforge.errors import ToolMissing, first_line
from pocketforge.version import install


def torchmetrics(part: str) -> Any:
    """`torchmetrics.functional.PART`. Raises ToolMissing where it is not installed or cannot be imported."""
    _first_import("torchmetrics")
    return importlib.import_module(f"torchmetrics.functional.{part}")


def text_class(name: str) -> Any:
    """A class of `torchmetrics.text`, as `torchmetrics`."""
    _first_import("torchmetrics")
    return getattr(importlib.import_module("torchmetrics.text"), name)


def _first_import(name: str) -> None:
    """Torchmetrics imports torchvision, transformers and others, where they are installed, for metrics that are not
    ours: seconds, and a failure where a torchvision is of another torch. It is told that they are not there."""
    if sys.modules.get(name) is not None:
        return
    try:
        imports = importlib.import_module("lightning_utilities.core.imports")
        cache = imports.RequirementCache
        asked = cache.__bool__
        with mock.patch.object(cache, "__bool__", lambda self: _is_torch(self) and asked(self)):
            importlib.import_module(name)
    except ImportError as error:
        raise _missing(name, error) from error


def _is_torch(requirement: Any) -> bool:
    words = str(getattr(requirement, "requirement", ""))
    return words.startswith("torch") and not words.startswith(("torchvision", "torchaudio", "torch_", "torch-"))


def coco() -> ModuleType:
    """`faster_coco_eval`. Raises ToolMissing where it is not installed or cannot be imported."""
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise _missing("faster-coco-eval", error) from error


def _missing(package: str, error: ImportError) -> ToolMissing:
    return ToolMissing(f"a metric of the recipe needs {package}: {first_line(error)}", install("metrics"))
