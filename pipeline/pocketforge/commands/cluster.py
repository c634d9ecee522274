"""Builds on several machines: what this machine is to others, a worker, a scheduler, and a build's way to them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pocketforge.errors import DeviceError, RecipeError
from pocketforge.facts.gather import host_identity
from pocketforge.facts.phones import Connected, also, connected
from pocketforge.facts.versions import installed_versions, version_of
from pocketforge.plan.steps import Facts
from pocketforge.run.cluster import addresses, engine, link, serve
from pocketforge.run.cluster.limits import Limits
from pocketforge.run.cluster.node import Node
from pocketforge.run.cluster.offers import EMULATOR, HOST_BENCH, PHONE, Offer
from pocketforge.run.engine import Start
from pocketforge.version import version

ENGINES = ("local", "dask")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a build's steps go.

    Attributes:
        scheduler: Its address.
        certificates: The folder of `cluster init`; not read for tcp://.
        insecure: The user said that tcp:// is meant, off loopback too.
        patience_s: How long a step waits while no worker could run it.
    """

    scheduler: str
    certificates: Path
    insecure: bool = False
    patience_s: float = 60.0


def asked(name: str, cluster: Cluster) -> Cluster | None:
    """The cluster of an engine; None for the local one. Raises RecipeError for another name, or one without address."""
    if name not in ENGINES:
        raise RecipeError(f"no engine {name!r}", f"wanted one of {', '.join(ENGINES)}")
    if name == "local":
        if cluster.scheduler:
            raise RecipeError("a scheduler is of the engine dask", "say --engine dask, or leave --scheduler out")
        return None
    if not cluster.scheduler:
        raise RecipeError("the engine dask needs a scheduler", "say --scheduler tls://HOST:PORT")
    addresses.parse(cluster.scheduler, insecure=cluster.insecure)
    return cluster


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[Callable[[Facts], Start | None]]:
    """Within, phones of the cluster's workers count as connected. Gives what makes the engine of a build from its
    facts; that is none where there is no cluster. Raises StageFailed when no scheduler answers."""
    if cluster is None:
        yield lambda facts: None
        return
    address = addresses.parse(cluster.scheduler, insecure=cluster.insecure)
    with link.connected(address, cluster.certificates) as there:
        phones: list[Connected] = []
        for worker in there.offers():
            phones += there.ask(worker, "told_phones")

        def engine_of(facts: Facts) -> Start:
            return engine.over(there, engine.Here(versions_of(facts), facts_of(facts), cluster.patience_s))

        with also(phones):
            yield engine_of


def versions_of(facts: Facts) -> dict[str, str]:
    """What a worker must have of what a plan depends on, and our own code."""
    needed = {name: found for name, found in facts.versions.items() if found != "none"}
    return needed | _own_versions()


def facts_of(facts: Facts) -> dict[str, str]:
    """What keys of steps say of the machine, by the names that workers offer it under.

    Raises RecipeError for GPUs to train on: no worker offers one.
    """
    if facts.gpus:
        raise RecipeError(
            f"training on {facts.gpus[0]} is this machine's: a cluster's workers train on processors",
            'say device = "cpu" under [training], or build without --engine dask',
        )
    machine = {
        "host": facts.host,
        "kernels": facts.kernels,
        EMULATOR: facts.emulator,
        "tflite_runtime": facts.tflite_runtime,
    }
    machine |= {f"x86 host {name}": words for name, words in facts.x86.items()}
    machine |= {f"consumer {name}": words for name, words in facts.consumers.items()}
    machine |= {f"device {name}": words for name, words in facts.devices.items()}
    return machine | {f"{PHONE}{each.serial}": each.identity for each in facts.phones.values() if not each.absent}


def _own_versions() -> dict[str, str]:
    """A checkout has one version for years: what its files hold is compared, too."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in (package, package.parents[1] / "android_bench", package.parent / "android_bench"):
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else ():
            digest.update(f"{path.relative_to(folder.parent)}\n".encode() + path.read_bytes())
    return {"Python": platform.python_version(), "pocketforge": f"{version()} (files {digest.hexdigest()[:12]})"}


def offer_here(name: str, withheld: Collection[str], memory_bytes: int) -> tuple[Offer, list[Connected]]:
    """What this machine offers, and its phones. withheld: resources that it has and does not offer, `phones` for all
    of these."""
    from pocketforge.devices.emulator import parts
    from pocketforge.devices.environments import MEDIAPIPE, TFLITE_RUNTIME
    from pocketforge.devices.kernels import kernels_here
    from pocketforge.devices.web import WEB

    phones = [] if "phones" in withheld else _phones()
    serials = {f"{PHONE}{phone.serial}": phone.identity for phone in phones}
    facts = {
        "host": host_identity(),
        "kernels": kernels_here(),
        EMULATOR: parts.identity(),
        "tflite_runtime": TFLITE_RUNTIME.words,
        "consumer mediapipe": MEDIAPIPE.words,
        "consumer litert_js": WEB.words,
        "consumer onnxruntime_web": WEB.words,
        "consumer mobile_checker": f"onnxruntime {version_of('onnxruntime')}",
        **_x86_hosts(),
        **serials,
    }
    resources = {HOST_BENCH, *serials} | ({EMULATOR} if facts[EMULATOR] != "none" else set())
    return (
        Offer(
            name or f"{platform.node()}-{os.getpid()}",
            _machine(),
            installed_versions() | _own_versions(),
            facts,
            frozenset(resources - set(withheld)),
            memory_bytes,
        ),
        phones,
    )


def _x86_hosts() -> dict[str, str]:
    """Those of the shipped profiles that this machine can play; a user's own profile is not known beforehand."""
    from pocketforge.devices.profile_files import find_profile, load_any, shipped_profiles
    from pocketforge.devices.x86.device import identity
    from pocketforge.devices.x86.hosts import X86Host

    profiles = {name: load_any(find_profile(name)) for name in shipped_profiles() if name.startswith("x86-")}
    return {f"x86 host {name}": identity(each) for name, each in profiles.items() if isinstance(each, X86Host)}


def _phones() -> list[Connected]:
    try:
        return [phone for phone in connected() if phone.facts is not None]
    except DeviceError:  # no adb: a machine without phones
        return []


def _machine() -> str:
    """One word for the machine that runs now: containers of one kernel are one machine, whose processors they share."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What `pocketforge worker` is told.

    Attributes:
        cluster: Whose steps it runs; its patience is how long it waits for a scheduler.
        root: Its store and its copies of users' files.
        name: As messages call it; empty for the host's name and its process.
        withheld: Resources that it does not offer.
        limits: Of a step.
        keep_bytes: Of results; None keeps all.
    """

    cluster: Cluster
    root: Path
    name: str = ""
    withheld: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    keep_bytes: int | None = None


def serve_worker(request: WorkerRequest, tell: Callable[[str], None]) -> None:
    """Run steps until a signal. Raises RecipeError, StageFailed, StoreError, Interrupted."""
    address = addresses.parse(request.cluster.scheduler, insecure=request.cluster.insecure)
    if address.kind == "tls":
        addresses.Credentials(request.cluster.certificates)
    offer, phones = offer_here(request.name, request.withheld, request.limits.memory_bytes)
    node = Node(offer, request.root, request.limits, request.keep_bytes, phones)
    tell(told(offer))
    serve.worker(address, request.cluster.certificates, node, request.cluster.patience_s, tell)


def serve_scheduler(cluster: Cluster, tell: Callable[[str], None]) -> None:
    """Serve until a signal. Raises RecipeError, StageFailed, Interrupted."""
    address = addresses.parse(cluster.scheduler, insecure=cluster.insecure, port_zero=True)
    if address.kind == "tls":
        addresses.Credentials(cluster.certificates)
    serve.scheduler(address, cluster.certificates, tell)


def told(offer: Offer) -> str:
    """What a worker offers, in a line."""
    has = ", ".join(sorted(offer.resources)) or "no device"
    memory = f", {offer.memory_bytes / 1e9:.1f} GB a step" if offer.memory_bytes else ""
    return f"{offer.name} offers: {has}{memory} ({offer.facts['host']}, {offer.facts['kernels']})"


def status(cluster: Cluster) -> dict[str, Offer]:
    """Address → what its worker offers. Raises RecipeError, StageFailed."""
    address = addresses.parse(cluster.scheduler, insecure=cluster.insecure)
    with link.connected(address, cluster.certificates) as there:
        return dict(there.offers())
