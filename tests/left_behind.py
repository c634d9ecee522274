"""What the tests of a file must leave as they found it: a patch that stays makes others of its worker fail, or pass.

`pytest --left-behind tests/unit` fails the last test of a file that left something changed.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OURS = ("pocketforge", "android_bench")
# pytest's own, a worker's, what readline writes where os.environ does not see it.
NOT_OURS = ("PYTEST_CURRENT_TEST", "POCKETFORGE_LOCKS_DIR", "COLUMNS", "LINES")
# On purpose: ONNX Runtime's, the fork server's, and what torch and OpenCV set as they are imported.
STAYS = (
    "ORT_DISABLE_TELEMETRY",
    "OMP_WAIT_POLICY",
    "POCKETFORGE_PRELOAD",
    "TORCHINDUCTOR_CACHE_DIR",
    "LD_LIBRARY_PATH",
)
VARIABLE = "the variable "


class LeftBehind:
    """A plugin that looks before the first test of a file, and after its last with the ends of its fixtures."""

    def __init__(self) -> None:
        self._file = Path()
        self._before = Found()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.path != self._file:
            self._file, self._before = item.path, Found()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        yield
        if nextitem is None or nextitem.path != item.path:
            changed = list(self._before.changes())
            if changed:
                pytest.fail(f"left behind by {item.path.name}:\n" + "\n".join(changed), pytrace=False)


class Found:
    """How things are now. It keeps what it has seen: an address would be another object's afterwards."""

    def __init__(self) -> None:
        self._modules = {name: dict(vars(sys.modules[name])) for name in _ours()}
        self._process = _process()

    def changes(self) -> Iterator[str]:
        """What is another now, in words. A module that was imported since is nobody's patch."""
        for name, before in self._modules.items():
            now = vars(sys.modules[name]) if name in sys.modules else before
            for attribute, value in before.items():
                if now.get(attribute, self) is not value and not attribute.startswith("__"):
                    yield f"{name}.{attribute} is {now.get(attribute, 'gone')!r:.100}, was {value!r:.100}"
        now = _process()
        for what in self._process.keys() | {name for name in now if name.startswith(VARIABLE)}:
            was, is_now = self._process.get(what), now.get(what)
            if was != is_now:
                yield f"{what} is {is_now!r:.300}, was {was!r:.300}"


def _ours() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in OURS]


def _process() -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS + STAYS}
    found: dict[str, Any] = {
        **{f"{VARIABLE}{name}": value for name, value in environment.items()},
        "the working folder": str(Path.cwd()),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "the temporary folder": tempfile.tempdir,
        "the garbage collector": (gc.isenabled(), gc.get_threshold()),
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        found |= {
            "torch's default dtype": torch.get_default_dtype(),
            "torch's gradients": torch.is_grad_enabled(),
            "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "torch's threads": torch.get_num_threads(),
            "torch's quantized engine": torch.backends.quantized.engine,
        }
    return found
