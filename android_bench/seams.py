"""What the parts of a connection ask of each other, as protocols: so adb, link and transfer need no circle of imports.

adb.Adb makes a link.Link and is what it calls; a Link pushes and pulls by transfer, which works through the Link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from android_bench.client import Finished
from android_bench.errors import PhoneTimeout
from android_bench.judge import Output
from android_bench.listing import Listed
from android_bench.server import Address


class Caller(Protocol):
    """The adb program and its server, as a link needs them: adb.Adb."""

    @property
    def server(self) -> Address: ...

    def devices(self) -> tuple[Listed, ...]: ...

    def connect(self, address: str, timeout_s: float) -> str: ...

    def call(
        self,
        arguments: Sequence[str],
        timeout_s: float,
        enough: Callable[[bytearray, bytearray], bool] | None = None,
        *,
        may_be_late: bool = False,
    ) -> Finished: ...


class Channel(Protocol):
    """One phone, as a transfer needs it: link.Link."""

    @property
    def adb(self) -> Caller: ...

    @property
    def serial(self) -> str: ...

    def shell(self, command: str | Sequence[str], *, timeout_s: float = 30, repeat: bool = False) -> Output: ...

    def once(self, line: str, timeout_s: float, *, ask_again: bool = True) -> Output: ...

    def wait(self, timeout_s: float) -> None: ...

    def listed(self) -> bool: ...

    def late(self, doing: str, timeout_s: float, *, ask_again: bool = True) -> PhoneTimeout: ...
