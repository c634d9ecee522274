"""A build's connection to a cluster, over Dask. Nothing is decided here: what is lost is said."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pocketforge.errors import PocketforgeError, StageFailed, first_line
from pocketforge.run.cluster import offers
from pocketforge.run.cluster.addresses import Address
from pocketforge.run.cluster.offers import Offer
from pocketforge.run.cluster.placement import NodeLost
from pocketforge.run.cluster.wire import Answer

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 15
_LOOK_EACH_S = 0.5
Word = Mapping[str, Any]


class Link(Protocol):
    """What the engine needs of a cluster; tests have one without Dask."""

    def offers(self) -> Mapping[str, Offer]:
        """Of the workers that are there: address → offer. Raises StageFailed when the scheduler is gone."""

    def ask(self, address: str, method: str, *arguments: object, **named: object) -> Any:
        """Call a method of a worker's node. Raises NodeLost, and what the node raises."""

    def run(self, address: str, content: bytes, heard: Callable[[Word], None], is_there: Callable[[], bool]) -> Answer:
        """Run a step there. heard: told what the step says meanwhile. is_there: asked meanwhile. Raises NodeLost."""

    def stop(self) -> None:
        """End every step of this build, and wait for no more."""


@contextlib.contextmanager
def connected(address: Address, certificates: Path) -> Iterator[Link]:
    """Raises StageFailed when there is no scheduler, RecipeError for certificates that cannot be used."""
    from pocketforge.run.cluster.security import check_installed, security, settle

    check_installed()
    settle()
    from distributed import Client

    protection = security(address, certificates)
    try:
        client = Client(str(address), security=protection, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise StageFailed(
            f"no scheduler answers at {address}: {first_line(error)}",
            "is `pocketforge scheduler` running there, and are both sides' certificates of one authority?",
        ) from error
    try:
        yield _DaskLink(client)
    finally:
        with contextlib.suppress(Exception):  # what a dead scheduler makes of a goodbye
            client.close(timeout=5)


class _DaskLink:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._offers: dict[str, Offer] = {}
        self._futures: set[Any] = set()
        self._heard: dict[str, Callable[[Word], None]] = {}
        self._lock = threading.Lock()
        self._topic = f"pocketforge-{uuid.uuid4().hex}"
        self._stopped = threading.Event()
        client.subscribe_topic(self._topic, self._hears)

    def offers(self) -> Mapping[str, Offer]:
        from pocketforge.run.cluster import carrier

        try:
            addresses = self._client.run_on_scheduler(carrier.there)
        except Exception as error:  # whatever Dask says of a connection that broke
            raise StageFailed(
                f"the scheduler is gone: {first_line(error)}", "start it and the workers again"
            ) from error
        new = {}
        for address in addresses:
            if address in self._offers:
                continue
            try:
                new[address] = offers.from_text(self.ask(address, "told_offer"))
            except (NodeLost, PocketforgeError, ValueError, KeyError, TypeError):
                continue  # it is just coming or going, or is none of ours
        self._offers = {address: self._offers.get(address) or new[address] for address in addresses
                        if address in self._offers or address in new}  # fmt: skip
        return self._offers

    def ask(self, address: str, method: str, *arguments: object, **named: object) -> Any:
        from pocketforge.run.cluster import carrier

        try:
            answers = self._client.run(carrier.ask, method, arguments, named, workers=[address])
            return answers[address]
        except PocketforgeError:
            raise
        except Exception as error:  # Dask has many words for a worker that is not there
            raise NodeLost(address, at_work=False, why=first_line(error)) from error

    def run(self, address: str, content: bytes, heard: Callable[[Word], None], is_there: Callable[[], bool]) -> Answer:
        from pocketforge.run.cluster import carrier

        begun = threading.Event()
        name = uuid.uuid4().hex
        topic = self._topic

        def hears(word: Word) -> None:
            begun.set()
            heard(word)

        with self._lock:
            if self._stopped.is_set():
                raise StageFailed("interrupted")
            self._heard[name] = hears
            future = self._client.submit(
                carrier.run_step, content, topic, name, key=f"pocketforge-{name}", workers=[address],
                allow_other_workers=False, pure=False, retries=0,
            )  # fmt: skip
            self._futures.add(future)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            # Not result(timeout=…): one that is called off by its time-out may give a cancelled future.
            while not done.wait(_LOOK_EACH_S):
                if not is_there():
                    raise NodeLost(address, at_work=begun.is_set(), why="it is not there any more")
            try:
                answer: Answer = future.result()
            except Exception as error:  # KilledWorker, a cancelled future, a scheduler that is gone
                raise NodeLost(address, at_work=begun.is_set(), why=type(error).__name__) from error
            return answer
        finally:
            with self._lock:
                self._futures.discard(future)
                self._heard.pop(name, None)
            with contextlib.suppress(Exception):
                # To release it waits for nobody: the scheduler forgets it, and the worker its answer.
                if done.is_set():
                    future.release()
                else:
                    future.cancel(force=True)

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            futures = list(self._futures)
        with contextlib.suppress(Exception):
            self._client.cancel(futures, force=True)

    def _hears(self, event: tuple[float, Word]) -> None:
        word = dict(event[1])
        heard = self._heard.get(word.pop("of", ""))
        if heard is not None:
            heard(word)
