"""Plots of a row for each thing, with bars that begin anywhere, which pygal has not: names, bars, figures, an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from pocketforge.report.page.svg import WIDTH
from pocketforge.streams import printable

_ROW, _TOP, _BOTTOM = 18, 22, 20
# Where bars begin and end; left of them are names, right of them two columns of figures.
_LEFT, _RIGHT = 92, 262
_COLUMNS = (_RIGHT + 52, WIDTH - 4)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a plot.

    Attributes:
        name: Left of it, cut to what there is room for.
        begin: Where its bar begins, as a share of the width.
        end: Where it ends, likewise.
        tint: Number of its colour.
        said: What the bar says to who points at it, and to readers of screens.
        figures: Right of it.
    """

    name: str
    begin: float
    end: float
    tint: int
    said: str
    figures: tuple[str, str]


def drawn_rows(
    rows: Sequence[Row], title: str, heads: tuple[str, str], ticks: Sequence[tuple[float, str]], kind: str
) -> Markup:
    """title: what it shows, for those who do not see it. heads: of the figures. ticks: share of the width → its words.
    kind: a class, by which it is found."""
    height = _TOP + _ROW * len(rows) + _BOTTOM
    root = Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "class": f"plot-of {kind}"})
    root.set("aria-label", printable(title))
    for share, words in ticks:
        guide = {"class": "guide", "d": f"M{_at(share):.1f} {_TOP - 4} V{height - _BOTTOM}"}
        SubElement(root, "path", guide)
        _text(root, "centered quiet", _at(share), height - 6, words)
    for x, head in zip(_COLUMNS, heads, strict=True):
        _text(root, "ending quiet", x, 12, head)
    for at, row in enumerate(rows):
        _drawn(root, _TOP + _ROW * at, row)
    # Nothing foreign is in it but as text, which the writer of XML escapes.
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704


def _drawn(root: Element, y: int, row: Row) -> None:
    name = printable(row.name)
    _text(root, "ending", _LEFT - 5, y + 13, name if len(name) <= 15 else f"…{name[-14:]}")
    begin, end = _at(row.begin), _at(row.end)
    bar = SubElement(root, "rect", {"class": f"series tint-{row.tint}", "x": f"{begin:.1f}", "y": str(y + 3)})
    bar.set("width", f"{max(end - begin, 1.5):.1f}")
    bar.set("height", str(_ROW - 6))
    SubElement(bar, "title").text = printable(row.said)
    for x, words in zip(_COLUMNS, row.figures, strict=True):
        if words:
            _text(root, "ending", x, y + 13, words)


def _text(root: Element, kind: str, x: float, y: int, words: str) -> None:
    SubElement(root, "text", {"class": kind, "x": f"{x:.1f}", "y": str(y)}).text = words


def _at(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)
