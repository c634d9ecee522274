"""What native runners say, as their JSON has it (android_bench/runner/README.md)."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class NativeTensor(TypedDict):
    """An input or output of a file. file: where the runner wrote the values, of an output that was run."""

    name: str
    dtype: str
    shape: list[int]
    scale: NotRequired[float]
    zero_point: NotRequired[int]
    in_signature: NotRequired[bool]
    file: NotRequired[str]


class Mapped(TypedDict):
    """A library in the runner's memory; base: its address, in hexadecimal digits."""

    path: str
    base: str
    size: int


class NativeAnswer(TypedDict):
    """All that a native runner says. metadata: what the file holds of its inputs and outputs, as JSON."""

    inputs: list[NativeTensor]
    outputs: list[NativeTensor]
    load_ms: float
    peak_rss_bytes: int
    loaded_rss_bytes: int
    samples_ms: list[float]
    runtime: str
    runtime_version: str
    model_sha256: str
    metadata: str
    libraries: list[Mapped]


class Log(TypedDict):
    """What the counter read out of qemu's log. blocks: address, how often it was called, how often it ran in each
    window, and its words, 8 hexadecimal digits each. doubts: why it may not be whole."""

    blocks: list[tuple[int, int, list[int], str]]
    windows: int
    threads: int
    doubts: list[str]
