"""Counts of many small models in one file: what `pocketforge device calibrate` need not count again.

Basic blocks are the same few thousand in every run of one library, so each is stored once; a run is (block, executions)
pairs. A run is found by the SHA-256 of the model file, the core type and whose kernels ran.
"""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pocketforge.devices.emulator.counts import Block
from pocketforge.errors import RecipeError
from pocketforge.files import refuse_special, write_whole

FORMAT = 1


class _File(TypedDict):
    """The file. blocks: address and words (8 hexadecimal digits each). runs: number of a block, executions, and so on.

    Not structured by a converter: it holds 400,000 numbers.
    """

    format: int
    versions: dict[str, str]
    blocks: list[tuple[int, str]]
    runs: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Run:
    """One inference's blocks, as far as an estimate needs them (`pocketforge.estimation` reads it as counts).

    Attributes:
        instructions: Executed.
        conclusive: Whether all windows counted the same.
        blocks: All that ran.
    """

    instructions: int
    conclusive: bool
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class CountStore:
    """Runs by key.

    Attributes:
        versions: Of the libraries and the emulator that were counted.
    """

    versions: dict[str, str] = field(default_factory=dict)
    _blocks: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    _runs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self._runs

    def add(self, key: str, blocks: list[tuple[int, int, tuple[int, ...]]]) -> None:
        """Remember a run: (pc, executions, words) of each block."""
        pairs = []
        for pc, executions, words in blocks:
            pairs.append((self._blocks.setdefault((pc, words), len(self._blocks)), executions))
        self._runs[key] = sorted(pairs)

    def run(self, key: str) -> Run:
        """Raises KeyError for an unknown key."""
        known = list(self._blocks)
        blocks = tuple(Block(known[i][0], executions, known[i][1], "") for i, executions in self._runs[key])
        return Run(sum(b.executions * len(b.words) for b in blocks), True, blocks)

    def save(self, path: Path) -> None:
        """Deterministic bytes: equal content, equal file. Raises StoreError."""
        data: _File = {
            "format": FORMAT,
            "versions": self.versions,
            "blocks": [(pc, "".join(f"{w:08x}" for w in words)) for pc, words in self._blocks],
            "runs": {key: [n for pair in pairs for n in pair] for key, pairs in sorted(self._runs.items())},
        }
        text = json.dumps(data, separators=(",", ":"), sort_keys=True).encode()
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", 9, packed, mtime=0) as file:
            file.write(text)
        write_whole(path, packed.getvalue(), "--out")

    @classmethod
    def load(cls, path: Path) -> CountStore:
        """Raises RecipeError when the file is absent, damaged or of another format."""
        try:
            refuse_special(path)
            return cls._from_json(json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, LookupError, TypeError) as fault:
            raise RecipeError(f"cannot read the stored counts {path}: {fault}") from None

    @classmethod
    def _from_json(cls, data: _File) -> CountStore:
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}, this version reads {FORMAT}")
        store = cls(versions=dict(data["versions"]))
        for pc, text in data["blocks"]:
            words = tuple(int(text[i : i + 8], 16) for i in range(0, len(text), 8))
            store._blocks[int(pc), words] = len(store._blocks)
        for key, flat in data["runs"].items():
            store._runs[key] = list(zip(flat[::2], flat[1::2], strict=True))
        return store


def run_key(sha256: str, core: str, kernels: str) -> str:
    """The name of a run in a store."""
    return f"{sha256}/{core}/{kernels}"
