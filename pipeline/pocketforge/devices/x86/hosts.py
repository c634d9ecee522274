"""Profiles of x86 hosts: which instructions one has and lacks, and what qemu calls such a processor.

The files are in device_profiles/hosts/, one a kind of host. All that a profile decides is which kernels run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.fact_tables import FactReader, Kinds, Table, mismatch
from pocketforge.devices.kernels import kernels_of
from pocketforge.devices.profiles import FactSource
from pocketforge.devices.x86.cpuid import NAMES
from pocketforge.errors import RecipeError
from pocketforge.folders import shipped_dir
from pocketforge.recipe import suggest

ARCHITECTURE = "x86_64"
_PLAIN = ("name", "title", "architecture")
_FACTS: Kinds = {"examples": (str, 0, 0), "has": (list, 0, 0), "lacks": (list, 0, 0)}
_OPTIONAL: Kinds = {"qemu_cpu": (str, 0, 0)}


@dataclass(frozen=True, slots=True)
class X86Host:
    """A kind of x86 host.

    Attributes:
        name: By which recipes name it.
        title: For tables.
        examples: Processors that are such hosts.
        has: Features in /proc/cpuinfo's names, by which runtimes choose their kernels.
        lacks: Features that it must not have.
        sources: Field → how sure it is.
        qemu_cpu: The `-cpu` that is such a processor; empty where no qemu emulates its instructions, so that only a
            machine that is one itself can play it.
    """

    name: str
    title: str
    examples: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    sources: Mapping[str, FactSource]
    qemu_cpu: str = ""

    @property
    def kernels(self) -> str:
        """In a report's word."""
        return kernels_of(self.has)

    def differs(self, features: Iterable[str]) -> str:
        """What a processor with these features has otherwise, in words; nothing when it is such a host."""
        present = set(features)
        missing, excess = [n for n in self.has if n not in present], [n for n in self.lacks if n in present]
        differences = [f"has no {', '.join(missing)}"] if missing else []
        differences += [f"has {', '.join(excess)}, by which other kernels are chosen"] if excess else []
        return " and ".join(differences)


def hosts_folder() -> Path:
    """The shipped profiles of x86 hosts."""
    return shipped_dir("device_profiles") / "hosts"


def shipped_hosts() -> tuple[str, ...]:
    """Names of the x86 hosts that come with Pocketforge."""
    return tuple(sorted(path.stem for path in hosts_folder().glob("*.toml")))


def is_host(raw: Table) -> bool:
    """Whether a profile's TOML is an x86 host's."""
    return "architecture" in raw


def parse_host(raw: Table, origin: str) -> X86Host:
    """A profile from its TOML. Raises RecipeError with every fault found."""
    reader = FactReader()
    reader.keys(raw, (*_PLAIN, *_FACTS, *_OPTIONAL), "")
    name, title, architecture = (reader.text(raw, key, "") for key in _PLAIN)
    if architecture and architecture != ARCHITECTURE:
        reader.faults.append(
            f"architecture: wanted {ARCHITECTURE!r}, found {architecture!r}; a profile of an ARM device has no such key"
        )
    kinds = {**_FACTS, **{k: v for k, v in _OPTIONAL.items() if k in raw}}
    values, sources = reader.facts(raw, kinds, "")
    for key in ("has", "lacks"):
        reader.faults += _feature_faults(key, values.get(key, []))
    both = [n for n in values.get("has", ()) if n in values.get("lacks", ())]
    reader.faults += [f"lacks.value: {n!r} is in has too" for n in both]
    if reader.faults:
        faults = sorted(set(reader.faults))
        raise RecipeError(f"{origin} has {len(faults)} fault{'s'[: len(faults) != 1]}:", faults=faults)
    values |= {key: tuple(values[key]) for key in ("has", "lacks")}
    return X86Host(name=name, title=title, sources=sources, **values)


def _feature_faults(key: str, features: list[object]) -> list[str]:
    faults = []
    for index, name in enumerate(features):
        path = f"{key}.value[{index}]"
        if type(name) is not str:
            faults.append(f"{path}: {mismatch('a string', name)}")
        elif name not in NAMES:
            words = suggest(name, NAMES)
            near = words if "did you mean" in words else f"; known: {', '.join(NAMES)}"
            faults.append(f"{path}: unknown feature {name!r}{near}")
        elif name in features[:index]:
            faults.append(f"{path}: {name!r} is there twice")
    if key == "has" and not features:
        faults.append("has.value: wanted at least one feature")
    return faults
