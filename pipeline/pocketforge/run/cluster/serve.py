"""The processes of a cluster: a scheduler, and workers. Each is one asyncio loop, ended by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pocketforge.errors import Interrupted, StageFailed, first_line
from pocketforge.run.cluster.addresses import Address
from pocketforge.run.cluster.node import Node
from pocketforge.run.cluster.security import check_installed, security, settle

Tell = Callable[[str], None]
_AGAIN_S = 2.0
_CONNECT_S = 10.0


def scheduler(address: Address, certificates: Path, tell: Tell) -> None:
    """Serve until a signal. tell: gets the address, once it is served. Raises Interrupted, StageFailed."""
    check_installed()
    settle()
    _run(_scheduler(address, certificates, tell))


def worker(address: Address, certificates: Path, node: Node, patience_s: float, tell: Tell) -> None:
    """Run steps until a signal; a scheduler that goes is waited for. Raises Interrupted, and StageFailed when there is
    none for as long as `patience_s`."""
    check_installed()
    settle()
    Node.current = node
    try:
        _run(_worker(address, certificates, node, patience_s, tell))
    finally:
        node.stop()
        Node.current = None


def _run(work: Coroutine[Any, Any, None]) -> None:
    # What Dask logs at an ordinary end and at a lost connection is said in our words.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    asyncio.run(work)


async def _scheduler(address: Address, certificates: Path, tell: Tell) -> None:
    from distributed import Scheduler

    ended = _signalled()
    try:
        served = await Scheduler(
            host=address.host, port=address.port, protocol=address.kind, dashboard=False,
            dashboard_address="127.0.0.1:0", security=security(address, certificates),
        )  # fmt: skip
    except OSError as error:
        raise StageFailed(f"cannot serve at {address}: {first_line(error)}", "choose another port") from error
    tell(str(served.address))
    await ended.wait()
    await served.close()
    raise Interrupted


async def _worker(address: Address, certificates: Path, node: Node, patience_s: float, tell: Tell) -> None:
    from distributed import Worker

    loop, ended = asyncio.get_running_loop(), _signalled()
    seen = loop.time()
    while not ended.is_set():
        try:
            connected = await Worker(
                str(address), nthreads=1, name=node.offer.name, security=security(address, certificates),
                dashboard=False, dashboard_address="127.0.0.1:0", memory_limit=0, death_timeout=_CONNECT_S,
                host=address.host if address.is_loopback else None,
            )  # fmt: skip
        except (OSError, TimeoutError, ValueError) as error:
            if loop.time() - seen > patience_s:
                why = f"no scheduler answers at {address}: {first_line(error)}"
                hint = "is `pocketforge scheduler` running there, and are both sides' certificates of one authority?"
                raise StageFailed(why, hint) from error
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _AGAIN_S)
            continue
        tell(f"worker {node.offer.name} serves {address}")
        until = {asyncio.ensure_future(ended.wait()), asyncio.ensure_future(connected.finished())}
        await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        for task in until:
            task.cancel()
        await asyncio.to_thread(node.end_step)
        await connected.close(executor_wait=False, timeout=5)
        seen = loop.time()
        if not ended.is_set():
            tell(f"the scheduler at {address} is gone; waiting for it")
    raise Interrupted


def _signalled() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended
