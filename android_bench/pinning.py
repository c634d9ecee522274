"""Which CPUs a run is pinned to: by the name of a cluster, or by their numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from android_bench.errors import BadCores
from android_bench.phone import PhoneFacts
from android_bench.texts import cpu_list

ALL = "all"
_NAMES = ("big", "mid", "little")
# Makers and device profiles call a single fastest core so.
_PRIME = "prime"


def choose(facts: PhoneFacts, cores: str, threads: int = 1) -> tuple[int, ...]:
    """The CPUs that `cores` means on this phone, lowest first: "big" (or "prime"), "mid", "little", "all", or numbers
    as "0-3,7". threads: so many have to have one each.

    A name means those of its CPUs that are online; CPUs that are named by number must all be. "all" is () where the
    phone tells nothing of its CPUs. Raises BadCores, listing what the phone has.
    """
    found = _chosen(facts, cores)
    if found and threads > len(found):
        raise BadCores(
            f"{threads} threads on {len(found)} CPUs ({as_list(found)}, which {cores!r} means on this phone)",
            f"threads beyond them only wait for each other: set {len(found)} or fewer, or choose more cores",
        )
    return found


def _chosen(facts: PhoneFacts, cores: str) -> tuple[int, ...]:
    if cores == ALL:
        return tuple(sorted(set(_cpus(facts)) - set(facts.offline)))
    if cores == _PRIME:
        cores = "big"
    if cores in _NAMES:
        found = sorted(cpu for cluster in facts.clusters if cluster.name == cores for cpu in cluster.cpus)
        if not found:
            raise BadCores(f"this phone has no {cores} cores; it has {described(facts)}", _hint(facts))
        online = tuple(cpu for cpu in found if cpu not in facts.offline)
        if not online:
            raise BadCores(
                f"all {cores} cores of this phone ({as_list(found)}) are switched off now",
                "charge the phone and let it cool, turn off battery saver, or choose other cores",
            )
        return online
    if not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", cores) or not cpu_list(cores):
        raise BadCores(
            f"cores {cores!r} are neither big, mid, little or all nor numbers as in 0-3,7; the phone has "
            f"{described(facts)}",
            _hint(facts),
        )
    wanted = cpu_list(cores)
    if unknown := sorted(set(wanted) - set(_cpus(facts))):
        raise BadCores(f"this phone has no CPU {as_list(unknown)}; it has {described(facts)}", _hint(facts))
    if asleep := sorted(set(wanted) & set(facts.offline)):
        raise BadCores(
            f"CPU {as_list(asleep)} of this phone is switched off now",
            "charge the phone and let it cool, turn off battery saver, or choose other cores",
        )
    return wanted


def mask(cpus: Iterable[int]) -> str:
    """As taskset of toybox takes it: hexadecimal, without 0x."""
    return f"{sum(1 << cpu for cpu in set(cpus)):x}"


def as_list(cpus: Iterable[int]) -> str:
    """As the kernel writes it: 0-3,7."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def described(facts: PhoneFacts) -> str:
    """The phone's clusters in words: `big 8 (cortex-x3 2.9 GHz), little 0-3 (1.7 GHz)`."""
    words = []
    for cluster in facts.clusters:
        clock = f"{cluster.max_clock_ghz:.1f} GHz" if cluster.max_clock_ghz else ""
        about = " ".join(filter(None, [cluster.core, clock]))
        words.append(f"{cluster.name} {as_list(cluster.cpus)}" + (f" ({about})" if about else ""))
    return ", ".join(words) or "CPUs that it tells nothing of"


def _cpus(facts: PhoneFacts) -> list[int]:
    return [cpu for cluster in facts.clusters for cpu in cluster.cpus] + list(facts.offline)


def _hint(facts: PhoneFacts) -> str:
    names = [name for name in _NAMES if any(cluster.name == name for cluster in facts.clusters)]
    return f"choose cores: {', '.join([*names, ALL])}, or numbers"
