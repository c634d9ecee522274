"""Labelled samples for calibration, training and evaluation. One source a file, named in registries.SOURCES.

Importing this package costs the standard library only; numpy comes with a source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge.data.base import Source
from pocketforge.data.files import fingerprint_files, look_at, source_of
from pocketforge.data.plugged import PluggedSource
from pocketforge.errors import PocketforgeError
from pocketforge.files import Resolve
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import parse_source
from pocketforge.registries import SOURCES

__all__ = ["SOURCES", "Resolve", "Source", "fingerprint_files", "look_at", "open_source", "parse_source"]


def open_source(
    source: str,
    resolve: Resolve,
    split_folders: Mapping[str, Sequence[str]] | None = None,
    *,
    labels: tuple[str, ...] = (),
    columns: Columns | None = None,
    mask_values: tuple[int, ...] = (),
) -> Source:
    """Open what a recipe's data.source names: `digits`, `coco:DIR`, `csv:FILE` … (docs/data.md), or what is installed.

    `resolve` makes a path written in the recipe absolute; the rest is what the recipe says besides (`base.Place`).
    Raises ModelError when the data is missing or malformed, ToolMissing when the source's library is not installed,
    PluginFailed for a source of a package that is not as `Source` says.
    """
    module, place = source_of(source, resolve, split_folders, labels=labels, columns=columns, mask_values=mask_values)
    kind, _ = parse_source(source)
    with SOURCES.calling(kind, f"{SOURCES[kind].module}:open_place", ours=(PocketforgeError, OSError)):
        opened = module.open_place(place)
    plugin = SOURCES.brought_by(kind)
    return opened if plugin is None else PluggedSource(kind, plugin, opened)
