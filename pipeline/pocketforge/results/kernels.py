"""On which kernels a target's file was judged: this machine's, and those of each device that it ran on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from pocketforge.devices.kernels import UNKNOWN
from pocketforge.records import JudgedOn
from pocketforge.results.devices import DeviceResult

HERE = "this machine"


def judged_on(here: str, on_devices: Mapping[str, DeviceResult]) -> tuple[JudgedOn, ...]:
    """Everything whose outputs were compared.

    here: the kernels of this machine, on which `verify` judged the file; empty where they say nothing of it.
    """
    elsewhere = (JudgedOn(device, **result.kernels) for device, result in on_devices.items() if result.kernels)
    return (*((JudgedOn("host", here, HERE),) if here else ()), *elsewhere)


def in_words(judged: Iterable[JudgedOn]) -> str:
    """`AVX-512 VNNI (this machine), AVX2 and SSE4 (emulated)`."""
    return ", ".join(f"{_and(dict.fromkeys(kernels))} ({how})" for how, kernels in _by_how(judged))


def _by_how(judged: Iterable[JudgedOn]) -> Iterator[tuple[str, list[str]]]:
    rows = list(judged)
    order = list(dict.fromkeys(row.how for row in rows))
    rows.sort(key=lambda row: order.index(row.how))
    for how, same in groupby(rows, key=lambda row: row.how):
        yield how, [f"{row.kernels} kernels" if row.kernels == UNKNOWN else row.kernels for row in same]


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
