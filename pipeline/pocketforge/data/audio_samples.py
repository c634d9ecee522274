"""Samples of a folder of sound files, decoded when asked for."""

from __future__ import annotations

from pathlib import Path

from pocketforge.data.base import Array, PlainSource
from pocketforge.data.file_samples import file_digest, file_sketch
from pocketforge.data.image_layout import ImageSet
from pocketforge.data.read_audio import Rates, read_audio


class AudioFolder(PlainSource):
    """Float32 (T,), or (T, channels), of -1 to 1. Classes in sorted order."""

    value_max = 0.0

    def __init__(self, folder: Path, listed: ImageSet) -> None:
        self.labels = listed.classes
        order = {name: index for index, name in enumerate(listed.classes)}
        self.ids = [path.relative_to(folder).as_posix() for _, _, path in listed.images]
        self.split = [split for split, _, _ in listed.images]
        self._targets = [order[name] for _, name, _ in listed.images]
        self._paths = [path for _, _, path in listed.images]
        self._rates = Rates()

    @property
    def sample_rate(self) -> int:  # type: ignore[override]
        """Of the first file."""
        if not self._rates.rate:
            self.sample(0)
        return self._rates.rate

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], int]:
        sound, rate = read_audio(self._paths[index])
        self._rates.check(self._paths[index], rate)
        return (sound,), self._targets[index]

    def digest(self, index: int) -> str:
        return file_digest(self._paths[index])

    def sketch(self, index: int) -> bytes:
        return file_sketch(self._paths[index])
