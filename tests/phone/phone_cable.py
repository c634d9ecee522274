"""The cable of a test phone: passes bytes between the adb server and adbd, and breaks on command.

Listens on a socket of the host's loopback that was handed down, and connects to adbd inside the phone's own network.
One event loop with the rest of PID 1: nothing here waits.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections.abc import Callable

ADBD = ("127.0.0.1", 5555)
UP, DOWN = "up", "down"  # host to phone; phone to host
_CHUNK_BYTES = 1 << 18
_UNLIMITED = -1
_BACKLOG = 16


class Cable:
    """mode: "" | "refuse" | "unauthorized" | "stall". cut_after: bytes that still pass, each way, before a cut."""

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.mode = ""
        self.cut_after = {UP: _UNLIMITED, DOWN: _UNLIMITED}
        self.rate_bytes_per_s = 0.0
        self.passed = {UP: 0, DOWN: 0}
        self.cuts = 0
        self.links: set[_Link] = set()
        self.prompts: set[_Prompt] = set()
        self.listener = listener
        # It was handed down to be kept: no program of the phone may have it.
        listener.set_inheritable(False)
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def set(self, mode: str = "", cut_after: dict[str, int] | None = None, rate_bytes_per_s: float = 0.0) -> None:
        """Replace all faults; none given: the cable is whole again. Links that exist stay, except unauthorized ones."""
        if (mode == "refuse") != (self.mode == "refuse"):
            self._refuse(mode == "refuse")
        self.mode = mode
        self.cut_after = {UP: _UNLIMITED, DOWN: _UNLIMITED, **(cut_after or {})}
        self.rate_bytes_per_s = rate_bytes_per_s
        self.passed = {UP: 0, DOWN: 0}
        if mode != "unauthorized":
            for prompt in tuple(self.prompts):
                prompt.close()
        for link in tuple(self.links):
            link.listen()

    def cut(self) -> None:
        """Every link, now: both ends see it closed."""
        for link in tuple(self.links):
            link.close()

    def tick(self) -> None:
        """Called every few milliseconds while a rate limits."""
        if self.rate_bytes_per_s:
            for link in tuple(self.links):
                link.listen()

    def _refuse(self, refuse: bool) -> None:
        # A listener that is shut down keeps its port, where that was asked for by number, and may listen again.
        if refuse:
            self.selector.unregister(self.listener)
            self.listener.shutdown(socket.SHUT_RDWR)
        else:
            self.listener.listen(_BACKLOG)
            self.selector.register(self.listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            outside, _ = self.listener.accept()
        except BlockingIOError:
            return
        if self.mode == "unauthorized":
            self.prompts.add(_Prompt(self, outside))
        else:
            try:
                inside = socket.create_connection(ADBD, 5)
            except OSError:
                outside.close()
                return
            self.links.add(_Link(self, outside, inside))


class _Link:
    """Two sockets, and what was read from one and not yet written to the other."""

    def __init__(self, cable: Cable, outside: socket.socket, inside: socket.socket) -> None:
        self.cable = cable
        self.ends = {UP: (outside, inside), DOWN: (inside, outside)}
        self.waiting = {UP: b"", DOWN: b""}
        self.free_at_s = {UP: 0.0, DOWN: 0.0}
        self.watched: dict[socket.socket, int] = {}
        self.open = True
        for end in (outside, inside):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.listen()

    def listen(self) -> None:
        """Ask the selector for exactly what can go on now: nothing at all in a frozen link."""
        wanted: dict[socket.socket, int] = {}
        if self.open and self.cable.mode != "stall":
            now_s = time.monotonic()
            for way, (source, target) in self.ends.items():
                if self.waiting[way]:
                    wanted[target] = wanted.get(target, 0) | selectors.EVENT_WRITE
                elif self.free_at_s[way] <= now_s or not self.cable.rate_bytes_per_s:
                    wanted[source] = wanted.get(source, 0) | selectors.EVENT_READ
        for end in self.ends[UP]:
            now, then = wanted.get(end, 0), self.watched.get(end, 0)
            if now == then:
                continue
            if not now:
                self.cable.selector.unregister(end)
            elif then:
                self.cable.selector.modify(end, now, self._call(end))
            else:
                self.cable.selector.register(end, now, self._call(end))
            self.watched[end] = now

    def _call(self, end: socket.socket) -> Callable[[int], None]:
        return lambda events: self._ready(end, events)

    def _ready(self, end: socket.socket, events: int) -> None:
        if not self.open:
            return
        for way, (source, target) in self.ends.items():
            try:
                if events & selectors.EVENT_READ and end is source and not self.waiting[way]:
                    self._read(way, source)
                if self.open and self.waiting[way] and (end is source or events & selectors.EVENT_WRITE):
                    self.waiting[way] = self.waiting[way][target.send(self.waiting[way]) :]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
            if self.open and not self.waiting[way] and self.cable.cut_after[way] == 0:
                # One cut, after exactly so many bytes: the next link is whole.
                self.cable.cut_after[way] = _UNLIMITED
                self.cable.cuts += 1
                self.close()
            if not self.open:
                return
        self.listen()

    def _read(self, way: str, source: socket.socket) -> None:
        most, rate, left = _CHUNK_BYTES, self.cable.rate_bytes_per_s, self.cable.cut_after[way]
        if rate:
            most = max(1, min(most, int(rate / 50)))
        if left != _UNLIMITED:
            most = min(most, max(left, 1))
        data = source.recv(most)
        if not data:
            self.close()
            return
        if left != _UNLIMITED:
            self.cable.cut_after[way] = left - len(data)
        if rate:
            self.free_at_s[way] = max(self.free_at_s[way], time.monotonic()) + len(data) / rate
        self.cable.passed[way] += len(data)
        self.waiting[way] = data

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self.listen()
        for end in self.ends[UP]:
            end.close()
        self.cable.links.discard(self)


class _Prompt:
    """A phone that shows "Allow USB debugging?" and nobody taps it: AUTH TOKEN again and again (adb's protocol.txt)."""

    def __init__(self, cable: Cable, outside: socket.socket) -> None:
        self.cable, self.outside, self.heard = cable, outside, b""
        outside.setblocking(False)
        cable.selector.register(outside, selectors.EVENT_READ, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            data = self.outside.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.heard += data
        while len(self.heard) >= 24:
            command, argument, _, length = struct.unpack_from("<4s3I", self.heard)
            if len(self.heard) < 24 + length:
                return
            self.heard = self.heard[24 + length :]
            signature = 2  # 3 is the host's public key: now the phone would show its dialog
            if command == b"CNXN" or (command == b"AUTH" and argument == signature):
                self._ask()

    def _ask(self) -> None:
        token, command = os.urandom(20), int.from_bytes(b"AUTH", "little")
        head = struct.pack("<6I", command, 1, 0, len(token), sum(token), command ^ 0xFFFFFFFF)
        self.outside.send(head + token)

    def close(self) -> None:
        if self in self.cable.prompts:
            self.cable.prompts.discard(self)
            self.cable.selector.unregister(self.outside)
            self.outside.close()
