"""pygal, without what its import leaves behind for all that the process imports and asks later.

It leaves a finder of its plug-ins, by an interface that Python 3.12 has no more (until then each import that fails is a
warning); and its importlib-metadata puts its own search for distributions in place of Python's, which answers otherwise
for one without metadata: versions are part of keys.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

_finders, _search = list(sys.meta_path), PathFinder.__dict__.get("find_distributions")

import pygal  # noqa: E402
from pygal.style import Style  # noqa: E402

sys.meta_path[:] = _finders
if _search is not None:
    PathFinder.find_distributions = _search  # type: ignore[method-assign]

__all__ = ["Style", "pygal"]
