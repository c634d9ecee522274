"""Plots by pygal as plain SVG: shapes and texts with classes, which the page's style sheet gives colours and fonts.

pygal's own style sheet, script, date and metadata are taken out, and what it would show in a tooltip by its script
becomes the title of the shape: browsers show that, and readers of screens read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from pocketforge.report.page.pygal_alone import Style
from pocketforge.streams import printable

# In units of the plot, which is drawn about as wide as a phone: a unit is a pixel there.
WIDTH = 380
# How many colours the style sheet has for targets, and for all else.
COLOURS, TINTS = 12, 14
_DIGITS = re.compile(r"\d+\.\d{2,}")
_COLOUR = re.compile(r"\bcolor-(\d+)\b")
# Sizes only, by which pygal lays out; fonts and colours are the page's.
_STYLE = Style(
    label_font_size=11,
    major_label_font_size=11,
    title_font_size=12,
    legend_font_size=11,
    value_font_size=11,
    value_label_font_size=11,
)


def options(height: int = 280, legends: int = 0, columns: int = 3, **more: Any) -> dict[str, Any]:
    """What every chart is made with. height: in the plot's units, without the legend. legends: how many series that
    explains; 0 for none. columns: of the legend."""
    lines = -(-legends // columns)
    return {
        "width": WIDTH,
        "height": height + (14 + 20 * lines if lines else 0),
        "margin": 8,
        "margin_bottom": 18 if lines else 8,
        "show_legend": legends > 0,
        "style": _STYLE,
        "js": (),
        "no_prefix": True,
        "max_scale": 6,
        "min_scale": 3,
        "truncate_label": -1,
        "truncate_legend": -1,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": columns,
        "legend_box_size": 10,
        "dots_size": 4,
        **more,
    }


def drawn(chart: Any, title: str, colours: Sequence[int] = ()) -> Markup:
    """A chart as markup. title: what it shows, for those who do not see it. colours: of each series, the number of the
    target whose colour it has; without them the series are of no target."""
    root: Element = chart.render_tree()
    _tidy(root)
    for each in root.iter():
        each.attrib.pop("id", None)
        shown = each.get("class", "")
        if "color-" in shown:
            each.set("class", _COLOUR.sub(lambda match: _colour(int(match[1]), colours), shown))
        for name, value in each.attrib.items():
            each.set(name, _DIGITS.sub(lambda match: f"{float(match[0]):.1f}", value))
    root.set("role", "img")
    root.set("class", f"plot-of {root.get('class', '')}")
    root.set("aria-label", printable(title))
    # Nothing foreign is in it but as text, which the writer of XML escapes.
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704


def _colour(series: int, targets: Sequence[int]) -> str:
    return target_colour(targets[series]) if targets else f"tint-{series % TINTS}"


def target_colour(number: int) -> str:
    """The class of a target's colour; 0 is none's."""
    return f"color-{(number - 1) % COLOURS}" if number else "color-none"


def _tidy(node: Element) -> None:
    """Take out what is not drawn; a shape's descriptions become its title."""
    said: list[str] = []
    for child in list(node):
        if not isinstance(child.tag, str) or child.tag in ("defs", "title"):
            node.remove(child)  # a comment has the date
        elif child.tag == "desc":
            # A point's label is what stands beside it, a bar's is what it is of.
            if child.get("class") in ("value", "x_label", "" if node.get("class") == "dots" else "label"):
                said.insert(0 if child.get("class") == "x_label" else len(said), child.text or "")
            node.remove(child)
        elif "tooltip-overlay" in child.get("class", "") or (child.tag == "g" and not len(child)):
            node.remove(child)
        else:
            _tidy(child)
    words = ": ".join(filter(None, dict.fromkeys(said)))
    if words:
        title = SubElement(node, "title")
        title.text = words
