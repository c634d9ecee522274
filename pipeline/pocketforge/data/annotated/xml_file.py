"""Annotations in XML, read without a document type: no entity is expanded, and no other file is opened."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pocketforge.errors import ModelError
from pocketforge.files import read_whole

_MOST_BYTES = 2**24


class _NoDoctype(ElementTree.TreeBuilder):
    """Entities are declared in a DOCTYPE only; annotations have none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ModelError(f"it has a DOCTYPE ({name})")


def read_xml(path: Path) -> ElementTree.Element:
    """The root element. Raises ModelError, with the file and the line, for what is no XML or has a DOCTYPE."""
    data = read_whole(path)
    if len(data) > _MOST_BYTES:
        raise ModelError(f"data.source: {path} has {len(data):,} bytes: wanted annotations of at most {_MOST_BYTES:,}")
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314 - what entities need is refused
    try:
        parser.feed(data)
        root: ElementTree.Element = parser.close()
    except ModelError as error:
        raise ModelError(
            f"data.source: {path} is not read: {error.message}", "annotations in XML have no document type"
        ) from None
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ModelError(f"data.source: {path} is no XML: {error}") from error
    return root


def text_of(element: ElementTree.Element, path: str, where: str) -> str:
    """The text of an element below another. Raises ModelError where there is none."""
    found = element.findtext(path)
    if found is None or not found.strip():
        raise ModelError(f"data.source: {where} has no {path}")
    return found.strip()


def number_of(element: ElementTree.Element, path: str, where: str) -> float:
    """The number of an element below another. Raises ModelError where there is none."""
    text = text_of(element, path, where)
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"data.source: {where}: {path} is {text[:40]!r}, not a number") from None
