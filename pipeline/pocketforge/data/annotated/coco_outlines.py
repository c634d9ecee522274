"""Outlines of COCO's objects: read from their files when a mask is first asked for, and kept in a file of their own."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from pocketforge.data.annotated.coco_entries import CocoFile


class Outlines:
    """Detectors never ask for them, and they are nine tenths of a file.

    Attributes:
        files: Those that the annotations are in.
        places: Of each annotation of all files in order, the place of its image; -1 of one that is left out.
        numbers: Of each its class number.
    """

    def __init__(self, files: Sequence[CocoFile]) -> None:
        self.files = files
        self.places, self.numbers = array("q"), array("q")
        self._order: Sequence[int] = ()
        self._firsts: Sequence[int] = ()
        self._ends = array("Q")
        self._descriptor = -1

    def of(self, place: int) -> list[tuple[int, object]]:
        """Class number and outline of each object of an image, in the file's order."""
        if self._descriptor < 0:
            self._write()
        found = self._order[self._firsts[place] : self._firsts[place + 1]]
        return [(self.numbers[index], json.loads(self._text(index))) for index in found]

    def _text(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        # Other processes that were forked from this one read the same file: no position is shared.
        return os.pread(self._descriptor, self._ends[index] - start, start)

    def _write(self) -> None:
        places = np.asarray(self.places, np.int64)
        order = np.argsort(places, kind="stable")
        self._order = array("Q", order[np.searchsorted(places[order], 0) :].astype(np.uint64).tobytes())
        kept = places[order][len(order) - len(self._order) :]
        self._firsts = array("Q", np.searchsorted(kept, np.arange(places.max() + 2)).astype(np.uint64).tobytes())
        descriptor, name = tempfile.mkstemp(prefix="pocketforge-outlines-")
        weakref.finalize(self, os.close, descriptor)
        os.unlink(name)  # it goes with its descriptor
        end = 0
        with open(descriptor, "wb", closefd=False) as file:
            for place, outline in zip(self.places, self._read(), strict=True):
                if place >= 0:
                    end += file.write(json.dumps(outline, separators=(",", ":")).encode())
                self._ends.append(end)
        self._descriptor = descriptor

    def _read(self) -> Iterator[object]:
        for file in self.files:
            for entry in file.entries("annotations"):
                yield entry.get("segmentation")
