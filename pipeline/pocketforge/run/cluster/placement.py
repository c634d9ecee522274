"""Which worker gets which step, and what happens when workers die. Knows nothing of how they are reached."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pocketforge.errors import DeviceUnavailable, StageFailed, StoreError
from pocketforge.run.cluster.offers import EMULATOR, PHONE, Asked, Offer, lacking, stale

Result = TypeVar("Result")

# A step that this many workers died of is not given to another.
MOST_DEATHS = 2
# Connections that break before a step begins say nothing of it; but no step is tried for ever.
MOST_LOSSES = 10
_POLL_S = 0.2


class NodeLost(Exception):
    """A worker is gone. at_work: whether the step had begun there, so that it may have been the step's doing. why: how
    that was seen."""

    def __init__(self, address: str, *, at_work: bool, why: str = "") -> None:
        super().__init__(address)
        self.address = address
        self.at_work = at_work
        self.why = why


class NodeUnfit(Exception):
    """A worker cannot do it for a reason of its own (a full disk). error: in words, with the worker's name."""

    def __init__(self, address: str, error: StoreError) -> None:
        super().__init__(error.message)
        self.address = address
        self.error = error


class TooLittleMemory(Exception):
    """A step had more than a worker gives. had_bytes: what that gives."""

    def __init__(self, had_bytes: int) -> None:
        super().__init__(had_bytes)
        self.had_bytes = had_bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A worker that is there.

    Attributes:
        address: That it is reached by.
        offer: What it is.
    """

    address: str
    offer: Offer


class Pool:
    """The workers of a cluster as one build sees them: who is there, who is at work.

    versions: those of the build, which a worker must have. patience_s: how long a step waits while no worker that is
    there could ever run it. warn: told of each worker that is refused, once.
    """

    def __init__(self, versions: Mapping[str, str], patience_s: float, warn: Callable[[str], None]) -> None:
        self._versions, self._patience_s, self._warn = versions, patience_s, warn
        self._changed = threading.Condition()
        self._nodes: dict[str, Node] = {}
        self._refused: dict[str, str] = {}
        self._busy: dict[str, Asked] = {}

    def update(self, offers: Mapping[str, Offer]) -> None:
        """Who is there now: address → what it offers."""
        news = []
        with self._changed:
            for address, offer in offers.items():
                if address in self._nodes or address in self._refused:
                    continue
                why = stale(offer, self._versions)
                if why:
                    self._refused[address] = why
                    news.append(f"worker refused: {why}")
                else:
                    self._nodes[address] = Node(address, offer)
            for gone in [address for address in self._nodes if address not in offers]:
                del self._nodes[gone]
            for gone in [address for address in self._refused if address not in offers]:
                del self._refused[gone]
            self._changed.notify_all()
        for text in news:
            self._warn(text)

    def lost(self, address: str) -> None:
        """It died: until it is seen again under another address, nothing goes there."""
        with self._changed:
            self._nodes.pop(address, None)
            self._changed.notify_all()

    def is_there(self, address: str) -> bool:
        with self._changed:
            return address in self._nodes

    @contextlib.contextmanager
    def taken(
        self, name: str, asked: Asked, stopping: Callable[[], bool], without: Mapping[str, StoreError]
    ) -> Iterator[Node]:
        """A worker for a step alone. Waits while all that could run it are at work. without: address → what the step
        met there; raised where nobody else is there.

        Raises DeviceUnavailable or StageFailed when none that could is there for as long as the build is patient,
        StageFailed when the build stops.
        """
        node = self._take(name, asked, stopping, without)
        try:
            yield node
        finally:
            with self._changed:
                self._busy.pop(node.address, None)
                self._changed.notify_all()

    def _take(self, name: str, asked: Asked, stopping: Callable[[], bool], without: Mapping[str, StoreError]) -> Node:
        alone_since = time.monotonic()
        with self._changed:
            while True:
                if stopping():
                    raise StageFailed("interrupted")
                able = [node for node in self._nodes.values() if not lacking(node.offer, asked)]
                fit = [node for node in able if node.address not in without]
                if able and not fit:
                    raise without[able[0].address]
                if fit:
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since >= self._patience_s:
                    raise self._nobody(name, asked)
                free = [node for node in fit if self._is_free(node, asked)]
                if free:
                    # Those with the least to give: a phone's worker is kept for what needs the phone.
                    node = min(free, key=lambda n: (len(n.offer.resources - asked.resources), n.address))
                    self._busy[node.address] = asked
                    return node
                self._changed.wait(_POLL_S)

    def _is_free(self, node: Node, asked: Asked) -> bool:
        if node.address in self._busy:
            return False
        beside = [
            other
            for address, other in self._busy.items()
            if address in self._nodes and self._nodes[address].offer.machine == node.offer.machine
        ]
        if any(other.whole_machine for other in beside) or (asked.whole_machine and beside):
            return False
        # What the machine has once: two of its workers may both offer it. Emulators run as many as there are workers.
        return not any((asked.resources & other.resources) - {EMULATOR} for other in beside)

    def _nobody(self, name: str, asked: Asked) -> DeviceUnavailable | StageFailed:
        there = [lacking(node.offer, asked) for node in self._nodes.values()]
        why = "; ".join(there + [f"refused: {text}" for text in self._refused.values()]) or "no worker is connected"
        message = f"no worker can run {name} (waited {self._patience_s:.0f} s): {why}"
        hint = "start `pocketforge worker` on a machine that has it, or build with --engine local"
        if any(resource.startswith(PHONE) for resource in asked.resources):
            return DeviceUnavailable(message, hint)
        return StageFailed(message, hint)


def run_somewhere(
    pool: Pool, name: str, asked: Asked, run_on: Callable[[Node], Result], stopping: Callable[[], bool]
) -> Result:
    """What `run_on` gives on some worker. One that dies is taken off, and the step goes elsewhere.

    Raises StageFailed for a step that two workers died of, or that had more memory than any worker gives; StoreError
    where no worker has room for it.
    """
    died: list[str] = []
    losses = 0
    unfit: dict[str, StoreError] = {}
    while True:
        try:
            with pool.taken(name, asked, stopping, unfit) as node:
                return run_on(node)
        except NodeLost as lost:
            pool.lost(lost.address)
            if stopping():
                raise StageFailed("interrupted") from None
            losses += 1
            if lost.at_work:
                died.append(f"{node.offer.name} ({lost.why})" if lost.why else node.offer.name)
            if len(died) >= MOST_DEATHS:
                raise StageFailed(
                    f"{len(died)} workers died while they ran it: {', '.join(died)}",
                    "does it take the machine's memory? Look at the workers' own output",
                ) from None
            if losses >= MOST_LOSSES:
                raise StageFailed(
                    f"{losses} times in a row its worker was lost, last {node.offer.name}: {lost.why or 'it is gone'}",
                    "is the network to the workers sound?",
                ) from None
        except NodeUnfit as found:
            unfit[found.address] = found.error
        except TooLittleMemory as little:
            asked = dataclasses.replace(asked, more_than_bytes=little.had_bytes)
