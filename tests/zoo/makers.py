"""Libraries' own builders of nets, without weights of theirs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

CLASSES = 10


def torchvision() -> Any:
    """The package, also where its operators are of another torch (tests/e2e/torchvision_ops.py)."""
    e2e = str(Path(__file__).resolve().parents[1] / "e2e")
    if e2e not in sys.path:
        sys.path.insert(0, e2e)
    return importlib.import_module("torchvision_ops").usable_torchvision()


def from_timm(model: str, **args: Any) -> Any:
    torchvision()  # which timm imports
    import timm

    return timm.create_model(model, pretrained=False, **{"num_classes": CLASSES, **args})


def from_torchvision(model: str, **args: Any) -> Any:
    return torchvision().models.get_model(model, **{"weights": None, "num_classes": CLASSES, **args})


def own(of: str, **args: Any) -> Any:
    """of: `MODULE:CLASS` of zoo/own."""
    module, _, name = of.partition(":")
    return getattr(importlib.import_module(f"zoo.own.{module}"), name)(**args)
