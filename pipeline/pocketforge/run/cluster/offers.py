"""What a worker offers and what a step asks for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from pocketforge.plan.steps import Step

HOST_BENCH, EMULATOR, PHONE = "host-bench", "emulator", "phone:"
RESOURCES = (HOST_BENCH, EMULATOR)
# Facts that are the machine's own (Facts has fields of these names); keys of steps hold the words of those they use.
_NOTHING = ("", "none", "unknown")


@dataclass(frozen=True, slots=True)
class Offer:
    """What one worker is.

    Attributes:
        name: As messages call it.
        machine: Which machine it is on: workers of one machine share its processors.
        versions: Of Pocketforge's own code, of Python and of each toolchain.
        facts: What keys of steps say of a machine: name → words, as in `Facts`; of phones, `phone:SERIAL` → identity.
        resources: Its devices: `host-bench` and `phone:SERIAL`, which a machine has once, and `emulator`.
        memory_bytes: That it gives to a step; 0 for no limit.
    """

    name: str
    machine: str
    versions: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a step needs of a worker.

    Attributes:
        facts: Words that its key has of the machine: only where they hold is its result that of the key.
        resources: Devices that it runs on.
        whole_machine: Nothing else of this build may run on the machine meanwhile.
        more_than_bytes: The memory that was too little.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    whole_machine: bool = False
    more_than_bytes: int = 0


def asked_of(step: Step, facts: Mapping[str, str]) -> Asked:
    """facts: of the machine that made the plan, and of the phones that it knows.

    What a step's spec says of the machine is in its key. So each such word must be true where the step runs.
    """
    words = set(_texts(step.spec.to_json()))
    held = {name: word for name, word in facts.items() if word not in _NOTHING and word in words}
    resources = {name for name in held if name == EMULATOR or name.startswith(PHONE)}
    if step.exclusive:
        resources.add(HOST_BENCH)
    return Asked(held, frozenset(resources), step.exclusive)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def stale(offer: Offer, versions: Mapping[str, str]) -> str:
    """Why a worker may run nothing of a build with these versions; empty where it may. What it has besides is no
    matter."""
    wrong = [
        f"{name} {offer.versions.get(name, 'none')} (here {version})"
        for name, version in sorted(versions.items())
        if offer.versions.get(name, "none") != version
    ]
    return f"{offer.name} has {', '.join(wrong)}" if wrong else ""


def lacking(offer: Offer, asked: Asked) -> str:
    """What a step asks that this worker has not; empty where it has all."""
    missing = sorted(asked.resources - offer.resources)
    missing += [
        f"{name} {word!r} (it is {offer.facts.get(name, 'none')!r})"
        for name, word in sorted(asked.facts.items())
        if offer.facts.get(name, "none") != word
    ]
    if asked.more_than_bytes and offer.memory_bytes and offer.memory_bytes <= asked.more_than_bytes:
        missing.append(f"more than {asked.more_than_bytes / 1e9:.1f} GB of memory")
    return f"{offer.name}: no {', no '.join(missing)}" if missing else ""


def to_text(offer: Offer) -> str:
    """For the connection: plain text, since what a stale worker's classes are nobody knows."""
    fields = {
        "name": offer.name,
        "machine": offer.machine,
        "versions": dict(offer.versions),
        "facts": dict(offer.facts),
        "resources": sorted(offer.resources),
        "memory_bytes": offer.memory_bytes,
    }
    return json.dumps(fields, sort_keys=True)


def from_text(text: str) -> Offer:
    """Raises ValueError, KeyError or TypeError for what no worker of ours says."""
    fields = json.loads(text)
    resources: Collection[str] = fields.pop("resources")
    return Offer(**fields, resources=frozenset(resources))
