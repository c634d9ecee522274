"""What Dask calls on a worker: a few functions, and no more. The same module lies on both sides."""

from __future__ import annotations

import asyncio
from typing import Any

from pocketforge.errors import PocketforgeError, StageFailed, first_line
from pocketforge.run.cluster.node import Node, Signals
from pocketforge.run.cluster.wire import Answer

# Methods of Node that a build may call.
ASKED = ("told_offer", "told_phones", "lacks", "begin", "take", "finish", "give")


async def ask(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call a node's method, beside the loop that keeps the worker alive."""
    if method not in ASKED:
        raise StageFailed(f"a worker does not do {method!r}")
    return await asyncio.to_thread(_call, method, arguments, named)


def _call(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return getattr(_node(), method)(*arguments, **named)
    except PocketforgeError:
        raise
    except Exception as error:  # else it would look like a worker that is lost
        raise StageFailed(f"a worker could not {method}: {first_line(error)}") from error


def run_step(content: bytes, topic: str, name: str) -> Answer:
    """Dask's task: the step runs in a process of its own; given up when Dask does not want the task any more."""
    from distributed import get_worker
    from distributed.core import Status

    dask_worker = get_worker()
    key = dask_worker.get_current_task()

    def given_up() -> bool:
        state = dask_worker.state.tasks.get(key)
        return dask_worker.status != Status.running or state is None or state.state != "executing"

    dask_worker.log_event(topic, {"of": name, "begun": True})
    try:
        return _node().run(content, Signals(lambda word: dask_worker.log_event(topic, {**word, "of": name}), given_up))
    except PocketforgeError as error:
        return Answer(error)
    except Exception as error:  # else it would look like a worker that is lost
        return Answer(StageFailed(f"a worker could not run it: {first_line(error)}"))


def there(dask_scheduler: Any = None) -> list[str]:
    """Addresses of the workers that a scheduler has."""
    return [address for address, state in dask_scheduler.workers.items() if state.status.name == "running"]


def _node() -> Node:
    if Node.current is None:
        raise StageFailed("this is no worker of Pocketforge's", "start it with `pocketforge worker`")
    return Node.current
