"""`module.py:function`: the user's own code. `function()` takes no arguments and returns either

- `(x, y)` or `(x, y, labels)`: x an array of N samples or a tuple of such arrays, y an array or list of N targets;
- a sequence or iterable of `(x, y)` samples: x an array (or anything numpy takes) or, for several inputs, a tuple;
  y a number, an array, or a dict of arrays by name where outputs have roles (docs/outputs.md).

Only a sequence with `__len__` and `__getitem__` is read lazily; any other iterable is kept in memory.
"""

from __future__ import annotations

from pocketforge.data.base import Place, Source, SourceFiles
from pocketforge.data.files import existing_file
from pocketforge.model.files import module_files


def files(place: Place) -> SourceFiles:
    """The code's own files; those that it opens are not known. Raises ModelError for a missing file."""
    file, _ = _file_and_name(place)
    return SourceFiles(tuple(module_files(existing_file(place.resolve(file), "the data function's"))))


def open_place(place: Place) -> Source:
    """Run the user's function. Raises ModelError with its file and line when it fails or returns something else."""
    from pocketforge.data.function_samples import call

    file, name = _file_and_name(place)
    return call(existing_file(place.resolve(file), "the data function's"), name)


def _file_and_name(place: Place) -> tuple[str, str]:
    """`folder/module.py:function` → its file and the function's name."""
    file, _, name = place.written.rpartition(":")
    return file, name
