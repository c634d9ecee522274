"""What ExecuTorch's session leaves out of torch, in a process of its own and with the torch that it was tried with."""

from __future__ import annotations

import importlib.metadata
import sys
import types

import pytest

from pocketforge.runtimes.sessions import executorch

UNUSED = "torch._meta_registrations"


@pytest.mark.parametrize(
    ("version", "loaded", "left_out"),
    [("2.13.0+cpu", False, True), ("2.14.0", False, False), ("2.13.0+cpu", True, False), (None, False, False)],
)
def test_only_where_it_is_known_and_torch_is_not_there_yet(
    version: str | None, loaded: bool, left_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] != "torch"}
    monkeypatch.setattr(sys, "modules", modules | ({"torch": types.ModuleType("torch")} if loaded else {}))
    monkeypatch.setattr(importlib.metadata, "version", found)
    executorch.alone()
    assert (UNUSED in sys.modules) is left_out
