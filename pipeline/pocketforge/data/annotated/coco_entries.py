"""The entries of a COCO file, one at a time: a million annotations are not held in memory."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pocketforge.errors import ModelError

HINT = "COCO JSON has images (id, file_name, width, height), annotations (image_id, category_id, bbox) and categories"
LISTS = ("images", "annotations", "categories")


class CocoFile:
    """One file. Each list is read from the file anew when it is asked for.

    What ijson does not take (NaN, a byte-order mark, whole numbers of more than 64 bits), Python's reader is asked for,
    which reads the file whole: what is JSON, and what is wrong with it, is as Python says. So it is without ijson
    (pocketforge[detection]).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: Mapping[str, Any] | None = None

    def entries(self, key: str) -> Iterator[Mapping[str, Any]]:
        """Of a list, in order. Raises ModelError for what is no JSON, or has no such list of objects."""
        count = 0
        for entry in self._streamed(key):
            yield entry
            count += 1
        if self._whole is not None or not count:  # Python's reader tells a list that is empty from one that is none
            yield from self._read()[key][count:]

    def _streamed(self, key: str) -> Iterator[Mapping[str, Any]]:
        """As far as ijson takes the file; to its end, where nothing else is said."""
        if self._whole is not None or importlib.util.find_spec("ijson") is None:
            self._read()
            return
        import ijson

        try:
            with self.path.open("rb") as file:
                for entry in ijson.items(file, f"{key}.item", use_float=True):
                    if not isinstance(entry, dict):
                        self._read()
                        return
                    yield entry
        except (ijson.JSONError, ValueError, RecursionError):
            self._read()
        except OSError as error:
            raise ModelError(f"data.source: {self.path} cannot be read: {error.strerror or error}") from error

    def _read(self) -> Mapping[str, Any]:
        """The whole file."""
        if self._whole is None:
            self._whole = _read_json(self.path)
        return self._whole


def _read_json(path: Path) -> Mapping[str, Any]:
    """Raises ModelError for what is no JSON, or no COCO JSON."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"data.source: {path} is no JSON: {error}", HINT) from error
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error
    for key in LISTS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ModelError(f"data.source: {path} has no list of objects {key!r}", HINT)
    found: Mapping[str, Any] = content
    return found
