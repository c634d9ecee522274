"""Markdown in which nothing of foreign origin is markup, and the HTML page of it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from pocketforge.streams import printable

# What Markdown or the HTML in it would take for its own.
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>()#+!|~&=-"})
_NUMBERED = re.compile(r"^(\d+)\.(?= |$)")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "h1,h2{line-height:1.2}h2{border-bottom:1px solid #ddd;margin-top:2rem}table{border-collapse:collapse;"
    "display:block;overflow-x:auto}td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:left}th{"
    "background:#f3f3f3}"
)


def plain(text: str) -> str:
    """One line, in which nothing is markup: names come out of files."""
    # Four spaces at the beginning of a line would be a listing of code.
    return _NUMBERED.sub(r"\1\\.", printable(text).lstrip(" ").translate(_MARKS))


def prose(text: str) -> str:
    """As `plain`, of words that a person wrote over several lines: where they break means nothing."""
    return plain(" ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table of foreign texts."""
    yield f"| {' | '.join(map(plain, head))} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(plain(cell) for cell in row)} |"


def page(title: str, markdown: str) -> str:
    """The Markdown as an HTML page that loads and runs nothing. HTML in it is shown as text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(printable(title))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
