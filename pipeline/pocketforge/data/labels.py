"""Class names: from a text file, one a line, and whether they can be written into the files that an app reads."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

from pocketforge.errors import ModelError
from pocketforge.files import refuse_special

_HINT = "a text file in UTF-8, one class name a line"


def read_labels(path: Path, what: str = "data.labels") -> tuple[str, ...]:
    """Class names as they stand there, without white space at the ends; blank lines at the file's end do not count.

    Lines end with LF or CRLF and nothing else: a name may hold U+2028 or U+0085. Raises ModelError when the file is
    unreadable, empty, not UTF-8 or has an empty line.
    """
    try:
        refuse_special(path)
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{what}: {path} cannot be read: {error.strerror or error}", _HINT) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ModelError(f"{what}: {path} is UTF-16, not UTF-8", _HINT)
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    names = [_name(line, f"{what}: {path} line {number}") for number, line in enumerate(lines, 1)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ModelError(f"{what}: {path} is empty", _HINT)
    if "" in names:
        raise ModelError(f"{what}: {path} has an empty line, line {names.index('') + 1}", _HINT)
    return tuple(names)


def _name(line: bytes, where: str) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start : error.start + 1].hex()
        raise ModelError(f"{where} is not UTF-8: byte 0x{byte} at {error.start + 1}", _HINT) from error
    name = text.removesuffix("\r").strip(" \t")
    if "\0" in name or "\r" in name:
        raise ModelError(f"{where} holds {'a NUL' if chr(0) in name else 'a CR inside'}: no line of text", _HINT)
    return name


def repeated_names(labels: Sequence[str]) -> str:
    """What to tell of names that several classes have; "" when there are none.

    ImageNet has two cranes and two maillots, so that is no error.
    """
    places: dict[str, list[int]] = {}
    for number, name in enumerate(labels):
        places.setdefault(name, []).append(number)
    twice = [
        f"{name!r} (classes {', '.join(map(str, classes[:4]))})" for name, classes in places.items() if len(classes) > 1
    ]
    more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
    return f"labels that several classes have: {', '.join(twice[:3])}{more}" if twice else ""


def check_names(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """Raises ModelError for names that are no Unicode text: halves of surrogate pairs, as file names may have."""
    for number, name in enumerate(labels):
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise ModelError(f"data.source: {where}: label {number} is not valid text: {name!r}", _HINT) from None
    return tuple(labels)
